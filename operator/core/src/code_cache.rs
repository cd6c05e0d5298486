//! Which archives of code a gateway keeps on its disk.
//!
//! A gateway keeps each archive that it has fetched, for the next instance. The authors of Functions choose how many and
//! how large they are, so the cache has a budget of bytes, and the archives that have not been used for the longest
//! time make room for others. An archive that is being sent is pinned: its file stays. `gateway/cluster/code_store.rs`
//! keeps the files.

use std::collections::BTreeMap;

use thiserror::Error;

/// The most that one fetch holds on the disk: the archive and what it unpacks to, then that and its tar. An archive
/// has at most 250 MiB, and so has its content; 50,000 small files take a block of 4 KiB each, and their names at most
/// 128 MiB of the tar.
const FETCH_ROOM: u64 = 1024 * 1024 * 1024;

/// The smallest volume with which a gateway starts, so that a fetch has room beside an archive in use.
pub const VOLUME_MIN: u64 = 2 * FETCH_ROOM;

/// The most fetches at a time unless an option says otherwise. Each needs a connection and a processor besides its room.
pub const FETCHES: u16 = 4;

/// How much of its volume a gateway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// All files of the cache, in bytes.
    pub bytes: u64,
    /// The bytes that a fetch holds until it ends.
    pub fetch: u64,
    /// Fetches at a time.
    pub fetches: usize,
}

impl CacheLimits {
    /// `volume`: its size in bytes. `fetches`: how many at a time, if there is room. A tenth stays free, because the kubelet evicts a pod whose volume is full, and it
    /// counts what the file system adds.
    pub fn of(volume: u64, fetches: u16) -> Self {
        let bytes = volume / 10 * 9;
        CacheLimits {
            bytes,
            fetch: FETCH_ROOM,
            // Half of the budget stays for archives in use.
            fetches: (bytes / 2 / FETCH_ROOM).clamp(1, u64::from(fetches.max(1))) as usize,
        }
    }
}

/// Why an archive is not fetched: what is in use leaves no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the gateway's cache has no room: {} MiB of its {} MiB are in use by other starts; set a larger gateway.cacheSize",
    .in_use / MIB, .limit / MIB
)]
pub struct NoRoom {
    pub in_use: u64,
    pub limit: u64,
}

const MIB: u64 = 1024 * 1024;

/// The files of a cache, by name.
#[derive(Clone, Debug)]
pub struct CodeCache {
    limits: CacheLimits,
    entries: BTreeMap<String, Entry>,
    /// Counts the uses, so that they have an order.
    uses: u64,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Fetching,
    Kept {
        bytes: u64,
        /// How many are sending it.
        pins: u32,
        last_use: u64,
    },
}

impl CodeCache {
    pub fn new(limits: CacheLimits) -> Self {
        CodeCache {
            limits,
            entries: BTreeMap::new(),
            uses: 0,
        }
    }

    /// A file of an earlier gateway, each used later than the one before. Returns what to remove.
    pub fn found(&mut self, name: String, bytes: u64) -> Vec<String> {
        self.keep(name, bytes, 0);
        self.evict(0)
    }

    /// Pins a file that is there until `unpin`; false if it has to be fetched.
    pub fn pin(&mut self, name: &str) -> bool {
        self.uses += 1;
        let Some(Entry::Kept { pins, last_use, .. }) = self.entries.get_mut(name) else {
            return false;
        };
        *pins += 1;
        *last_use = self.uses;
        true
    }

    pub fn unpin(&mut self, name: &str) {
        if let Some(Entry::Kept { pins, .. }) = self.entries.get_mut(name) {
            *pins = pins.saturating_sub(1);
        }
    }

    /// Takes room for a fetch. Returns what to remove before it begins.
    ///
    /// # Errors
    /// If all that could be removed would not suffice; then nothing is.
    pub fn reserve(&mut self, name: String) -> Result<Vec<String>, NoRoom> {
        let CacheLimits { bytes, fetch, .. } = self.limits;
        let in_use = self.held(|entry| entry.idle_since().is_none());
        if in_use + fetch > bytes {
            return Err(NoRoom {
                in_use,
                limit: bytes,
            });
        }
        let evicted = self.evict(fetch);
        self.entries.insert(name, Entry::Fetching);
        Ok(evicted)
    }

    /// A fetch has ended with a file of this size, which is pinned once. Returns what to remove.
    pub fn fetched(&mut self, name: String, bytes: u64) -> Vec<String> {
        self.keep(name, bytes, 1);
        self.evict(0)
    }

    /// A fetch has failed.
    pub fn failed(&mut self, name: &str) {
        if matches!(self.entries.get(name), Some(Entry::Fetching)) {
            self.entries.remove(name);
        }
    }

    /// Returns the files that nobody wants any more and nobody uses now.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let unwanted = self.entries.extract_if(.., |name, entry| {
            entry.idle_since().is_some() && !is_wanted(name)
        });
        unwanted.map(|(name, _)| name).collect()
    }

    fn keep(&mut self, name: String, bytes: u64, pins: u32) {
        self.uses += 1;
        let last_use = self.uses;
        let kept = Entry::Kept {
            bytes,
            pins,
            last_use,
        };
        self.entries.insert(name, kept);
    }

    fn held(&self, counts: impl Fn(&Entry) -> bool) -> u64 {
        let counted = self.entries.values().filter(|entry| counts(entry));
        counted
            .map(|entry| match entry {
                Entry::Fetching => self.limits.fetch,
                Entry::Kept { bytes, .. } => *bytes,
            })
            .sum()
    }

    /// Forgets the files that were used least recently until `more` bytes fit, or all that is left is in use.
    fn evict(&mut self, more: u64) -> Vec<String> {
        let (mut held, mut evicted) = (self.held(|_| true), Vec::new());
        while held + more > self.limits.bytes {
            let idle = self.entries.iter();
            let idle = idle.filter_map(|(name, entry)| Some((entry.idle_since()?, name)));
            let Some((_, name)) = idle.min() else {
                break;
            };
            let name = name.clone();
            if let Some(Entry::Kept { bytes, .. }) = self.entries.remove(&name) {
                held -= bytes;
            }
            evicted.push(name);
        }
        evicted
    }
}

impl Entry {
    /// The last use of a file that nobody is using.
    fn idle_since(&self) -> Option<u64> {
        match self {
            Entry::Kept {
                pins: 0, last_use, ..
            } => Some(*last_use),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CacheLimits = CacheLimits {
        bytes: 100,
        fetch: 40,
        fetches: 2,
    };

    fn holding(files: &[(&str, u64)]) -> CodeCache {
        let mut cache = CodeCache::new(LIMITS);
        for (name, bytes) in files {
            assert_eq!(cache.found((*name).to_owned(), *bytes), [""; 0]);
        }
        cache
    }

    #[test]
    fn the_file_that_was_used_least_recently_makes_room() {
        let mut cache = holding(&[("a", 30), ("b", 30), ("c", 30)]);
        assert!(cache.pin("a"));
        cache.unpin("a");
        assert_eq!(cache.reserve("d".to_owned()), Ok(vec!["b".to_owned()]));
        assert!(!cache.pin("b") && cache.pin("a") && cache.pin("c"));
        // It took less than was reserved.
        assert_eq!(cache.fetched("d".to_owned(), 5), [""; 0]);
        cache.unpin("d");
        cache.unpin("c");
        assert_eq!(cache.reserve("e".to_owned()), Ok(vec!["c".to_owned()]));
    }

    #[test]
    fn a_file_in_use_stays_and_a_fetch_without_room_evicts_nothing() {
        let mut cache = holding(&[("a", 40), ("b", 30), ("c", 20)]);
        assert!(cache.pin("a") && cache.pin("a") && cache.pin("b"));
        let refused = cache.reserve("d".to_owned()).unwrap_err();
        let in_use = 70;
        assert_eq!(refused, NoRoom { in_use, limit: 100 });
        assert!(cache.pin("c"), "nothing was evicted");
        cache.unpin("c");
        cache.unpin("a");
        assert!(cache.reserve("d".to_owned()).is_err(), "it is sent twice");
        cache.unpin("a");
        // It was used before `c`, which is no longer in the way.
        assert_eq!(cache.reserve("d".to_owned()), Ok(vec!["a".to_owned()]));
    }

    #[test]
    fn a_fetch_holds_its_room_until_it_ends() {
        let mut cache = holding(&[]);
        assert!(cache.reserve("a".to_owned()).is_ok());
        assert!(!cache.pin("a"), "it is not there yet");
        assert!(cache.reserve("b".to_owned()).is_ok());
        assert!(cache.reserve("c".to_owned()).is_err());
        cache.failed("a");
        assert!(cache.reserve("c".to_owned()).is_ok());
        assert_eq!(cache.fetched("b".to_owned(), 10), [""; 0]);
        cache.failed("b");
        assert!(cache.pin("b"), "only a fetch can fail");
    }

    #[test]
    fn a_smaller_volume_than_before_loses_the_files_that_do_not_fit() {
        let mut cache = holding(&[("a", 60), ("b", 30)]);
        assert_eq!(cache.found("c".to_owned(), 60), ["a"]);
        assert!(cache.pin("b") && cache.pin("c"));
    }

    #[test]
    fn what_nobody_wants_goes_unless_it_is_in_use() {
        let mut cache = holding(&[("a", 1), ("b", 1), ("c", 1)]);
        assert!(cache.pin("b"));
        assert!(cache.reserve("d".to_owned()).is_ok());
        assert_eq!(cache.retain(|name| name == "c"), ["a"]);
        assert!(cache.pin("b") && cache.pin("c"));
        cache.unpin("b");
        cache.unpin("b");
        assert_eq!(cache.retain(|name| name == "c"), ["b"]);
    }

    #[test]
    fn a_tenth_of_the_volume_stays_free_and_fetches_leave_room_for_what_is_in_use() {
        const GIB: u64 = 1024 * MIB;
        for (volume, fetches) in [(2, 1), (5, 2), (10, 4), (100, 4)] {
            let limits = CacheLimits::of(volume * GIB, FETCHES);
            assert_eq!(limits.fetches, fetches, "{volume} GiB");
            assert!(limits.bytes <= volume * GIB / 10 * 9);
            assert!(limits.fetch * limits.fetches as u64 <= limits.bytes);
        }
        let smallest = CacheLimits::of(VOLUME_MIN, FETCHES);
        assert_eq!(CacheLimits::of(100 * GIB, 1).fetches, 1);
        let largest_file = 500 * MIB;
        assert!(largest_file + smallest.fetch <= smallest.bytes);
    }

    /// Whatever happens in whatever order, the budget holds and a file in use stays.
    #[test]
    fn the_budget_holds_and_no_file_in_use_is_removed() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut cache = CodeCache::new(LIMITS);
            let mut pinned: Vec<String> = Vec::new();
            let mut fetching: Vec<String> = Vec::new();
            for step in 0..200 {
                let name = format!("{}", random.u8(0..8));
                let removed = match random.u8(0..4) {
                    0 if !fetching.contains(&name) => match cache.pin(&name) {
                        true => {
                            pinned.push(name);
                            Vec::new()
                        }
                        false => {
                            let reserved = cache.reserve(name.clone());
                            fetching.extend(reserved.is_ok().then_some(name));
                            reserved.unwrap_or_default()
                        }
                    },
                    1 if !pinned.is_empty() => {
                        let name = pinned.swap_remove(random.usize(..pinned.len()));
                        cache.unpin(&name);
                        Vec::new()
                    }
                    2 if !fetching.is_empty() => {
                        let name = fetching.swap_remove(random.usize(..fetching.len()));
                        match random.bool() {
                            true => {
                                pinned.push(name.clone());
                                cache.fetched(name, random.u64(1..=LIMITS.fetch))
                            }
                            false => {
                                cache.failed(&name);
                                Vec::new()
                            }
                        }
                    }
                    3 => cache.retain(|other| other != name),
                    _ => Vec::new(),
                };
                let at = format!("seed {seed}, step {step}");
                assert!(cache.held(|_| true) <= LIMITS.bytes, "{at}");
                for name in &removed {
                    assert!(!pinned.contains(name) && !fetching.contains(name), "{at}");
                }
                for name in &pinned {
                    assert!(cache.entries.contains_key(name), "{at}");
                }
            }
        }
    }
}
