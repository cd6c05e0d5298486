//! The revisions that released versions have computed for these specs.
//!
//! Gateways and controllers of two versions run side by side during an upgrade and compare revisions. So a
//! new field with its default must not change any line of the table; a line changes only with a release
//! that says so in docs/upgrading.md, because every instance is then replaced.

#![cfg(feature = "cluster")]

use pilotlight_api::FunctionSpec;

/// A revision and the spellings of the specs that have it.
const GOLDEN: &[(&str, &[&str])] = &[
    (
        "5151af00df6f8534",
        &[
            r#"{"runtime": "python3.11", "code": {"inline": {"a.py": "1"}}}"#,
            // Another order of the fields.
            r#"{"code": {"inline": {"a.py": "1"}}, "runtime": "python3.11"}"#,
            // What the API server stores: it writes the defaults of the schema into the spec.
            r#"{"runtime": "python3.11", "code": {"inline": {"a.py": "1"}}, "memory": 128, "timeout": 3,
                "ephemeralStorage": 512, "concurrency": {"queue": 100}, "keepAlive": 600,
                "logging": {"format": "Text", "enabled": true}, "errors": "Full"}"#,
            // Empty lists and objects.
            r#"{"runtime": "python3.11", "code": {"inline": {"a.py": "1"}}, "environment": {},
                "environmentFrom": [], "layers": [], "logging": {}, "concurrency": {},
                "pod": {"tolerations": [], "nodeSelector": {}, "imagePullSecrets": []}}"#,
            // Limits on instances need no other instances.
            r#"{"runtime": "python3.11", "code": {"inline": {"a.py": "1"}}, "keepAlive": 1,
                "concurrency": {"reserved": 3, "provisioned": 1, "queue": 0}, "description": "one",
                "logging": {"retention": 7}}"#,
        ],
    ),
    (
        "ddf1bccb3f0276c8",
        &[
            r#"{"runtime": "nodejs22", "handler": "a.b", "memory": 512, "timeout": 30,
                "code": {"inline": {"a.js": "1", "b/c.js": "2"}}}"#,
            r#"{"code": {"inline": {"b/c.js": "2", "a.js": "1"}}, "timeout": 30, "memory": 512,
                "handler": "a.b", "runtime": "nodejs22"}"#,
        ],
    ),
    (
        "dd18408b43949e1f",
        &[
            r#"{"runtime": "python3.11", "code": {"archive": {"url": "https://a.example/b.zip",
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},
                "layers": [{"url": "https://a.example/l.zip",
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#,
        ],
    ),
    (
        "aa10fad2f0c06ff6",
        &[r#"{"runtime": "custom", "code": {"configMap": "mine"}, "ephemeralStorage": 1024}"#],
    ),
    (
        "ea249bfa5775cfb5",
        &[r#"{"runtime": "custom", "code": {"image": "registry.example/mine:1"}}"#],
    ),
    (
        "06d09217b07a1555",
        &[
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "environment": {"B": "2", "A": "1"}}"#,
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "environment": {"A": "1", "B": "2"}}"#,
        ],
    ),
    (
        "19111fc89e7711c7",
        &[r#"{"runtime": "custom", "code": {"image": "a:1"},
                "environmentFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]}"#],
    ),
    (
        "9e97c5d42c9a52da",
        &[
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "logging": {"format": "JSON"}}"#,
            // One default beside another value.
            r#"{"runtime": "custom", "code": {"image": "a:1"},
                "logging": {"enabled": true, "format": "JSON"}}"#,
            r#"{"runtime": "custom", "code": {"image": "a:1"},
                "logging": {"format": "JSON", "retention": 30}}"#,
        ],
    ),
    (
        "52320ba32f446172",
        &[
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "logging": {"format": "JSON", "level": "DEBUG"}}"#,
        ],
    ),
    (
        "a879000351ab8323",
        &[
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "logging": {"enabled": false},
                "errors": "Sanitized"}"#,
        ],
    ),
    (
        "60a2bf6352380687",
        &[
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "pod": {"serviceAccount": "s",
                "imagePullSecrets": [{"name": "p"}], "nodeSelector": {"role": "functions"},
                "tolerations": [{"key": "role", "value": "functions"},
                    {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]}}"#,
            // A default in an item of a list.
            r#"{"runtime": "custom", "code": {"image": "a:1"}, "pod": {"serviceAccount": "s",
                "imagePullSecrets": [{"name": "p"}], "nodeSelector": {"role": "functions"},
                "tolerations": [{"key": "role", "operator": "Equal", "value": "functions"},
                    {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]}}"#,
        ],
    ),
];

fn spec(text: &str) -> FunctionSpec {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_spelling_of_a_spec_has_the_revision_that_released_versions_computed() {
    let mut wrong = String::new();
    for (golden, spellings) in GOLDEN {
        for text in *spellings {
            let revision = spec(text).revision();
            if revision != *golden {
                wrong += &format!("\n{golden}, now {revision}: {text}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_two_specs_of_the_table_have_the_same_revision() {
    let mut revisions: Vec<&str> = GOLDEN.iter().map(|(revision, _)| *revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), GOLDEN.len());
}

/// A field that is added with a default and without `skip_serializing_if` is found here.
#[test]
fn a_spec_of_defaults_is_written_with_its_required_fields_alone() {
    let spec = spec(GOLDEN[0].1[2]);
    let written = serde_json::to_value(&spec).expect("a spec is plain data");
    let required =
        serde_json::json!({ "runtime": "python3.11", "code": { "inline": { "a.py": "1" } } });
    assert_eq!(written, required);
}
