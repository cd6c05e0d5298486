//! Bytes that nobody can guess, for keys and sessions. The only effect in this crate.

use ring::rand::{SecureRandom, SystemRandom};

/// # Panics
/// If the system has no source of random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the system has random bytes");
    bytes
}
