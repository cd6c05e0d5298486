//! How many events of each function have not ended, and how old the oldest one is: for metrics and for the status of Functions.
//!
//! The owner of a function looks from time to time. Nothing here tries an event.

use std::collections::BTreeSet;
use std::time::Duration;

use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_events::queue::QueueError;

use super::shared::Events;

/// The pause between two looks.
const DEPTH_INTERVAL: Duration = Duration::from_secs(10);

/// Looks until the gateway ends.
pub(super) async fn run(events: Events) {
    let looks = async {
        let mut known = BTreeSet::new();
        loop {
            tokio::time::sleep(DEPTH_INTERVAL).await;
            // The dispatcher reports a queue that cannot be used.
            if let Ok(found) = look(&events).await {
                for gone in known.difference(&found) {
                    show(&events, gone, 0, Duration::ZERO);
                }
                known = found;
            }
        }
    };
    events.stop.run_until_cancelled(looks).await;
}

/// The functions of this gateway that have events.
async fn look(events: &Events) -> Result<BTreeSet<FunctionKey>, QueueError> {
    let mut found = BTreeSet::new();
    for waiting in events.queue.waiting().await? {
        let function = waiting.function;
        if !events.runner.owns(&function) {
            continue;
        }
        let oldest = match waiting.oldest {
            Some(oldest) => Some(oldest),
            None => events.queue.of(&function).await?.and_then(|of| of.oldest),
        };
        let age = oldest.map_or(Duration::ZERO, |oldest| events.now().since(oldest));
        show(events, &function, waiting.count, age);
        found.insert(function);
    }
    Ok(found)
}

fn show(events: &Events, function: &FunctionKey, count: u64, age: Duration) {
    let FunctionKey { name, namespace } = function.clone();
    let pool = PoolId::latest(namespace, name);
    if let Some(entry) = events.runner.functions.get(&pool) {
        entry.metrics.events_waiting(count, age);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    events.runner.backend.observe_events(&pool, count);
}
