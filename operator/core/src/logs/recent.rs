//! What is known of the newest things, at most so many of them.
//!
//! A gateway remembers by it which trace an invocation belongs to, until the invocation's log records have come. The oldest
//! one makes room. Knows neither traces nor records.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub struct Recent<K, V> {
    limit: usize,
    values: HashMap<K, V>,
    /// Each key of `values` once, the oldest first.
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// `limit`: how many there are at most.
    pub fn new(limit: usize) -> Self {
        Recent {
            limit,
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// A value that replaces another one keeps its age.
    pub fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.values.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_a_new_value_keeps_its_age() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        recent.insert("a", 3);
        assert_eq!((recent.get("a"), recent.get("b")), (Some(&3), Some(&2)));
        recent.insert("c", 4);
        assert_eq!((recent.get("a"), recent.get("b")), (None, Some(&2)));
        recent.insert("a", 5);
        assert_eq!((recent.get("b"), recent.get("a")), (None, Some(&5)));
        assert_eq!(recent.values.len(), recent.order.len());
    }

    #[test]
    fn with_no_room_nothing_is_known() {
        let mut recent = Recent::new(0);
        recent.insert("a", 1);
        assert_eq!(recent.get("a"), None);
        assert!(recent.order.is_empty());
    }
}
