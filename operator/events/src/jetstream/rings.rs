//! What a gateway hears of events that others have put into the queue.
//!
//! The server itself rings when it has stored an event. A ring has the function's name and nothing of the event. Rings are kept
//! nowhere, so any may have been missed after a time without connection. Everybody looks from time to time as well.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::link::Link;
use super::names::NamePrefix;
use crate::queue::Ring;

/// How often everybody looks although nothing rings: nobody rings for events of a gateway that has ended.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// One [`Ring`] for each event that the server has stored, and [`Ring::Any`] whenever some may have been missed.
pub(super) fn rings(link: Link, prefix: NamePrefix) -> BoxStream<'static, Ring> {
    let connections = stream::unfold(link, |link| async {
        let session = link.next_session().await?;
        Some(((link.missed.clone(), session), link))
    });
    let rings = connections.flat_map(move |(mut missed, session)| {
        let prefix = prefix.clone();
        let rings = async move {
            missed.mark_unchanged();
            // It fails only when the connection is lost again.
            let rings = session.client.subscribe(prefix.all_rings()).await.ok();
            let mut look = tokio::time::interval(LOOK_INTERVAL);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first one is now: whoever asks now, asks after the server knows of the subscription.
            let heard = rings.map(|rings| RingSource {
                rings,
                missed,
                look,
                prefix,
            });
            stream::unfold(heard, next_ring)
        };
        stream::once(rings).flatten()
    });
    rings.boxed()
}

/// What rings come from.
struct RingSource {
    rings: Subscriber,
    missed: watch::Receiver<u64>,
    look: Interval,
    prefix: NamePrefix,
}

/// `None`: the connection is lost.
async fn next_ring(heard: Option<RingSource>) -> Option<(Ring, Option<RingSource>)> {
    let mut heard = heard?;
    loop {
        let ring = tokio::select! {
            changed = heard.missed.changed() => {
                changed.ok()?;
                Ring::Any
            }
            _ = heard.look.tick() => Ring::Any,
            message = heard.rings.next() => match heard.prefix.function_of_ring(&message?.subject) {
                Some(function) => Ring::Events(function),
                None => continue,
            },
        };
        return Some((ring, Some(heard)));
    }
}
