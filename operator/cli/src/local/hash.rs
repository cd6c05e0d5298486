//! Hashes over several parts.
//!
//! Used by everything that puts an entry into the `cache` or decides whether code has changed.

use sha2::{Digest, Sha256};

/// Adds a part with its length, which keeps `ab`, `c` and `a`, `bc` apart.
pub(crate) fn update(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
