//! Which files and folders become inputs because of a `package.json`.

use std::fs;

use super::*;

fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    let path = root.path().canonicalize().expect("a directory");
    (root, path)
}

fn inputs(code: &Path) -> Inputs {
    read(code).expect("read").expect("a list")
}

#[test]
fn packages_in_folders_and_their_own_packages_in_folders_are_inputs() {
    let (_root, root) = project(&[
        (
            "code/package.json",
            r#"{"dependencies": {"a": "file:../a", "x": "^1", "t": "./t.tgz"}}"#,
        ),
        ("code/t.tgz", ""),
        (
            "a/package.json",
            r#"{"dependencies": {"b": "../b"}, "scripts": {"prepare": "husky", "test": "x"}}"#,
        ),
        ("b/index.js", ""),
    ]);
    let inputs = inputs(&root.join("code"));
    assert_eq!(inputs.folders, [root.join("a"), root.join("b")].into());
    assert!(inputs.files.contains_key(&root.join("code/t.tgz")));
    let kept = String::from_utf8_lossy(&inputs.files[&root.join("a/package.json")]).into_owned();
    assert!(kept.contains("test") && !kept.contains("husky"), "{kept}");
    assert_eq!(inputs.values["manager"], "npm");
    assert_eq!(inputs.values["member"], ".");
}

#[test]
fn a_missing_folder_is_named_with_its_field() {
    let (_root, root) = project(&[
        (
            "code/package.json",
            r#"{"dependencies": {"a": "file:../absent"}}"#,
        ),
        (
            "dev/package.json",
            r#"{"devDependencies": {"a": "file:../absent"}}"#,
        ),
    ]);
    let error = read(&root.join("code")).expect_err("missing").to_string();
    assert_eq!(
        error,
        "package.json: dependencies.a: file:../absent is not there"
    );
    inputs(&root.join("dev"));
}

#[test]
fn a_member_of_a_workspace_is_installed_from_its_root() {
    let (_root, root) = project(&[
        (
            "package.json",
            r#"{"workspaces": ["packages/*"], "scripts": {"prepare": "husky"}}"#,
        ),
        ("package-lock.json", "{}"),
        (
            "packages/shop/package.json",
            r#"{"name": "shop", "dependencies": {"@x/shared": "*"}}"#,
        ),
        (
            "packages/shared/package.json",
            r#"{"name": "@x/shared", "dependencies": {"base": "workspace:^"}}"#,
        ),
        ("packages/base/package.json", r#"{"name": "base"}"#),
        ("packages/other/package.json", r#"{"name": "other"}"#),
    ]);
    let inputs = inputs(&root.join("packages/shop"));
    assert_eq!(inputs.root, root);
    let folders = ["shared", "base"].map(|name| root.join("packages").join(name));
    assert_eq!(inputs.folders, folders.into());
    assert_eq!(inputs.values["member"], "packages/shop");
    assert_eq!(inputs.values["manager"], "npm-ci");
    for name in [
        "package.json",
        "package-lock.json",
        "packages/other/package.json",
    ] {
        assert!(inputs.files.contains_key(&root.join(name)), "{name}");
    }
    let shared = &inputs.files[&root.join("packages/shared/package.json")];
    assert!(!String::from_utf8_lossy(shared).contains("workspace:"));
}
