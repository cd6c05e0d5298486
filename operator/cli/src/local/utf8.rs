//! Paths as text.
//!
//! Used wherever a path becomes a part of a command, of an environment or of JSON, which are all text. Changes no
//! path: one that is not UTF-8 is refused.

use std::ffi::OsString;

use anyhow::{Result, anyhow};

/// # Errors
/// If the path is not UTF-8.
pub(crate) fn text(value: impl Into<OsString>) -> Result<String> {
    value.into().into_string().map_err(|value| {
        anyhow!(
            "{} is not UTF-8: use a directory of another name",
            value.display()
        )
    })
}
