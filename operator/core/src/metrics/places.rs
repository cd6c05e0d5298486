//! Which functions have series of their own in a gateway's metrics, and which share one set of series.
//!
//! Each series costs memory at the gateway and in Prometheus, so their number is bounded by the number of functions
//! that have their own. The gateway asks at each scrape. A function that was active keeps its place, and one that
//! was counted among the others stays there: if it moved, a counter of the others would decrease, and Prometheus
//! would take that for a restart. A function that was never active gives its place away, since all its series are 0.

use std::collections::{BTreeMap, BTreeSet};

/// See the module. `K` names a function.
#[derive(Debug)]
pub struct Places<K> {
    limit: usize,
    /// Whether each function with a place of its own has been active.
    own: BTreeMap<K, bool>,
    /// The active functions without one.
    others: BTreeSet<K>,
}

/// Where a function's series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesPlace {
    Own,
    /// It was active and shares the series of the others.
    Others,
    /// It was never active, and no place is free.
    None,
}

impl<K: Ord + Clone> Places<K> {
    /// `limit`: how many functions may have series of their own.
    pub fn new(limit: usize) -> Self {
        Places {
            limit,
            own: BTreeMap::new(),
            others: BTreeSet::new(),
        }
    }

    /// Gives places to the functions that have none. `known`: all functions, and whether each has been active.
    pub fn settle<'a>(&mut self, known: impl IntoIterator<Item = (&'a K, bool)>)
    where
        K: 'a,
    {
        let mut active = Vec::new();
        let mut idle = Vec::new();
        for (function, is_active) in known {
            match self.own.get_mut(function) {
                Some(was_active) => *was_active |= is_active,
                None if self.others.contains(function) => {}
                None if is_active => active.push(function),
                None => idle.push(function),
            }
        }
        // Active ones first: they may take the places of those that never were.
        let mut yielding: Vec<K> = match active.len() > self.free() {
            true => self.never_active(),
            false => Vec::new(),
        };
        for function in active {
            if self.free() == 0
                && let Some(yields) = yielding.pop()
            {
                self.own.remove(&yields);
            }
            match self.free() {
                0 => drop(self.others.insert(function.clone())),
                _ => drop(self.own.insert(function.clone(), true)),
            }
        }
        for function in idle.into_iter().take(self.free()) {
            self.own.insert(function.clone(), false);
        }
    }

    pub fn of(&self, function: &K) -> SeriesPlace {
        match (
            self.own.contains_key(function),
            self.others.contains(function),
        ) {
            (true, _) => SeriesPlace::Own,
            (false, true) => SeriesPlace::Others,
            (false, false) => SeriesPlace::None,
        }
    }

    /// The function was deleted. Returns where its series were.
    pub fn remove(&mut self, function: &K) -> SeriesPlace {
        let place = self.of(function);
        self.own.remove(function);
        self.others.remove(function);
        place
    }

    /// How many active functions have no series of their own.
    pub fn others(&self) -> usize {
        self.others.len()
    }

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.own.len())
    }

    fn never_active(&self) -> Vec<K> {
        let never = self.own.iter().filter(|(_, was_active)| !**was_active);
        never.map(|(function, _)| function.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(places: &mut Places<&'static str>, known: &[(&'static str, bool)]) {
        places.settle(
            known
                .iter()
                .map(|(function, is_active)| (function, *is_active)),
        );
    }

    #[test]
    fn functions_get_places_until_none_is_left() {
        let mut places = Places::new(2);
        settled(
            &mut places,
            &[("a", false), ("b", true), ("c", true), ("d", false)],
        );
        let all = ["a", "b", "c", "d"].map(|function| places.of(&function));
        assert_eq!(
            all,
            [
                SeriesPlace::None,
                SeriesPlace::Own,
                SeriesPlace::Own,
                SeriesPlace::None
            ]
        );
        settled(
            &mut places,
            &[("a", true), ("b", true), ("c", true), ("d", false)],
        );
        assert_eq!((places.of(&"a"), places.others()), (SeriesPlace::Others, 1));
    }

    #[test]
    fn a_function_that_was_never_active_gives_its_place_away() {
        let mut places = Places::new(2);
        settled(&mut places, &[("a", false), ("b", false)]);
        assert_eq!(
            (places.of(&"a"), places.of(&"b")),
            (SeriesPlace::Own, SeriesPlace::Own)
        );
        settled(&mut places, &[("a", true), ("b", false), ("c", true)]);
        assert_eq!(
            (places.of(&"a"), places.of(&"c")),
            (SeriesPlace::Own, SeriesPlace::Own)
        );
        assert_eq!(places.of(&"b"), SeriesPlace::None);
        // It is active later, and none is left.
        settled(&mut places, &[("a", true), ("b", true), ("c", true)]);
        assert_eq!(places.of(&"b"), SeriesPlace::Others);
    }

    #[test]
    fn who_was_counted_among_the_others_stays_there() {
        let mut places = Places::new(1);
        settled(&mut places, &[("a", true), ("b", true)]);
        assert_eq!(places.remove(&"a"), SeriesPlace::Own);
        settled(&mut places, &[("b", true), ("c", false)]);
        assert_eq!(
            (places.of(&"b"), places.of(&"c")),
            (SeriesPlace::Others, SeriesPlace::Own)
        );
        assert_eq!(places.remove(&"b"), SeriesPlace::Others);
        assert_eq!((places.of(&"b"), places.others()), (SeriesPlace::None, 0));
    }

    #[test]
    fn no_place_means_that_all_share() {
        let mut places = Places::new(0);
        settled(&mut places, &[("a", true), ("b", false)]);
        assert_eq!(
            (places.of(&"a"), places.of(&"b")),
            (SeriesPlace::Others, SeriesPlace::None)
        );
    }
}
