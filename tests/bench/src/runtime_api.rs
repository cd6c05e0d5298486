//! The least Runtime API that the vendor's clients work with (contract §1).
//!
//! Events wait for a process that asks for the `next`, or the other way round; the process that
//! asked last is served first. No limits, no logs, no deadlines. `runtime_proxy` feeds it from
//! HTTP; `cold_start` only waits for the first `next`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::{Notify, oneshot};

const INVOCATION: &str = "/2018-06-01/runtime/invocation/";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:bench";
/// The deadline in the header; nothing here enforces it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// One function's events and the processes that ask for them.
#[derive(Debug, Default)]
pub(crate) struct RuntimeApi {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<oneshot::Sender<Event>>,
    waiting: VecDeque<Event>,
    running: HashMap<u64, oneshot::Sender<Bytes>>,
    last_id: u64,
}

#[derive(Debug)]
struct Event {
    payload: Bytes,
    reply: oneshot::Sender<Bytes>,
}

impl RuntimeApi {
    /// Passes the event to a process and waits for the response.
    pub(crate) async fn invoke(&self, payload: Bytes) -> Result<Bytes> {
        let (reply, replied) = oneshot::channel();
        self.state().hand_over(Event { payload, reply });
        replied.await.context("the event was dropped")
    }

    /// Returns once a process asks for an event; at once if one has since the last time.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Answers one request of a runtime process.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        if path.strip_prefix(INVOCATION) == Some("next") {
            self.asked.notify_one();
            return self.next().await;
        }
        let body = request.into_body().collect().await?.to_bytes();
        let Some((id, _)) = path
            .strip_prefix(INVOCATION)
            .and_then(|rest| rest.split_once('/'))
        else {
            // The init error of a function that cannot start: no process will ask for its events.
            bail!("{path}: {}", String::from_utf8_lossy(&body));
        };
        let id = id.parse::<u64>().with_context(|| path.clone())?;
        let reply = self
            .state()
            .running
            .remove(&id)
            .context("an unknown event was answered")?;
        // The caller may have gone.
        let _ = reply.send(body);
        accepted()
    }

    async fn next(&self) -> Result<Response<Full<Bytes>>> {
        let (sender, given) = oneshot::channel();
        self.state().ask(sender);
        let Event { payload, reply } = given.await.context("the Runtime API ends")?;
        let id = self.state().run(reply);
        let mut response = Response::new(Full::new(payload));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("lambda-runtime-aws-request-id", HeaderValue::from(id));
        headers.insert(
            "lambda-runtime-invoked-function-arn",
            HeaderValue::from_static(ARN),
        );
        let deadline = (SystemTime::now() + TIMEOUT)
            .duration_since(UNIX_EPOCH)?
            .as_millis();
        let deadline = u64::try_from(deadline).context("a deadline in the far future")?;
        headers.insert("lambda-runtime-deadline-ms", HeaderValue::from(deadline));
        Ok(response)
    }

    /// Never held across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the event to the process that asked last and is still connected, or else puts it at the end of the queue.
    fn hand_over(&mut self, mut event: Event) {
        while let Some(process) = self.idle.pop() {
            match process.send(event) {
                Ok(()) => return,
                Err(given_back) => event = given_back,
            }
        }
        self.waiting.push_back(event);
    }

    fn ask(&mut self, process: oneshot::Sender<Event>) {
        match self.waiting.pop_front() {
            // A process that disconnects now loses the event, and the caller gets an error.
            Some(event) => drop(process.send(event)),
            None => self.idle.push(process),
        }
    }

    fn run(&mut self, reply: oneshot::Sender<Bytes>) -> u64 {
        self.last_id += 1;
        self.running.insert(self.last_id, reply);
        self.last_id
    }
}

fn accepted() -> Result<Response<Full<Bytes>>> {
    let body = Full::new(Bytes::from_static(b"{\"status\":\"OK\"}"));
    Ok(Response::builder()
        .status(StatusCode::ACCEPTED)
        .body(body)?)
}
