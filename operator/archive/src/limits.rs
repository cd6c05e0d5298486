//! How much an archive may hold.
//!
//! `unpack` and `target` refuse more, and `package` makes none that is larger.

/// The original platform's limit for unpacked code, 250 MiB, in bytes. Packed code cannot be larger either.
pub(crate) const UNPACKED_LIMIT: u64 = 250 * 1024 * 1024;
/// More files than any function has: a bound against archives that are made to exhaust a disk.
pub(crate) const ENTRY_LIMIT: usize = 50_000;
pub(crate) const LIMITS: Limits = Limits {
    bytes: UNPACKED_LIMIT,
    entries: ENTRY_LIMIT,
};

/// The most that an archive may unpack to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
}
