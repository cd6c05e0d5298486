//! Entry points for the fuzz targets in `fuzz/`, without connections and without a runtime process.
//!
//! Each runs one scenario: a claim, an invocation, or the output of a process. The targets check the results.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::{Request, Response};
use pilotlight_core::instance::parts::OwnArchive;
use pilotlight_wire::answer::LeaseAnswer;
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::stream::{StreamEnd, StreamHead};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{self, LocalSet};

use crate::in_process::Process;
use crate::output::Output;
use crate::worker::{Setup, Worker};
use crate::{claim, control_api, runtime_api};

/// How many turns of the thread a request may take. One that has no answer then waits for an event.
const TURNS: usize = 8;

/// A body that arrives in pieces.
pub trait Pieces: Body<Data = Bytes, Error: Error + Send + Sync> + Unpin + 'static {}
impl<B: Body<Data = Bytes, Error: Error + Send + Sync> + Unpin + 'static> Pieces for B {}

/// The thread that runs the scenarios, one after the other.
#[derive(Debug)]
pub struct Thread {
    runtime: Runtime,
}

/// The result of a claim.
#[derive(Debug)]
pub struct Claimed {
    pub answer: Response<Bytes>,
    /// The instance's name and its configuration, if the claim was accepted.
    pub accepted: Option<(String, InstanceConfig)>,
}

/// The responses of an invocation; `None` for a request that still waits.
#[derive(Debug)]
pub struct InvocationResponses {
    pub lease: Option<Response<Bytes>>,
    pub runtime: Vec<Option<Response<Bytes>>>,
}

impl Thread {
    /// # Panics
    /// If the machine has no room for a thread's runtime.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        Thread { runtime }
    }

    /// Claims an instance. `own`: its configuration, if it was started with one. With `archives` it was made for these,
    /// and gateways have to prove who they are.
    ///
    /// # Panics
    /// If the response is incomplete.
    pub fn claim(
        &self,
        root: &Path,
        own: Option<(String, InstanceConfig)>,
        archives: Option<Vec<OwnArchive>>,
        body: impl Pieces,
    ) -> Claimed {
        let claimed = async {
            let needs_parts = archives.is_some();
            let own = own.map(|(instance, config)| claim::Own {
                instance: Some(instance),
                config,
                archives,
            });
            let claimed = claim::of_body(root.to_owned(), own, needs_parts, body);
            let (response, claimed) = claimed.await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("a text").to_bytes();
            let accepted = claimed.ok().flatten();
            Claimed {
                answer: Response::from_parts(head, body),
                accepted: accepted.map(|claimed| (claimed.instance, claimed.config)),
            }
        };
        LocalSet::new().block_on(&self.runtime, claimed)
    }

    /// Handles a gateway's lease, and meanwhile the runtime's requests in their order.
    ///
    /// # Panics
    /// If a request panics.
    pub fn invoke<B: Pieces>(
        &self,
        config: InstanceConfig,
        lease: Request<B>,
        requests: Vec<Request<B>>,
    ) -> InvocationResponses {
        let scenario = async {
            // Nothing receives the exits of the process.
            let (events, _) = mpsc::unbounded_channel();
            let setup = Setup {
                processes: Box::new(Rc::new(Process::new(events))),
                ..Setup::default()
            };
            let worker = Worker::new(config, setup);
            worker.borrow_mut().boot();
            let lease_response = Rc::new(RefCell::new(None));
            let lease = {
                let (worker, lease_response) = (worker.clone(), lease_response.clone());
                task::spawn_local(async move {
                    let (head, body) = control_api::lease(&worker, lease).await.into_parts();
                    let body = body.collect().await.expect("an answer");
                    let trailers = body.trailers().cloned().unwrap_or_default();
                    let (stream, end) = (StreamHead::read(&head), StreamEnd::read(&trailers));
                    let response = match (stream, end) {
                        // As a gateway collects it.
                        (Some(stream), Some(end)) => {
                            let status = end.status.expect("an instance sends its status");
                            let failure = end.failure;
                            let answer = stream.into_answer(body.to_bytes(), end);
                            let answer = LeaseAnswer {
                                report: None,
                                is_error: answer.is_error,
                                body: answer.body,
                                content_type: answer.content_type,
                                log_tail: answer.log_tail,
                                phases: answer.phases.unwrap_or_default(),
                                status,
                                failure,
                            };
                            answer.into_response()
                        }
                        _ => Response::from_parts(head, body.to_bytes()),
                    };
                    *lease_response.borrow_mut() = Some(response);
                })
            };
            let mut tasks = Vec::new();
            for request in requests {
                let worker = worker.clone();
                let task = task::spawn_local(async move {
                    let answer = runtime_api::answer(&worker, request).await;
                    let (head, body) = answer.into_parts();
                    let body = body.collect().await.expect("held whole").to_bytes();
                    Response::from_parts(head, body)
                });
                turns().await;
                tasks.push(task);
            }
            turns().await;
            let mut runtime = Vec::new();
            for task in tasks {
                runtime.push(match task.is_finished() {
                    true => Some(task.await.expect("no panic")),
                    false => None,
                });
            }
            match lease.is_finished() {
                true => lease.await.expect("no panic"),
                false => lease.abort(),
            }
            let lease = lease_response.borrow_mut().take();
            InvocationResponses { lease, runtime }
        };
        LocalSet::new().block_on(&self.runtime, scenario)
    }

    /// The records in the output of a process, which writes it in these pieces.
    ///
    /// # Panics
    /// If the machine has no pipe left.
    pub fn records(&self, pieces: &[&[u8]]) -> Vec<String> {
        let within = self.runtime.enter();
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut output = Output::new(reader).expect("a watched pipe");
        let mut records = Vec::new();
        for piece in pieces.iter().flat_map(|piece| piece.chunks(32 * 1024)) {
            writer.write_all(piece).expect("room in the pipe");
            output.drain_all(&mut |text| records.push(text.to_owned()));
        }
        output.end(&mut |text| records.push(text.to_owned()));
        drop((output, within));
        // The runtime closes the pipe only when it runs.
        self.runtime.block_on(task::yield_now());
        records
    }
}

async fn turns() {
    for _ in 0..TURNS {
        task::yield_now().await;
    }
}
