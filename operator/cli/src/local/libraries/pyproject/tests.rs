//! Locks as uv, Poetry and Pipenv write them, and the lines for pip that are made of them.

use std::fs;

use super::*;

struct Project {
    _root: tempfile::TempDir,
    code: PathBuf,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        let code = root
            .path()
            .canonicalize()
            .expect("a directory")
            .join("code");
        Self { _root: root, code }
    }

    fn inputs(&self) -> Inputs {
        read(&self.code).expect("read").expect("a list")
    }

    /// The requirements, then the constraints.
    fn lines(&self) -> (Vec<String>, Vec<String>) {
        let inputs = self.inputs();
        let lines = |name: &str| {
            let text = String::from_utf8_lossy(&inputs.files[&self.code.join(name)]).into_owned();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut requirements = lines(LIST);
        assert_eq!(requirements.remove(0), "-c .locked.txt");
        (requirements, lines(CONSTRAINTS))
    }

    fn refused(&self) -> String {
        format!("{:#}", read(&self.code).expect_err("refused"))
    }
}

const UV: &str = r#"
version = 1
requires-python = ">=3.10"
[[package]]
name = "shop"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "shared" },
    { name = "six" },
    { name = "tool", extra = ["fast"], marker = "sys_platform == 'linux'" },
    { name = "fork" },
]
[package.dev-dependencies]
dev = [{ name = "ruff" }]
[[package]]
name = "shared"
version = "1.0.0"
source = { editable = "../shared" }
dependencies = [{ name = "fork" }]
[[package]]
name = "six"
version = "1.16.0"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "tool"
version = "2.0"
source = { registry = "https://example.com/simple" }
[package.optional-dependencies]
fast = [{ name = "quick" }]
[[package]]
name = "quick"
version = "3.0"
source = { git = "https://example.com/quick?subdirectory=py&rev=main#0123" }
[[package]]
name = "fork"
version = "1.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version < '3.11'"]
[[package]]
name = "fork"
version = "2.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version >= '3.11'"]
[[package]]
name = "ruff"
version = "0.1"
source = { registry = "https://pypi.org/simple" }
"#;

#[test]
fn uvs_lock_pins_what_the_project_needs() {
    let project = Project::new(&[
        ("code/pyproject.toml", "[project]\nname = 'shop'\n"),
        ("code/uv.lock", UV),
        ("shared/pyproject.toml", ""),
    ]);
    let (requirements, constraints) = project.lines();
    assert_eq!(
        requirements,
        [
            "./../shared",
            "six",
            "tool[fast] ; sys_platform == 'linux'",
            "--extra-index-url https://example.com/simple",
            "fork",
            "fork",
            "quick @ git+https://example.com/quick@0123#subdirectory=py",
        ]
    );
    assert_eq!(
        constraints,
        [
            "six==1.16.0",
            "tool==2.0",
            "fork==1.0 ; python_full_version < '3.11'",
            "fork==2.0 ; python_full_version >= '3.11'",
        ]
    );
    let shared = project.code.with_file_name("shared");
    assert!(project.inputs().folders.contains(&shared));
}

#[test]
fn the_lock_of_a_uv_workspace_is_above_its_member() {
    let lock = r#"
version = 1
[[package]]
name = "shop"
version = "0.1.0"
source = { editable = "code" }
dependencies = [{ name = "shared" }]
[[package]]
name = "shared"
version = "1.0.0"
source = { editable = "libs/shared" }
"#;
    let files = [
        ("uv.lock", lock),
        ("code/pyproject.toml", "[project]\nname = 'shop'\n"),
        ("libs/shared/pyproject.toml", ""),
    ];
    let (requirements, constraints) = Project::new(&files).lines();
    assert_eq!(requirements, ["./../libs/shared"]);
    assert_eq!(constraints, Vec::<String>::new());
    let error = Project::new(&files[..2]).refused();
    assert!(
        error.starts_with("uv.lock: ") && error.contains("libs/shared is not there"),
        "{error}"
    );
}

const POETRY: &str = r#"
[[package]]
name = "Six"
version = "1.16.0"
optional = false
[package.dependencies]
shared = "*"
[[package]]
name = "shared"
version = "1.0.0"
[package.source]
type = "directory"
url = "../shared"
[[package]]
name = "fetched"
version = "1.0"
[package.source]
type = "git"
url = "https://example.com/fetched"
reference = "main"
resolved_reference = "0123"
[[package]]
name = "ruff"
version = "0.1"
"#;

#[test]
fn poetrys_lock_pins_both_forms_of_a_project() {
    let old = "[tool.poetry.dependencies]\npython = '^3.10'\nsix = '^1.0'\nfetched = {git = 'x', extras = ['a']}\n\
               more = {version = '1', optional = true}\n[tool.poetry.group.dev.dependencies]\nruff = '*'\n";
    let new =
        "[project]\ndependencies = ['six (>=1.0,<2.0) ; python_version > \"3\"', 'fetched[a]']\n";
    for (project, marker) in [(old, ""), (new, " ; python_version > \"3\"")] {
        let project = Project::new(&[
            ("code/pyproject.toml", project),
            ("code/poetry.lock", POETRY),
            ("shared/pyproject.toml", ""),
        ]);
        let (mut requirements, constraints) = project.lines();
        requirements.sort();
        let six = format!("Six{marker}");
        let fetched = "fetched[a] @ git+https://example.com/fetched@0123";
        assert_eq!(requirements, ["./../shared", &six, fetched]);
        assert_eq!(constraints, ["ruff==0.1", "six==1.16.0"]);
    }
}

#[test]
fn pipenvs_lock_is_a_list() {
    let lock = r#"{"_meta": {"sources": [{"url": "https://pypi.org/simple"}, {"url": "https://example.com/simple"}]},
        "default": {"six": {"version": "==1.16.0", "markers": "python_version > '3'"},
                    "shared": {"path": "../shared", "editable": true}},
        "develop": {"ruff": {"version": "==0.1"}}}"#;
    let project = Project::new(&[("code/Pipfile.lock", lock), ("shared/setup.py", "")]);
    let (requirements, _) = project.lines();
    let expected = [
        "--extra-index-url https://example.com/simple",
        "./../shared",
        "six==1.16.0 ; python_version > '3'",
    ];
    assert_eq!(requirements, expected);
}

#[test]
fn a_project_without_a_lock_names_what_it_needs() {
    let text = "[project]\ndependencies = ['six>=1', 'shared']\n[tool.uv.sources]\nshared = {path = '../shared'}\n";
    let project = Project::new(&[("code/pyproject.toml", text), ("shared/pyproject.toml", "")]);
    assert_eq!(project.lines().0, ["six>=1", "./../shared"]);
    for text in [
        "[tool.ruff]\n",
        "[project]\nname = 'x'\n",
        "[tool.poetry.dependencies]\npython = '*'\n",
    ] {
        let project = Project::new(&[("code/pyproject.toml", text)]);
        assert!(read(&project.code).expect("read").is_none(), "{text}");
    }
    let text = "[tool.poetry.dependencies]\nsix = '*'\n";
    let error = Project::new(&[("code/pyproject.toml", text)]).refused();
    assert!(error.contains("poetry lock"), "{error}");
    let error = Project::new(&[("code/pyproject.toml", "[project")]).refused();
    assert!(error.contains("pyproject.toml"), "{error}");
}

#[test]
fn a_list_for_pip_comes_before_locks() {
    let project = Project::new(&[
        ("code/requirements.txt", "six\n"),
        ("code/pyproject.toml", "[project]\n"),
        ("code/uv.lock", UV),
    ]);
    assert_eq!(project.inputs().list, LIST);
}
