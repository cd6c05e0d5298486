//! Events of asynchronous calls: from a caller's 202 to the event's end.
//!
//! ```text
//! http::invoke ─ accept ─► queue (durable) ─ take ─► attempt ─► invoker ─► settle: gone, again later, or dead
//!                              │                                 └─► deliver: destinations
//!                              whose turn, when again, and what follows the end: core::events
//! ```
//!
//! A caller's 202 means that the queue has the event on its disk. Attempts go through the invoker like calls, and share the
//! instances with them. Each gateway accepts events of all functions, and takes those of the functions that it owns; the queue
//! rings when there are some. Attempts that have begun end where they are. What is under way when this process is killed is
//! tried again by the next one. It decides nothing.

mod attempt;
mod deliver;
mod depth;
mod places;
mod shared;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt;
use pilotlight_core::events::dispatch::Dispatch;
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::FunctionKey;
use pilotlight_events::queue::{EventQueue, QueueError, Ring};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::attempt::attempt;
use self::places::Places;
use self::shared::{News, QUEUE_PAUSE};
use crate::clock;

pub(crate) use self::shared::{EVENT_LIMIT, Events, Runner};

/// How many events of all functions are under way at most: their payloads are in memory then.
const UNDER_WAY: usize = 256;
/// How much news the dispatcher has at most that it has not read. Callers wait then.
const NEWS: usize = 1024;
/// How long the dispatcher sleeps at most: the time of day can go on while this machine stands still.
const CLOCK_PAUSE: Duration = Duration::from_secs(10);

impl Events {
    /// Starts the dispatcher. It must be called in a tokio runtime.
    pub(crate) fn start(queue: Arc<dyn EventQueue>, runner: Runner) -> Self {
        let (news, received) = mpsc::channel(NEWS);
        let events = Events {
            queue,
            runner,
            news,
            stop: CancellationToken::new(),
            attempts: TaskTracker::new(),
            places: Places::new(),
        };
        tokio::spawn(dispatch(events.clone(), received));
        tokio::spawn(depth::run(events.clone()));
        events
    }
}

/// The clock of events: the time of day, because events outlive this process.
pub fn time_of_day() -> EventTime {
    let since = clock::time_of_day().duration_since(UNIX_EPOCH);
    EventTime(since.unwrap_or_default().as_millis() as u64)
}

async fn dispatch(events: Events, mut news: mpsc::Receiver<News>) {
    let runner = &events.runner;
    let run = async {
        let mut dispatch = Dispatch::new(UNDER_WAY);
        let (mut rings, mut changes) = (events.queue.rings(), runner.changes());
        // What other processes have left, or have put there unheard.
        let (mut looks, mut is_away) = (true, false);
        loop {
            if looks {
                let looked = look(&events, &mut dispatch).await;
                if let Err(error) = &looked
                    && !is_away
                {
                    tracing::warn!(%error, "the events that wait cannot be read");
                }
                is_away = looked.is_err();
                looks = is_away;
            }
            begin_attempts(&events, &mut dispatch).await;
            let due = dispatch.next_wakeup();
            let wait = due.map_or(CLOCK_PAUSE, |due| due.since(events.now()).min(CLOCK_PAUSE));
            let wait = if looks { wait.min(QUEUE_PAUSE) } else { wait };
            let received = tokio::select! {
                received = news.recv() => received,
                Some(ring) = rings.next() => {
                    match ring {
                        Ring::Any => looks = true,
                        Ring::Events(function) if runner.owns(&function) => {
                            dispatch.waits(&function, events.now(), runner.most(&function));
                        }
                        Ring::Events(_) => {}
                    }
                    continue;
                }
                // Events of a function that this gateway owns now.
                Some(()) = changes.next() => {
                    looks = true;
                    continue;
                }
                () = tokio::time::sleep(wait) => continue,
            };
            let Some(first) = received else {
                return;
            };
            learn(&mut dispatch, runner, first);
            while let Ok(next) = news.try_recv() {
                learn(&mut dispatch, runner, next);
            }
        }
    };
    events.stop.run_until_cancelled(run).await;
}

/// Learns of all functions with events.
async fn look(events: &Events, dispatch: &mut Dispatch<FunctionKey>) -> Result<(), QueueError> {
    let runner = &events.runner;
    let waiting = events.queue.waiting().await?;
    for left in waiting {
        if let Some(due) = left.due.filter(|_| runner.owns(&left.function)) {
            dispatch.waits(&left.function, due, runner.most(&left.function));
        }
    }
    Ok(())
}

fn learn(dispatch: &mut Dispatch<FunctionKey>, runner: &Runner, news: News) {
    match news {
        News::Waits(function, due) => dispatch.waits(&function, due, runner.most(&function)),
        News::Ended {
            function,
            has_begun,
            due,
        } => {
            // Before the end, so that the function is not forgotten in between.
            if let Some(due) = due {
                dispatch.waits(&function, due, runner.most(&function));
            }
            dispatch.ended(&function, has_begun);
        }
    }
}

async fn begin_attempts(events: &Events, dispatch: &mut Dispatch<FunctionKey>) {
    loop {
        let now = events.now();
        let Some((function, count)) = dispatch.next(now) else {
            return;
        };
        if !events.runner.owns(&function) {
            // Its owner takes them.
            dispatch.taken(&function, 0, None);
            continue;
        }
        match events.queue.take(&function, now, count).await {
            Ok(taken) => {
                dispatch.taken(&function, taken.events.len(), taken.due);
                for (ticket, event) in taken.events {
                    events
                        .attempts
                        .spawn(attempt(events.clone(), ticket, event));
                }
            }
            Err(error) => {
                tracing::warn!(%function, %error, "events cannot be taken");
                dispatch.taken(&function, 0, Some(now.after(QUEUE_PAUSE)));
            }
        }
    }
}
