//! Ways in for `fuzz/`, which has no connections and starts no runtime process.
//!
//! Each plays one life: a claim, an invocation, what a process prints. What must hold of the answers
//! is said there.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::{Request, Response};
use pilotlight_wire::config::InstanceConfig;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{self, LocalSet};

use crate::in_process::Process;
use crate::output::Output;
use crate::worker::{Origin, Worker};
use crate::{claim, control_api, runtime_api};

/// Turns of the thread in which a call that can be answered has been.
const TURNS: usize = 8;

/// A body in pieces.
pub trait Pieces: Body<Data = Bytes, Error: Error + Send + Sync> + Unpin + 'static {}
impl<B: Body<Data = Bytes, Error: Error + Send + Sync> + Unpin + 'static> Pieces for B {}

/// What runs the lives, one after the other.
#[derive(Debug)]
pub struct Thread {
    runtime: Runtime,
}

/// What became of a claim.
#[derive(Debug)]
pub struct Claimed {
    pub answer: Response<Bytes>,
    /// The instance's name and what it runs, if the claim was taken.
    pub taken: Option<(String, InstanceConfig)>,
}

/// What became of an invocation. `None`: that call still waits.
#[derive(Debug)]
pub struct Played {
    pub leased: Option<Response<Bytes>>,
    pub answers: Vec<Option<Response<Bytes>>>,
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

    /// One claim of an instance that waits for its configuration, or has it as its `own`.
    ///
    /// # Panics
    /// If the answer breaks off.
    pub fn claim(&self, root: &Path, own: Option<InstanceConfig>, body: impl Pieces) -> Claimed {
        let claimed = async {
            let (reply, claimed) = claim::of_body(root.to_owned(), own, body).await;
            let (head, body) = reply.into_parts();
            let body = body.collect().await.expect("a text").to_bytes();
            let taken = claimed.ok().flatten();
            Claimed {
                answer: Response::from_parts(head, body),
                taken: taken.map(|claimed| (claimed.instance, claimed.config)),
            }
        };
        LocalSet::new().block_on(&self.runtime, claimed)
    }

    /// A gateway's lease, and meanwhile the runtime's calls, in their order.
    ///
    /// # Panics
    /// If a call panics.
    pub fn play<B: Pieces>(
        &self,
        config: InstanceConfig,
        lease: Request<B>,
        calls: Vec<Request<B>>,
    ) -> Played {
        let played = async {
            // Nobody tells the worker that the process has ended.
            let (outside, _) = mpsc::unbounded_channel();
            let origin = Origin {
                processes: Box::new(Rc::new(Process::new(outside))),
                ..Origin::default()
            };
            let worker = Worker::new(config, origin);
            worker.borrow_mut().boot();
            let told = Rc::new(RefCell::new(None));
            let lease = {
                let (worker, told) = (worker.clone(), told.clone());
                task::spawn_local(async move {
                    let (head, body) = control_api::lease(&worker, lease).await.into_parts();
                    let body = body.collect().await.expect("an answer").to_bytes();
                    *told.borrow_mut() = Some(Response::from_parts(head, body));
                })
            };
            let mut answers = Vec::new();
            for call in calls {
                let worker = worker.clone();
                let call = task::spawn_local(async move {
                    let answer = runtime_api::answer(&worker, call).await;
                    let (head, body) = answer.into_parts();
                    let body = body.collect().await.expect("held whole").to_bytes();
                    Response::from_parts(head, body)
                });
                turns().await;
                answers.push(call);
            }
            turns().await;
            let mut answered = Vec::new();
            for answer in answers {
                answered.push(match answer.is_finished() {
                    true => Some(answer.await.expect("no panic")),
                    false => None,
                });
            }
            match lease.is_finished() {
                true => lease.await.expect("no panic"),
                false => lease.abort(),
            }
            let leased = told.borrow_mut().take();
            Played {
                leased,
                answers: answered,
            }
        };
        LocalSet::new().block_on(&self.runtime, played)
    }

    /// The records of what a process has written piece by piece.
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
        // The runtime gives pipes back only when it runs.
        self.runtime.block_on(task::yield_now());
        records
    }
}

async fn turns() {
    for _ in 0..TURNS {
        task::yield_now().await;
    }
}
