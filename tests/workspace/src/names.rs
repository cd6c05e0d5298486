//! The names of types: each has one meaning in the whole workspace.
//!
//! Reads definitions line by line, as rustfmt writes them. Pure; fed by `tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use crate::tree::File;

/// Words that say nothing of what a type is.
const RIDDLES: [&str; 8] = [
    "Asked", "Begun", "Done", "Heard", "Known", "Said", "Told", "What",
];

static DEFINITION: LazyLock<Regex> = LazyLock::new(|| {
    let pattern =
        r"(?m)^\s*(pub )?(?:pub\([a-z: ]+\) )?(?:struct|enum|trait|type|union) ([A-Z][A-Za-z0-9]*)";
    Regex::new(pattern).expect("a valid pattern")
});

/// Types with such a name, as `path: Name`.
pub fn riddles(files: &[File]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files {
        let names = DEFINITION
            .captures_iter(&file.text)
            .map(|named| named[2].to_owned());
        let names = names.filter(|name| RIDDLES.contains(&name.as_str()));
        found.extend(names.map(|name| format!("{}: {name}", file.path)));
    }
    found
}

/// Names of public types that several crates define, each with these crates. A crate is a folder with `src`;
/// tests are left out.
pub fn shared(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let sources = files.iter().filter(|file| file.path.contains("/src/"));
    for file in sources.filter(|file| !file.path.ends_with("/tests.rs")) {
        let own = file.path.split("/src/").next().unwrap_or_default();
        for named in DEFINITION
            .captures_iter(&file.text)
            .filter(|named| named.get(1).is_some())
        {
            crates
                .entry(named[2].to_owned())
                .or_default()
                .insert(own.to_owned());
        }
    }
    crates.retain(|_, crates| crates.len() > 1);
    crates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_riddle_is_found_whatever_its_kind_and_visibility() {
        for text in [
            "struct Told;",
            "pub(crate) enum Told {",
            "    pub type Told = u8;",
            "pub(in crate::a) struct Told;",
        ] {
            let found = riddles(&[file("a.rs", text)]);
            assert_eq!(Vec::from_iter(found), ["a.rs: Told"], "{text}");
        }
        assert!(riddles(&[file("a.rs", "struct Telling;\nlet told = Told;")]).is_empty());
    }

    #[test]
    fn a_public_name_of_two_crates_is_shared() {
        let found = shared(&[
            file(
                "operator/a/src/lib.rs",
                "pub struct Pool;\npub(crate) struct Inner;",
            ),
            file("operator/b/src/x.rs", "pub enum Pool {}\nstruct Inner;"),
            file("operator/b/src/tests.rs", "pub struct Other;"),
            file("operator/a/src/other.rs", "pub struct Other;"),
        ]);
        let crates = ["operator/a", "operator/b"].map(str::to_owned);
        assert_eq!(
            found,
            BTreeMap::from([("Pool".to_owned(), BTreeSet::from(crates))])
        );
    }
}
