//! How many records of events are on their way to destinations at a time, of one function and of all.
//!
//! A record waits for its place before its event gives up the place of an attempt. So a function whose destination hangs
//! holds up its own events in the end, and never those of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pilotlight_core::ids::FunctionKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of all functions: their payloads and answers are in memory.
const ALL: usize = 256;
const OF_FUNCTION: usize = 16;
/// How many functions are known at most before those are forgotten that send nothing.
const KNOWN: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_functions: Arc<Mutex<HashMap<FunctionKey, Arc<Semaphore>>>>,
}

/// A record may be sent for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new() -> Self {
        Places {
            all: Arc::new(Semaphore::new(ALL)),
            of_functions: Arc::default(),
        }
    }

    pub(super) async fn take(&self, function: &FunctionKey) -> Place {
        let own = self.of(function);
        // The function's own comes first: whoever waits for it takes none of the others' places.
        let own = own.acquire_owned().await;
        let of_all = self.all.clone().acquire_owned().await;
        Place {
            _own: own.expect("it is never closed"),
            _of_all: of_all.expect("it is never closed"),
        }
    }

    fn of(&self, function: &FunctionKey) -> Arc<Semaphore> {
        let known = self.of_functions.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            // Places that are taken hold it as well.
            known.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = known.entry(function.clone());
        places
            .or_insert_with(|| Arc::new(Semaphore::new(OF_FUNCTION)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_function_that_has_all_its_places_leaves_those_of_others() {
        let places = Places::new();
        let key = |name: &str| format!("local/{name}").parse().expect("a key");
        let (loud, quiet) = (key("loud"), key("quiet"));
        let mut taken = Vec::new();
        for _ in 0..OF_FUNCTION {
            taken.push(places.take(&loud).now_or_never().expect("there is room"));
        }
        assert!(places.take(&loud).now_or_never().is_none());
        assert!(places.take(&quiet).now_or_never().is_some());
        taken.pop();
        assert!(places.take(&loud).now_or_never().is_some());
        for number in 0..2 * KNOWN {
            places.take(&key(&format!("f{number}"))).await;
        }
        let known = places.of_functions.lock().expect("it is whole").len();
        assert!(known <= KNOWN, "{known}");
        assert_eq!(taken.len(), OF_FUNCTION - 1);
        assert!(places.take(&loud).now_or_never().is_some(), "one is free");
    }
}
