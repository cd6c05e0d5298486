//! The built-in descriptions, and what is refused in a person's own.

use std::fs;

use pilotlight_core::function::{Handler, MemoryMiB, Runtime};
use pilotlight_runtimes::{Runtimes, parse};

fn runtime(name: &str) -> Runtime {
    name.parse().expect("a name")
}

#[test]
fn every_built_in_description_can_be_read_and_started_in_an_image() {
    let runtimes = Runtimes::built_in();
    for description in runtimes.iter() {
        let (command, _) = description.in_image(&description.default_handler);
        assert!(
            command[0].starts_with('/'),
            "{}: {command:?}",
            description.name
        );
    }
    assert!(runtimes.get(&runtime("python3.11")).is_some());
    assert!(runtimes.get(&runtime("python2")).is_none());
    assert!(
        runtimes.names().contains("custom, "),
        "{}",
        runtimes.names()
    );
}

#[test]
fn python_in_an_image_is_started_under_its_true_name_and_with_its_path_left_to_the_function() {
    let runtimes = Runtimes::built_in();
    let handler: Handler = "app.run".parse().expect("a handler");
    for (name, execution_environment) in [
        ("python3.8", "AWS_Lambda_python3.8"),
        ("python3.11", "AWS_Lambda_python3.11"),
        ("python3.14", "AWS_Lambda_python3.14"),
    ] {
        let python = runtimes.get(&runtime(name)).expect("known");
        let (command, environment) = python.in_image(&handler);
        assert_eq!(
            command,
            ["/var/lang/bin/python", "/var/runtime/bootstrap.py"]
        );
        assert_eq!(environment["AWS_EXECUTION_ENV"], execution_environment);
        assert!(!environment.contains_key("PYTHONPATH"));
    }
}

#[test]
fn some_wait_in_unclaimed_instances_with_the_environment_of_their_image() {
    let runtimes = Runtimes::built_in();
    let python = runtimes.get(&runtime("python3.11")).expect("known");
    let prestart = python.prestart(MemoryMiB::default()).expect("it has one");
    let (_, environment) = python.in_image(&python.default_handler);
    assert_eq!(prestart.environment, environment);
    assert_eq!(prestart.task_root.to_str(), Some("/var/task"));
    assert!(prestart.command[2].ends_with(" /var/runtime/bootstrap.py"));
    assert!(prestart.reads.iter().any(|name| name == "PYTHON*"));
    for (name, waits) in [
        ("nodejs22", true),
        ("nodejs24", true),
        ("ruby3.1", true),
        ("java17", true),
        ("dotnet", true),
        ("custom", false),
    ] {
        let other = runtimes.get(&runtime(name)).expect("known");
        assert_eq!(
            other.prestart(MemoryMiB::default()).is_some(),
            waits,
            "{name}"
        );
    }
}

const SMALL: &str = r#"
handler = "main"
[runtime.tiny1]
version = "1"
[environment]
TINY = ["{runtime}", "{opt}/tiny"]
[image]
command = ["/usr/bin/tiny", "{handler}"]
[local]
command = ["{tiny}", "{version}"]
[[local.tool]]
name = "tiny"
programs = ["tiny"]
missing = "install tiny"
"#;

#[test]
fn a_runtime_is_a_folder_or_a_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut runtimes = Runtimes::built_in();
    let nothing = runtimes.add_folder(folder.path()).expect_err("empty");
    assert!(
        nothing.to_string().contains("neither a folder"),
        "{nothing}"
    );

    fs::create_dir(folder.path().join("tiny")).expect("made");
    fs::write(folder.path().join("tiny/runtime.toml"), SMALL).expect("written");
    fs::write(folder.path().join("tiny/boot.sh"), "exec tiny").expect("written");
    let other = SMALL.replace("tiny1", "custom");
    fs::write(folder.path().join("custom.toml"), other).expect("written");
    runtimes.add_folder(folder.path()).expect("read");
    let tiny = runtimes.get(&runtime("tiny1")).expect("added");
    assert_eq!(tiny.files, [("boot.sh".to_owned(), b"exec tiny".to_vec())]);
    let (command, environment) = tiny.in_image(&tiny.default_handler);
    assert_eq!(command, ["/usr/bin/tiny", "main"]);
    assert_eq!(environment["TINY"], "/var/runtime:/opt/tiny");
    let custom = runtimes.get(&runtime("custom")).expect("replaced");
    assert_eq!(custom.default_handler.as_str(), "main");
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let cases = [
        (
            "{handler}",
            "{hanlder}",
            "image: {hanlder} is none of code, handler, opt",
        ),
        ("\"{tiny}\"", "\"{tyni}\"", "local: {tyni} is none of"),
        (
            "install tiny",
            "install {x}",
            "local.tool tiny: {x} is none of",
        ),
        (
            "[runtime.tiny1]",
            "[runtime.\"Tiny 1\"]",
            "must be a runtime's name",
        ),
        ("[local]", "[local]\nname = 1", "unknown field `name`"),
        ("[\"{tiny}\", \"{version}\"]", "[]", "local needs a command"),
        (
            "[local]",
            "[package]\nlibraries = \"../lib\"\n[local]",
            "package.libraries: `../lib` must be a folder",
        ),
    ];
    for (from, to, told) in cases {
        let error = parse(&SMALL.replace(from, to), &[]).expect_err(told);
        assert!(error.to_string().contains(told), "{error}");
    }
}
