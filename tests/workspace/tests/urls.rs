//! No program prints a URL as it is: it may hold a password or a signature (`core::shown_url`).

use pilotlight_workspace_tests::tree;
use regex::Regex;

/// Write URLs for pip, which needs them whole.
const FOR_TOOLS: &str = "operator/cli/src/local/libraries/";

/// The ways to put a variable named `url` into a text: in a format string, in a field of a log line, and as an
/// argument of a macro that formats.
const PRINTED: [&str; 3] = [
    r"\{(?:\w+_)?url(?::[^} ]*)?\}",
    r"[%?](?:\w+\.)*(?:\w+_)?url\b(?:\.as_str\(\))?\s*[,)]",
    r#"\b\w+!\(\s*"[^;]*?,\s*&?(?:\w+\.)*(?:\w+_)?url(?:\.as_str\(\))?\s*[,)]"#,
];

fn printed(text: &str) -> Vec<String> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or(text);
    let find = |pattern: &&str| {
        let pattern = Regex::new(pattern).expect("a pattern");
        let found = pattern.find_iter(shipped);
        Vec::from_iter(found.map(|found| found.as_str().to_owned()))
    };
    PRINTED.iter().flat_map(find).collect()
}

#[test]
fn no_url_is_printed_as_it_is() {
    let files = ["operator", "runtime-image"].map(tree::files);
    let files = files.iter().flatten();
    let sources = files.filter(|file| file.has_extension(&["rs"]) && !file.is_test());
    let mut faults = Vec::new();
    for file in sources.filter(|file| !file.path.starts_with(FOR_TOOLS)) {
        let printed = printed(&file.text);
        faults.extend(
            printed
                .into_iter()
                .map(|text| format!("{}: {text}", file.path)),
        );
    }
    assert!(faults.is_empty(), "print `ShownUrl` instead: {faults:#?}");
}

#[test]
fn the_ways_to_print_a_url_are_recognised() {
    for text in [
        r#"format!("url: {url} broke off")"#,
        r#"bail!("{archive_url:?} is gone")"#,
        "tracing::warn!(%url, \"gone\")",
        "tracing::warn!(url = %archive.url, \"gone\")",
        "anyhow!(\n    \"{} does not answer ({why})\",\n    self.url\n)",
        r#"format!("{}: {}", name, archive.url.as_str())"#,
    ] {
        assert!(!printed(text).is_empty(), "{text}");
    }
    for text in [
        r#"format!("{shown} broke off")"#,
        r#"anyhow!("{} does not answer", ShownUrl(&self.url))"#,
        r#"format!("{}{path}", self.url.trim_end_matches('/'))"#,
        "agent.get(url).call()",
        "#[cfg(test)]\nmod tests { format!(\"{url}\") }",
    ] {
        assert_eq!(printed(text), Vec::<String>::new(), "{text}");
    }
}
