//! What waits for a receiver, and the thread that sends it.
//!
//! Handing something in takes a lock for moments, and never waits for the receiver. The thread sends what has gathered. A
//! batch that the receiver cannot take now is sent again, with pauses that double; what waits meanwhile has a bound, which
//! its [`Waiting`] keeps. At the end of the process what is left is sent once.

use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::receiver::{Receiver, Reply};

/// How long items gather before they are sent, unless a whole batch comes together earlier.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// The pause after a batch was not taken; it doubles with each further attempt.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// The end of the process waits this long for the last batch.
const END_LIMIT: Duration = Duration::from_secs(2);
/// How often the end looks whether the thread has ended.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// Items that wait, within their bound.
pub(crate) trait Waiting: Debug + Send + 'static {
    type Batch;
    /// The items, for the log.
    const WHAT: &'static str;
    /// A batch is sent at once when so many bytes wait.
    const BATCH_BYTES: usize;
    /// How often a batch is sent. `None`: until it is taken or refused.
    const ATTEMPTS: Option<u32>;

    /// Of what nobody has taken.
    fn bytes(&self) -> usize;
    /// The next batch, if there is anything.
    fn take(&mut self) -> Option<Self::Batch>;
    fn settle(&mut self, batch: Self::Batch, fate: Fate);
}

/// What has become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The receiver has it, but not so many items of it.
    Taken {
        rejected: u64,
    },
    Refused,
    /// It was not taken in all its attempts, or before the end.
    Unsent {
        has_ended: bool,
    },
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Debug)]
pub(crate) struct Worker<W>(Arc<Shared<W>>);

impl<W> Clone for Worker<W> {
    fn clone(&self) -> Self {
        Worker(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<W> {
    waiting: W,
    has_ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl<W: Waiting> Worker<W> {
    /// Starts the thread. `encode` makes the request of a batch.
    pub(crate) fn start(
        name: &str,
        receiver: Receiver,
        waiting: W,
        encode: impl Fn(&W::Batch) -> Vec<u8> + Send + 'static,
    ) -> std::io::Result<Self> {
        let worker = Worker(Arc::new(Shared {
            state: Mutex::new(State {
                waiting,
                has_ended: false,
                thread: None,
            }),
            changed: Condvar::new(),
        }));
        let sender = Sender {
            receiver,
            encode,
            shared: worker.0.clone(),
            is_away: false,
        };
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || sender.run())?;
        worker.0.lock().thread = Some(thread);
        Ok(worker)
    }

    /// Lets `add` add to what waits; it also learns whether the end has come, after which nothing is sent.
    pub(crate) fn add(&self, add: impl FnOnce(&mut W, bool)) {
        let mut state = self.0.lock();
        let before = state.waiting.bytes();
        let has_ended = state.has_ended;
        add(&mut state.waiting, has_ended);
        let after = state.waiting.bytes();
        // The thread waits for the first item, and then for a whole batch.
        let is_first = before == 0 && after > 0;
        if is_first || (before < W::BATCH_BYTES && after >= W::BATCH_BYTES) {
            self.0.changed.notify_one();
        }
    }

    /// Sends what is left, once, and ends; returns when that is done, or after 2 s. Blocks.
    pub(crate) fn end(&self) {
        let thread = {
            let mut state = self.0.lock();
            state.has_ended = true;
            state.thread.take()
        };
        self.0.changed.notify_all();
        let Some(thread) = thread else { return };
        let deadline = Instant::now() + END_LIMIT;
        let mut state = self.0.lock();
        while !thread.is_finished() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // The thread notifies this as its last act, and is finished a moment later.
            let waited = self.0.changed.wait_timeout(state, left.min(END_INTERVAL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<W: Waiting> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a batch, and takes it. `None` at the end.
    fn take(&self) -> Option<W::Batch> {
        let mut state = self.lock();
        while state.waiting.bytes() == 0 && !state.has_ended {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let due = Instant::now() + BATCH_TIME;
        while state.waiting.bytes() < W::BATCH_BYTES && !state.has_ended {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting.take()
    }

    /// Pauses, unless the end comes. Returns whether it has come.
    fn pause(&self, pause: Duration) -> bool {
        let due = Instant::now() + pause;
        let mut state = self.lock();
        while !state.has_ended {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The thread.
struct Sender<W, E> {
    receiver: Receiver,
    encode: E,
    shared: Arc<Shared<W>>,
    /// Whether the log says so.
    is_away: bool,
}

impl<W: Waiting, E: Fn(&W::Batch) -> Vec<u8>> Sender<W, E> {
    fn run(mut self) {
        while let Some(batch) = self.shared.take() {
            let fate = self.send(&(self.encode)(&batch));
            self.shared.lock().waiting.settle(batch, fate);
        }
        self.shared.changed.notify_all();
    }

    fn send(&mut self, request: &[u8]) -> Fate {
        let (what, mut pause, mut attempt) = (W::WHAT, RETRY_FIRST, 1);
        loop {
            let (reason, after) = match self.receiver.post(request) {
                Reply::Taken { rejected } => {
                    let endpoint = &self.receiver.endpoint;
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!(%endpoint, "the receiver of {what} takes them again");
                    }
                    if rejected > 0 {
                        tracing::warn!(%endpoint, rejected, "the receiver of {what} rejects some");
                    }
                    return Fate::Taken { rejected };
                }
                Reply::Refused(status) => {
                    let endpoint = &self.receiver.endpoint;
                    tracing::warn!(%endpoint, status, "the receiver of {what} refuses them");
                    return Fate::Refused;
                }
                Reply::Later { reason, after } => (reason, after),
            };
            if !std::mem::replace(&mut self.is_away, true) {
                let endpoint = &self.receiver.endpoint;
                tracing::warn!(%endpoint, %reason, "the receiver of {what} takes none; calls go on");
            }
            let wait = pause.max(after.unwrap_or_default()).min(RETRY_LONGEST);
            if W::ATTEMPTS.is_some_and(|attempts| attempt >= attempts) {
                return Fate::Unsent { has_ended: false };
            }
            if self.shared.pause(wait) {
                return Fate::Unsent { has_ended: true };
            }
            pause = (pause * 2).min(RETRY_LONGEST);
            attempt += 1;
        }
    }
}
