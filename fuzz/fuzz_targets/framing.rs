//! The bytes of a connection, before hyper reads them.
//!
//! What is found does not depend on how the bytes were split. At most one byte changes, the one that makes a head with
//! two lengths invalid; everything after it passes as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_net::framing::Framing;

fn followed(bytes: &[u8], size: usize) -> (Vec<u8>, bool, u64, bool) {
    let (mut framing, mut bytes, mut has_both) = (Framing::default(), bytes.to_vec(), false);
    for piece in bytes.chunks_mut(size) {
        has_both |= framing.follow(piece);
    }
    (bytes, has_both, framing.heads(), framing.is_in_head())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = followed(bytes, bytes.len().max(1));
    assert_eq!(whole, followed(bytes, usize::from(size).max(1)));
    assert_eq!(whole, followed(bytes, 1));
    let changed = whole
        .0
        .iter()
        .zip(bytes)
        .filter(|(after, before)| after != before);
    let changed: Vec<_> = changed.collect();
    match whole.1 {
        true => assert_eq!(changed, [(&0, &b':')]),
        false => assert!(changed.is_empty()),
    }
});
