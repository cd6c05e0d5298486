//! Custom runtimes: the `bootstrap` that a function brings (contracts §1).
//!
//! Looks where the platform looks, the code first. Never builds anything: a missing bootstrap is
//! an error that says so, since an example may have to be compiled before.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::code::is_executable;

/// Where a layer or the runtime's image would bring one, after the code.
const ELSEWHERE: [&str; 2] = ["/opt", "/var/runtime"];

/// The program that runs the function.
///
/// # Errors
/// Names the field that leads to the code, and what is missing in it.
pub(crate) fn bootstrap(code: &Path) -> Result<PathBuf> {
    let directories = [code].into_iter().chain(ELSEWHERE.map(Path::new));
    for path in directories.map(|directory| directory.join("bootstrap")) {
        match fs::metadata(&path) {
            Ok(file) if is_executable(&file) => return Ok(path),
            Ok(file) if file.is_file() => {
                let path = path.display();
                bail!("spec.code: {path} is not executable: run `chmod +x {path}`")
            }
            _ => {}
        }
    }
    bail!(
        "spec.code: there is no `bootstrap` in {}: a custom runtime is an executable of this \
         name; if it is compiled, build it first",
        code.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_bootstrap_must_be_there_and_executable() {
        let code = tempfile::tempdir().expect("a directory");
        let missing = bootstrap(code.path()).expect_err("empty").to_string();
        assert!(missing.contains("there is no `bootstrap`"), "{missing}");

        let path = code.path().join("bootstrap");
        fs::write(&path, "#!/bin/sh").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let plain = bootstrap(code.path())
            .expect_err("not executable")
            .to_string();
        assert!(plain.contains("chmod +x"), "{plain}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        assert_eq!(bootstrap(code.path()).expect("executable"), path);
    }
}
