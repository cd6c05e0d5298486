//! How long the log of each function is kept: what its manifest says is passed on to the store.
//!
//! Fed by the catalog of functions. Several gateways say the same. A function whose manifest has never had a retention keeps
//! what the store has, so that one which was set through another API stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use pilotlight_core::function::LogRetention;
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::store::Store;
use tokio::sync::watch;

use crate::catalog::Catalog;

/// The pause before a retention that the store did not take is passed on again.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The retentions of all functions.
type Retentions = BTreeMap<FunctionKey, Option<LogRetention>>;

/// Passes retentions on until no function can change any more.
pub(crate) async fn run(store: Arc<dyn Store>, mut functions: watch::Receiver<Arc<Catalog>>) {
    let mut passed = Retentions::new();
    loop {
        let wanted = wanted(&functions.borrow_and_update());
        let mut failed = false;
        for (function, retention) in changes(&mut passed, wanted) {
            let duration = retention.map(|retention| retention.duration());
            let duration = duration.and_then(|duration| SignedDuration::try_from(duration).ok());
            match store.set_retention(&function, duration).await {
                Ok(()) => {
                    passed.insert(function, retention);
                }
                Err(error) => {
                    tracing::warn!(?function, %error, "the log store did not take a retention");
                    failed = true;
                }
            }
        }
        tokio::select! {
            changed = functions.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(RETRY_PAUSE), if failed => {}
        }
    }
}

fn wanted(functions: &Catalog) -> Retentions {
    let deployed = functions.values().map(|entry| &entry.deployment);
    let retentions = deployed.map(|deployment| {
        let function = deployment.pool.function.clone();
        (function, deployment.spec.logging.retention)
    });
    retentions.collect()
}

/// What the store has to be told. Forgets the functions that are gone, and remembers new ones without a retention.
fn changes(passed: &mut Retentions, wanted: Retentions) -> Retentions {
    passed.retain(|function, _| wanted.contains_key(function));
    let mut changes = Retentions::new();
    for (function, retention) in wanted {
        match passed.get(&function) {
            Some(known) if *known == retention => {}
            None if retention.is_none() => {
                passed.insert(function, None);
            }
            _ => {
                changes.insert(function, retention);
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retentions(days: &[(&str, Option<i128>)]) -> Retentions {
        let retention = |(name, days): &(&str, Option<i128>)| {
            let days = days.map(|days| LogRetention::try_from(days).expect("in range"));
            (format!("local/{name}").parse().expect("a key"), days)
        };
        days.iter().map(retention).collect()
    }

    #[test]
    fn the_store_learns_of_a_retention_when_it_begins_changes_and_ends() {
        let mut passed = Retentions::new();
        for (wanted, expected) in [
            (&[("a", Some(7)), ("b", None)][..], &[("a", Some(7))][..]),
            (&[("a", Some(7)), ("b", None)], &[]),
            (
                &[("a", Some(8)), ("b", Some(1))],
                &[("a", Some(8)), ("b", Some(1))],
            ),
            (&[("a", None), ("b", Some(1))], &[("a", None)]),
            // Deleted and made again, without a retention.
            (&[("a", None)], &[]),
            (&[("a", None), ("b", None)], &[]),
        ] {
            let changes = changes(&mut passed, retentions(wanted));
            assert_eq!(changes, retentions(expected), "{wanted:?}");
            passed.extend(changes);
        }
    }
}
