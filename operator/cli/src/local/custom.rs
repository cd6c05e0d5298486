//! Custom runtimes: the `bootstrap` that a function brings (contracts §1).
//!
//! Looks where the platform looks, the code first. Never builds anything: a missing bootstrap is
//! an error that says so, since an example may have to be compiled before.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::tree::is_executable;

/// Where layers and the runtime's image would bring one, after the code.
const LAYERS: &str = "/opt";
const RUNTIME: &str = "/var/runtime";

/// The program that runs the function; `opt`: where its layers lie.
///
/// # Errors
/// Names the field that leads to the code, and what is missing in it.
pub(crate) fn bootstrap(code: &Path, opt: Option<&Path>) -> Result<PathBuf> {
    let layers = opt.unwrap_or(Path::new(LAYERS));
    let directories = [code, layers, Path::new(RUNTIME)];
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
        let missing = bootstrap(code.path(), None).expect_err("empty").to_string();
        assert!(missing.contains("there is no `bootstrap`"), "{missing}");

        let path = code.path().join("bootstrap");
        fs::write(&path, "#!/bin/sh").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let plain = bootstrap(code.path(), None)
            .expect_err("not executable")
            .to_string();
        assert!(plain.contains("chmod +x"), "{plain}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        assert_eq!(bootstrap(code.path(), None).expect("executable"), path);
        let layer = code.path();
        let code = tempfile::tempdir().expect("a directory");
        let found = bootstrap(code.path(), Some(layer));
        assert_eq!(found.expect("of the layer"), path);
    }
}
