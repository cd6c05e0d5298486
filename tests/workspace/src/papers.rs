//! What texts refer to: sections of the contract, rules, other files.
//!
//! A comment cites "contract §2" (docs/contract.md) or "rule 2" (docs/design.md) and nothing else. Links
//! and paths are read from Markdown. Pure; fed by `tree`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::tree::File;

/// Crates whose files docs may name as `CRATE/file.rs`, and where their sources are.
const CRATES: [(&str, &str); 16] = [
    ("access/", "operator/access/src/"),
    ("api/", "operator/api/src/"),
    ("archive/", "operator/archive/src/"),
    ("cli/", "operator/cli/src/"),
    ("controller/", "operator/controller/src/"),
    ("core/", "operator/core/src/"),
    ("core/tests/", "operator/core/tests/"),
    ("events/", "operator/events/src/"),
    ("gateway/", "operator/gateway/src/"),
    ("logs/", "operator/logs/src/"),
    ("net/", "operator/net/src/"),
    ("runtimes/", "operator/runtimes/src/"),
    ("supervisor/", "runtime-image/supervisor/src/"),
    ("otlp/", "operator/otlp/src/"),
    ("watch/", "operator/watch/src/"),
    ("wire/", "operator/wire/src/"),
];

/// What there is to cite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Citable {
    /// Of docs/contract.md: `## 4. Invoke API`.
    pub sections: BTreeSet<u32>,
    /// Of docs/design.md: the numbered list below `## The rules`.
    pub rules: BTreeSet<u32>,
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

fn numbers(pattern: &Regex, text: &str) -> BTreeSet<u32> {
    let found = pattern.captures_iter(text);
    found
        .map(|found| found[1].parse().expect("a small number"))
        .collect()
}

impl Citable {
    pub fn read(contract: &str, design: &str) -> Self {
        let rules = design.split_once("\n## The rules\n").map(|(_, rest)| rest);
        let rules = rules.and_then(|rest| rest.split("\n## ").next());
        Citable {
            sections: numbers(&pattern(r"(?m)^## (\d+)\. "), contract),
            rules: numbers(&pattern(r"(?m)^(\d+)\. \*\*"), rules.unwrap_or_default()),
        }
    }

    /// What is wrong with the citations in a text, a sentence each.
    pub fn faults(&self, text: &str) -> Vec<String> {
        static CITATION: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"(\b[A-Za-z0-9.]+ )?§ ?(\d*)((?:(?:,| and|,? or) §\d+)*)"));
        static RULE: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"\b([Rr]ules?) (\d+)((?:(?:,| and|,? or) \d+)*)"));
        static OTHER: LazyLock<Regex> = LazyLock::new(|| {
            pattern(
                r"(?i)\bcontracts?,? sections?\b|\bsections? \d+ of the contract|\bcontracts §|\b[Rr]ule (#|no\.?) ?\d",
            )
        });
        static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\d+)"));
        let text = joined(text);
        let mut faults = Vec::new();
        for found in CITATION.captures_iter(&text) {
            let whole = found[0].trim();
            if found.get(1).is_none_or(|word| word.as_str() != "contract ") || found[2].is_empty() {
                faults.push(format!("`{whole}` is not of the form `contract §N`"));
                continue;
            }
            let cited = numbers(&NUMBER, whole);
            for missing in cited.difference(&self.sections) {
                faults.push(format!(
                    "`{whole}`: docs/contract.md has no section {missing}"
                ));
            }
        }
        for found in RULE.captures_iter(&text) {
            let whole = &found[0];
            for missing in numbers(&NUMBER, whole).difference(&self.rules) {
                faults.push(format!("`{whole}`: docs/design.md has no rule {missing}"));
            }
        }
        let others = OTHER.find_iter(&text);
        faults.extend(
            others.map(|found| format!("`{}`: cite as `contract §N` or `rule N`", found.as_str())),
        );
        faults
    }
}

/// The text without the marks of comments, in one line: a citation may go on in the next line.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim_start();
        let marks = ["//!", "///", "//", "#", "* "];
        let mark = marks.iter().find_map(|mark| line.strip_prefix(mark));
        mark.unwrap_or(line).trim()
    });
    Vec::from_iter(lines).join(" ")
}

/// A Markdown text without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    Vec::from_iter(lines).join("\n")
}

/// The anchors of a Markdown text's headings, as GitHub makes them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let kept = heading.chars().filter(kept);
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// The links of a Markdown text that lead to files or headings of the repository: path and anchor, of which one
/// may be empty.
pub fn links(text: &str) -> Vec<(String, String)> {
    let link = pattern(r"\]\(([^()\s]+)\)");
    let prose = prose(text);
    let targets = link.captures_iter(&prose).map(|found| found[1].to_owned());
    let own = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    own.map(|target| {
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        (path.to_owned(), anchor.to_owned())
    })
    .collect()
}

/// The paths of sources that a Markdown text names between backticks; `{a,b}` stands for two.
pub fn named_paths(text: &str) -> Vec<String> {
    let code = pattern(r"`([^`\n]+)`");
    let path = pattern(
        r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.{},*-]+)+\.(rs|py|sh|mjs|js|java|rb|go|cs|toml|yaml|md|json|tpl)$",
    );
    let prose = prose(text);
    let words = code.captures_iter(&prose).flat_map(|found| {
        let words = found.get(1).map_or("", |inner| inner.as_str());
        words.split_whitespace()
    });
    let paths = words.filter(|word| path.is_match(word) && !word.starts_with("target/"));
    paths.flat_map(expanded).collect()
}

fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (inner, after) = rest.split_once('}').unwrap_or((rest, ""));
    let each = inner.split(',');
    each.flat_map(|one| expanded(&format!("{before}{one}{after}")))
        .collect()
}

/// The types that a Markdown text names in tables as `crate::Type`: the folder of the crate's sources, and the name.
pub fn named_types(text: &str) -> Vec<(&'static str, String)> {
    let named = pattern(r"\| `([a-z]+)::([A-Z][A-Za-z]+)` \|");
    let types = named.captures_iter(text).map(|found| {
        let name = format!("{}/", &found[1]);
        let place = CRATES.iter().find(|(known, _)| **known == name);
        let (_, place) = place.unwrap_or_else(|| panic!("{name} is no crate"));
        (*place, found[2].to_owned())
    });
    types.collect()
}

/// Whether the source defines a type of that name, by itself or in a list of a macro's.
pub fn defines(source: &str, name: &str) -> bool {
    let item = pattern(&format!(
        r"(?m)\b(?:struct|enum|type|trait) {name}\b|^    {name}, "
    ));
    item.is_match(source)
}

/// Whether the named path is a file's: from the root, from the text's own folder, or by a crate's name. A `*`
/// stands for a part of a name.
pub fn is_there(path: &str, folder: &str, files: &[File]) -> bool {
    let by_crate = CRATES.iter().filter_map(|(name, place)| {
        let rest = path.strip_prefix(name)?;
        Some(format!("{place}{rest}"))
    });
    let places = [path.to_owned(), format!("{folder}{path}")];
    places.into_iter().chain(by_crate).any(|place| {
        let place = pattern(&format!(
            "^{}$",
            regex::escape(&place).replace(r"\*", "[^/]*")
        ));
        files.iter().any(|file| place.is_match(&file.path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Citable {
        let contract = "# The contract\n\n## 1. Runtime API\n\n## 2. Environment\n";
        let design =
            "1. **No**\n## The rules\n\n1. **One.**\n2. **Two.**\n\n## More\n\n3. **No**\n";
        Citable::read(contract, design)
    }

    #[test]
    fn sections_and_rules_are_read_where_they_stand() {
        let (sections, rules) = (known().sections, known().rules);
        assert_eq!(sections, BTreeSet::from([1, 2]));
        assert_eq!(rules, BTreeSet::from([1, 2]));
    }

    #[test]
    fn a_citation_of_what_exists_is_no_fault() {
        for text in [
            "//! Owns it (contract §1).",
            "# See contract §1, §2 and rules 1, 2.",
            "/// A retry (rule\n/// 2).",
            "the section of a file, and a rule of grammar",
        ] {
            assert_eq!(known().faults(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_citation_of_what_does_not_exist_or_of_another_form_is_a_fault() {
        for text in [
            "(contract §3)",
            "(contract §1, §7)",
            "(contract\n// §9)",
            "(contracts §1)",
            "(§1)",
            "(contract section 1)",
            "(contracts,\n# section 2)",
            "section 2 of the contract",
            "(rule 3)",
            "(rules 1, 8)",
            "(rule\n//! 3)",
            "rule #1",
        ] {
            assert_ne!(known().faults(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn links_anchors_and_paths_are_found_outside_of_code_blocks() {
        let text = "# A `b`: c\n[x](a.md#b-c) [y](https://z) [z](#q)\n```\n[no](no.md)\n```\n\
                    `core/{pool,queue}.rs` and `POST /a/b.rs` and `a b/c.py`";
        let link = |path: &str, anchor: &str| (path.to_owned(), anchor.to_owned());
        assert_eq!(links(text), [link("a.md", "b-c"), link("", "q")]);
        assert_eq!(anchors(text), BTreeSet::from(["a-b-c".to_owned()]));
        assert_eq!(
            named_paths(text),
            ["core/pool.rs", "core/queue.rs", "b/c.py"]
        );
    }

    #[test]
    fn a_path_is_there_from_the_root_from_its_folder_or_by_its_crate() {
        let file = |path: &str| File {
            path: path.to_owned(),
            text: String::new(),
        };
        let files = [file("operator/core/src/pool.rs"), file("docs/a.md")];
        for (path, folder) in [
            ("operator/core/src/pool.rs", ""),
            ("core/pool.rs", "docs/"),
            ("operator/*/src/pool.rs", ""),
            ("a.md", "docs/"),
        ] {
            assert!(is_there(path, folder, &files), "{path}");
        }
        assert!(!is_there("core/queue.rs", "", &files));
        assert!(!is_there("core/src/pool.rs", "", &files));
    }
}
