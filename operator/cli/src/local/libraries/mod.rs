//! Everything that a function's list of libraries refers to.
//!
//! ```text
//! requirements ─┐
//! pyproject ────┼─► Inputs ─► a hash, the directories to watch, a mirror that a tool installs from
//! package_json ─┘                                                          └─ modules
//! ```
//!
//! Fed by `runtime` with a function's code. A file that a list names, a library in a folder, a lock: a
//! change of any is a change of the libraries. Tools get copies that lie to each other as the originals
//! do, so nothing is written beside a person's sources. Runs no tool itself.

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
