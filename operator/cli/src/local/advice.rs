//! Warnings about likely mistakes in code that still runs.
//!
//! Fed by `prepare` with a function's code; each warning is printed once. Never refuses anything, as the
//! original platform would accept the code.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use pilotlight_core::function::Handler;
use pilotlight_core::instance::shebang::Shebang;

use super::tree::is_executable;

/// How much of a script is read to find its first line, in bytes.
const LINE: usize = 256;

/// Warns about an archive with everything in one folder, as file managers pack it.
pub(crate) fn on_layout(code: &Path, handler: &Handler) -> Option<String> {
    let entries = fs::read_dir(code).ok()?.flatten();
    let mut entries = entries.filter(|entry| entry.file_name() != "__MACOSX");
    let only = entries.next().filter(|_| entries.next().is_none())?;
    let name = only.file_name().to_string_lossy().into_owned();
    // Exceptions: folders of libraries, and a folder that the handler names.
    let is_known = ["lib", "bin", "node_modules", "vendor"].contains(&&*name);
    let begins = handler.as_str().trim_start_matches("./");
    let is_named = begins
        .strip_prefix(&name)
        .is_some_and(|rest| rest.starts_with(['/', '.']));
    let is_folder = only.file_type().is_ok_and(|kind| kind.is_dir());
    (is_folder && !is_known && !is_named).then(|| {
        format!(
            "all of the archive lies in the folder {name}, where it is not looked for: pack what the folder \
             holds instead of the folder"
        )
    })
}

/// Warns about programs at the top whose first line ends in CRLF: for the kernel the `\r` is a part of the
/// interpreter's name.
pub(crate) fn on_scripts(code: &Path) -> Vec<String> {
    let entries = fs::read_dir(code).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| on_script(&entry.path()))
        .collect();
    found.sort();
    found
}

fn on_script(path: &Path) -> Option<String> {
    // A runtime that loads a module does not use its first line.
    let is_program = path.extension().is_none_or(|end| end == "sh");
    let is_file = fs::metadata(path).is_ok_and(|file| is_executable(&file));
    let file = File::open(path).ok().filter(|_| is_program && is_file)?;
    let mut begin = Vec::new();
    file.take(LINE as u64).read_to_end(&mut begin).ok()?;
    let line = Shebang::read(&begin)?.without_carriage_return()?;
    let name = path.file_name()?.display();
    Some(format!(
        "{name} has line ends of Windows (CRLF), so that its interpreter would be `{}\\r`: save it with LF, \
         as `dos2unix {name}` does",
        line
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_everything_gets_a_warning_unless_the_handler_names_it() {
        for (folder, handler, is_told) in [
            ("shop", "lambda_function.lambda_handler", true),
            ("shop", "index.handler", true),
            ("shop", "shop.app.handler", false),
            ("shop", "shop/app.handler", false),
            ("lib", "shop.Totals::handle", false),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            fs::create_dir(root.path().join(folder)).expect("made");
            fs::create_dir(root.path().join("__MACOSX")).expect("made");
            let handler = handler.parse().expect("a handler");
            let told = on_layout(root.path(), &handler);
            assert_eq!(told.is_some(), is_told, "{folder} {handler}");
            fs::write(root.path().join("more"), "").expect("written");
            assert_eq!(on_layout(root.path(), &handler), None);
        }
    }

    #[test]
    fn scripts_with_crlf_get_a_warning() {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("bootstrap", "#!/bin/sh\r\necho\r\n"),
            ("good", "#!/bin/sh\necho\r\n"),
            ("text", "a\r\n"),
            ("app.py", "#!/usr/bin/python3\r\n"),
        ] {
            let path = root.path().join(name);
            fs::write(&path, text).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).expect("changed");
        }
        let told = on_scripts(root.path());
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("bootstrap has line ends of Windows"),
            "{told:?}"
        );
    }
}
