//! Why a filter pattern cannot be used, and where.

use thiserror::Error;

/// Shown to the caller who has sent the pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("The pattern is longer than {0} characters.")]
    TooLong(usize),
    /// `at`: counted in characters, from 1.
    #[error("At character {at}: {reason}")]
    At { at: usize, reason: String },
}

impl PatternError {
    pub(super) fn too_long(limit: usize) -> Self {
        PatternError::TooLong(limit)
    }
}
