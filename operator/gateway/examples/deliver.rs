//! Delivers one record to a destination, for the tests with real receivers (`tests/destinations`): a case in JSON comes from
//! the standard input, and what became of it goes to the standard output.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use pilotlight_api::Destination;
use pilotlight_core::address_rule::AddressRule;
use pilotlight_core::events::retry::{EventEnd, EventTime, Progress};
use pilotlight_core::ids::{Namespace, PoolId};
use pilotlight_events::destination::{Outgoing, Receivers, Undelivered};
use pilotlight_events::event::{EventHead, EventOutcome, EventResponse, QueuedEvent};
use pilotlight_gateway::{DestinationTarget, Destinations, SecretFolders};
use pilotlight_net::guarded::AddressGuard;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Case {
    destination: Destination,
    secrets: Option<PathBuf>,
    /// Ranges; without it each address is allowed, as in local mode.
    allow: Option<Vec<String>>,
    request_id: String,
    payload: String,
    answer: String,
    trace: String,
    /// How often it is sent.
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let case: Case = serde_json::from_str(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcomes = runtime.block_on(deliver(case))?;
    writeln!(std::io::stdout(), "{}", json!(outcomes))?;
    Ok(())
}

async fn deliver(case: Case) -> Result<Vec<serde_json::Value>, Box<dyn std::error::Error>> {
    let guard = match &case.allow {
        None => AddressGuard::open(),
        Some(ranges) => {
            let allow: Result<Vec<_>, _> = ranges.iter().map(|range| range.parse()).collect();
            AddressGuard::within(AddressRule {
                allow: allow?,
                deny: Vec::new(),
            })
        }
    };
    let destinations = Destinations::new(
        Arc::new(SecretFolders(case.secrets)),
        Receivers::new(guard),
        "us-east-1".to_owned(),
        None,
    );
    let event = QueuedEvent {
        head: EventHead {
            request_id: case.request_id,
            target: PoolId::latest(Namespace::local(), "hello".parse()?),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:hello".to_owned(),
            client_context: None,
            trace: case.trace,
            trace_state: None,
            progress: Progress::new(EventTime(1_800_000_000_000)),
            overrides: Default::default(),
            outcome: None,
        },
        payload: case.payload.into(),
    };
    let outcome = EventOutcome {
        end: EventEnd::Success,
        at: EventTime(1_800_000_000_120),
        attempts: 1,
        response: Some(EventResponse {
            payload: case.answer,
            version: "$LATEST".to_owned(),
            function_error: None,
        }),
    };
    let outgoing = Outgoing::of(&event, &outcome);
    let mut outcomes = Vec::new();
    for _ in 0..case.times {
        let target = destinations.target("spec.async.onSuccess", &case.destination);
        let sent = match target.await {
            Ok(DestinationTarget::Receiver(receiver)) => {
                destinations.send(&receiver, &outgoing).await
            }
            Ok(DestinationTarget::Function(_)) => return Err("it is a function".into()),
            Err(undelivered) => Err(undelivered),
        };
        outcomes.push(match sent {
            Ok(()) => json!({"outcome": "taken"}),
            Err(Undelivered::Later(why)) => json!({"outcome": "later", "why": why}),
            Err(Undelivered::Never(why)) => json!({"outcome": "never", "why": why}),
        });
    }
    Ok(outcomes)
}
