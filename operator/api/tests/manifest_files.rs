//! Files of several documents, broken YAML among them, and names across files.
//!
//! Feeds `read` and `duplicates` with text; mistakes within one document are in
//! `refused_manifests`.

use std::path::Path;

use pilotlight_api::{duplicates, read};

const HEAD: &str = "\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata:
  name: hello
spec:
  runtime: python3.11
";
const CODE: &str = "  code:\n    path: ./hello\n";

fn told(text: &str) -> Vec<String> {
    let errors = read(Path::new("f.yaml"), text).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn text_that_is_no_yaml_is_refused_where_the_parser_stopped() {
    let cases = [
        (
            "a: b: c",
            "1:5: is not valid YAML: mapping values are not allowed in this context",
        ),
        ("a: [1", "1:4: is not valid YAML: unclosed bracket '['"),
        ("a: \"x", "1:4: is not valid YAML: unclosed quote"),
        (
            "a: 1\nb: *c",
            "2:4: is not valid YAML: alias references unknown anchor",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), [format!("f.yaml:{expected}")], "{text}");
    }
    let tag = "f.yaml:9:16: is not valid YAML: unsupported tag `!mib`";
    assert_eq!(told(&format!("{HEAD}{CODE}  memory: !mib 128\n")), [tag]);
}

#[test]
fn what_aliases_stand_for_is_bounded() {
    let items = |n: usize| vec![format!("*a{n}"); 9].join(", ");
    let levels = (1..10).map(|n| format!("a{n}: &a{n} [{}]\n", items(n - 1)));
    let text = format!("a0: &a0 [x]\n{}", String::from_iter(levels));
    let errors = told(&text);
    assert!(
        errors.len() == 1 && errors[0].contains("10000"),
        "{errors:?}"
    );
}

#[test]
fn a_key_that_is_no_text_is_told_as_one() {
    let said = "has a key that is not text: its keys are apiVersion, kind, metadata, spec";
    for (text, place) in [(": b\n", "1:1"), ("{3: b}", "1:2"), ("? [a]\n: b\n", "1:3")] {
        assert_eq!(told(text), [format!("f.yaml:{place}: {said}")], "{text}");
    }
}

#[test]
fn every_document_is_reported_with_its_line_in_the_file() {
    let bad = format!("{HEAD}{CODE}  timeout: 0\n");
    let text = format!("# three\n---\n{bad}---\na: [\n---\n{HEAD}{CODE}...\n---\n\n{bad}");
    let expected = [
        "f.yaml:11:12: spec.timeout: must be between 1 and 900 seconds, got 0",
        "f.yaml:13:4: is not valid YAML: unclosed bracket '['",
        "f.yaml:34:12: spec.timeout: must be between 1 and 900 seconds, got 0",
    ];
    assert_eq!(told(&text), expected);
}

#[test]
fn a_name_taken_in_another_file_is_told_with_both_places() {
    let one = format!("{HEAD}{CODE}");
    let two = format!("---\n{}{CODE}---\n{one}", HEAD.replace("hello", "other"));
    let mut manifests = read(Path::new("one.yaml"), &one).unwrap();
    manifests.extend(read(Path::new("two.yaml"), &two).unwrap());
    let errors: Vec<_> = duplicates(&manifests)
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = "two.yaml:14:9: metadata.name: `hello` is already the function at \
                    one.yaml:4:9: rename one of them";
    assert_eq!(errors, [expected]);
    assert_eq!(duplicates(&manifests[..2]), []);
}
