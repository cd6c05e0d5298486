//! Request ids of events that no caller has sent.
//!
//! Such an event comes from something else: the record of another event, or a time of a schedule. Whoever makes it twice, such as the next owner after a
//! gateway that was lost, makes the same id, and the queue takes the second one for what it is.

use sha2::{Digest, Sha256};

/// A UUID of version 8 (RFC 9562): the same for the same parts, and another one for others.
pub fn request_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With their lengths, so that `ab` and `c` differ from `a` and `bc`.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    let digits = format!("{number:032x}");
    let ends = [8, 12, 16, 20, 32];
    let mut begin = 0;
    let groups = ends.map(|end| {
        let group = &digits[begin..end];
        begin = end;
        group
    });
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_make_the_same_id_and_others_another_one() {
        let id = request_id(&["ab", "c"]);
        assert_eq!(id, request_id(&["ab", "c"]));
        for others in [&["a", "bc"][..], &["abc"], &["ab", "c", ""], &["c", "ab"]] {
            assert_ne!(id, request_id(others), "{others:?}");
        }
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "8", "its version");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "its variant");
    }
}
