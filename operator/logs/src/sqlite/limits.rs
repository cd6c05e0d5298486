//! How much of the logs is kept in files. `writer` removes the rest, and readers do not see what is too old.

use jiff::{SignedDuration, Timestamp};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// What the files of all functions take together, in bytes. The oldest files go first.
    pub bytes: u64,
    /// How long records are kept, unless the function has a retention of its own.
    pub retention: SignedDuration,
    /// The time of day.
    pub clock: fn() -> Timestamp,
}
