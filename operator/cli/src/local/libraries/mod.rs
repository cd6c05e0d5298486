//! Everything that a function's list of libraries refers to.
//!
//! ```text
//! requirements ─┐
//! pyproject ────┼─► Inputs ─► a hash, the directories to watch, a mirror that a tool installs from
//! package_json ─┘                                                          └─ modules
//! ```
//!
//! Fed by `make` with a function's code. When a file that a list names, a library in a folder or a lock changes, the
//! libraries change. Tools get copies with the same relative paths as the originals, so nothing is written beside
//! a user's sources. Runs no tool itself.

mod gemfile;
mod globs;
pub(super) mod inputs;
mod manager;
mod mirror;
pub(super) mod modules;
mod package_json;
mod package_manifest;
mod paths;
mod pip;
mod poetry;
mod pyproject;
mod requirements;
mod workspace;

use std::path::Path;

use anyhow::Result;
use pilotlight_runtimes::Reads;

use self::inputs::Inputs;

/// Reads the list in the code's directory; `None` if it has none.
///
/// # Errors
/// Name the file and the line or field.
pub(crate) fn read(reads: Reads, code: &Path) -> Result<Option<Inputs>> {
    let inputs = match reads {
        Reads::Python => pyproject::read(code),
        Reads::Node => package_json::read(code),
        Reads::Ruby => gemfile::read(code),
    };
    let mut inputs = inputs?;
    if let Some(inputs) = &mut inputs {
        inputs.read_folders();
    }
    Ok(inputs)
}
