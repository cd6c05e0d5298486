//! Custom runtimes: the `bootstrap` that a function brings (contract §1).
//!
//! Searches the same folders as the platform, the code first. It never builds anything. A function whose program
//! cannot be run is still served: its calls fail as on the platform, and the advice from here is printed.

use std::fs;
use std::path::{Path, PathBuf};

use super::tree::is_executable;

/// The other folders in which the platform looks for one, after the code.
const LAYERS: &str = "/opt";
const RUNTIME: &str = "/var/runtime";

/// The program that runs the function.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) path: PathBuf,
    /// If it cannot run: how to change that.
    pub(crate) advice: Option<String>,
}

/// Finds the program. `opt`: the folder of its layers.
pub(crate) fn bootstrap(code: &Path, opt: Option<&Path>) -> Bootstrap {
    let layers = opt.unwrap_or(Path::new(LAYERS));
    let directories = [code, layers, Path::new(RUNTIME)];
    let paths = directories.map(|directory| directory.join("bootstrap"));
    let found = paths.into_iter().find_map(|path| {
        let file = fs::metadata(&path).ok().filter(|file| !file.is_dir())?;
        Some((path, file))
    });
    match found {
        Some((path, file)) => {
            let shown = path.display();
            let advice = (!is_executable(&file))
                .then(|| format!("spec.code: {shown} is not executable: run `chmod +x {shown}`"));
            Bootstrap { advice, path }
        }
        None => Bootstrap {
            path: code.join("bootstrap"),
            advice: Some(format!(
                "spec.code: there is no `bootstrap` in {}: a custom runtime is an executable of this \
                 name; if it is compiled, build it first",
                code.display()
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_bootstrap_that_cannot_run_is_found_with_advice() {
        let code = tempfile::tempdir().expect("a directory");
        let found = |code: &Path, opt| {
            let found = bootstrap(code, opt);
            (found.path, found.advice.unwrap_or_default())
        };
        let (_, missing) = found(code.path(), None);
        assert!(missing.contains("there is no `bootstrap`"), "{missing}");

        let path = code.path().join("bootstrap");
        fs::write(&path, "#!/bin/sh").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let (plain, advice) = found(code.path(), None);
        assert_eq!(plain, path);
        assert!(advice.contains("chmod +x"), "{advice}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        assert_eq!(found(code.path(), None), (path.clone(), String::new()));
        let layer = code.path();
        let code = tempfile::tempdir().expect("a directory");
        fs::create_dir(code.path().join("bootstrap")).expect("made");
        let of_layer = found(code.path(), Some(layer));
        assert_eq!(of_layer, (path, String::new()), "a folder is passed over");
    }
}
