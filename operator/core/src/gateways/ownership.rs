//! Which gateway owns a function (rule 3): rendezvous hashing over the members.
//!
//! All gateways that see the same members compute the same owner. When a member joins or leaves, only the
//! functions that it gains or had change their owner. `gateway::cluster` finds the members.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use crate::ids::FunctionKey;

/// The owner of a function; `None` without members. Gateways of different versions agree only if this hash
/// never changes: SHA-256 of `namespace/name`, a zero byte, and the address as text.
pub fn owner(
    function: &FunctionKey,
    members: impl IntoIterator<Item = SocketAddr>,
) -> Option<SocketAddr> {
    members.into_iter().max_by_key(|member| {
        let mut hash = Sha256::new();
        hash.update(function.namespace.as_str());
        hash.update("/");
        hash.update(function.name.as_str());
        hash.update([0]);
        hash.update(member.to_string());
        // Compare the address as well, so that equal hashes do not leave the choice to the order.
        (<[u8; 32]>::from(hash.finalize()), *member)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(last: u8) -> impl Iterator<Item = SocketAddr> + Clone {
        (1..=last).map(|n| SocketAddr::from(([10, 0, 0, n], 8080)))
    }

    fn functions() -> impl Iterator<Item = FunctionKey> {
        (0..1000).map(|n| format!("shop/function-{n}").parse().expect("a function"))
    }

    #[test]
    fn functions_are_distributed_evenly_and_independently_of_the_order_of_members() {
        let mut counts = std::collections::BTreeMap::<_, usize>::new();
        for function in functions() {
            let chosen = owner(&function, members(4)).expect("there are members");
            let reversed: Vec<_> = members(4).collect();
            assert_eq!(
                owner(&function, reversed.into_iter().rev()),
                Some(chosen),
                "{function}"
            );
            *counts.entry(chosen).or_default() += 1;
        }
        assert!(
            counts.len() == 4 && counts.values().all(|n| (200..300).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_member_that_joins_gains_functions_and_moves_no_others() {
        let newcomer = members(4).last();
        let moved = functions().filter(|function| {
            let (before, after) = (owner(function, members(3)), owner(function, members(4)));
            assert!(after == before || after == newcomer, "{function}");
            after != before
        });
        assert!((200..300).contains(&moved.count()));
    }

    #[test]
    fn the_hash_is_the_same_in_every_version() {
        let function = "shop/hello".parse().expect("a function");
        let expected = SocketAddr::from(([10, 0, 0, 3], 8080));
        assert_eq!(owner(&function, members(3)), Some(expected));
        assert_eq!(owner(&function, []), None);
    }
}
