//! `pilotlight-load check` on folders of records.

use std::path::Path;
use std::process::Command;

const SENT: &str = r#"{"record":"sent","at":10,"id":"a","function":"f"}"#;
const BEGAN: &str = r#"{"record":"began","at":20,"id":"a","instance":"i"}"#;
const ENDED: &str = r#"{"record":"ended","at":30,"id":"a","instance":"i"}"#;
const ANSWERED: &str = r#"{"record":"answered","at":40,"id":"a","outcome":"success","answer":"a"}"#;

fn check(folder: &Path) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_pilotlight-load");
    let done = Command::new(program).arg("check").arg(folder).output();
    let done = done.expect("it starts");
    let words = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(words).expect("text"))
}

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[test]
fn the_records_of_several_files_make_one_account() {
    // The handlers' file is read before the client's.
    let files = [
        ("handlers.jsonl", format!("{BEGAN}\n{ENDED}\n")),
        ("load.jsonl", format!("{SENT}\n{ANSWERED}\n")),
        ("notes.txt", "no records".to_owned()),
    ];
    let (code, words) = check(folder(&files).path());
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("1 sent, 1 executed"), "{words}");
    assert!(words.contains("0 rules broken"), "{words}");
}

#[test]
fn a_broken_rule_is_told_and_fails() {
    let files = [("load.jsonl", format!("{SENT}\n"))];
    let (code, words) = check(folder(&files).path());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("lost: a was never answered"), "{words}");
}

#[test]
fn what_became_of_events_is_told() {
    let lines = [
        r#"{"record":"events","at":1,"function":"f","attempts":1}"#,
        SENT,
        r#"{"record":"accepted","at":15,"id":"a","request":"r"}"#,
        r#"{"record":"began","at":2515,"id":"a","instance":"i"}"#,
        r#"{"record":"ended","at":3000,"id":"a","instance":"i"}"#,
    ];
    let (code, words) = check(folder(&[("load.jsonl", lines.join("\n") + "\n")]).path());
    assert_eq!(code, Some(0), "{words}");
    for part in ["events: 1 accepted, 1 executions, 0 of them", "p50 2.5 ms"] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn only_a_last_line_may_be_torn() {
    let torn = &ANSWERED[..30];
    let files = [(
        "load.jsonl",
        format!("{SENT}\n{ANSWERED}\n{BEGAN}\n{ENDED}\n{torn}"),
    )];
    let (code, words) = check(folder(&files).path());
    assert_eq!(code, Some(0), "{words}");
    let files = [("load.jsonl", format!("{SENT}\n{torn}\n{ANSWERED}\n"))];
    let (code, words) = check(folder(&files).path());
    assert!(code != Some(0) && words.contains("load.jsonl:2"), "{words}");
}

#[test]
fn the_records_of_an_aborted_run_are_refused() {
    let aborted = r#"{"record":"aborted","at":50,"reason":"the journal does not answer"}"#;
    let files = [("load.jsonl", format!("{SENT}\n{aborted}\n"))];
    let (code, words) = check(folder(&files).path());
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("the journal does not answer"), "{words}");
    assert!(!words.contains("lost"), "{words}");
}
