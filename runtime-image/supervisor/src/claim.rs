//! The claim of an unclaimed instance: a gateway makes it an instance of a function.
//!
//! Owns `POST /claim` (`pilotlight_wire`): a line of JSON, then the parts of the code, which `unpack` compares with their
//! digests and unpacks. The first claim wins, and it has a time limit. If its code is incomplete, not valid or not what the
//! line names, the process ends, because the disk may hold a part of it. A pod that was made as one instance becomes that
//! instance alone, with the configuration of its own pod and the archives of its function. `gateways` brings the requests,
//! and keeps the connection of the claim that wins.

mod unpack;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use pilotlight_core::instance::parts::OwnArchive;
use pilotlight_wire::claim::{ARCHIVES, CLAIM_PATH, Claim, ClaimAnswer, TAKES};
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::drain;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::unpack::{ClaimBody, Expected, unpack};
use crate::clock;
use crate::response::{self, ControlResponse, control};

/// Bytes of the first line. An environment has 4 KB, and everything else in the line is small.
const LINE_LIMIT: usize = 1024 * 1024;

/// How long a claim may take to send its first line.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a claim may take as a whole, however it trickles.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(120);

/// The result of a claim.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) instance: String,
    pub(crate) config: InstanceConfig,
    /// Whether the configuration came with the claim, which means that the instance is from a warm pool.
    pub(crate) from_pool: bool,
    /// As in [`Claim`].
    pub(crate) defaults: Option<Vec<String>>,
    /// How long it took to receive and unpack the code; `None` if the claim brought none.
    pub(crate) unpack: Option<Duration>,
}

/// A pod's own configuration, if it was made for one function.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// `None` from a controller of an earlier release, which does not say it.
    pub(crate) instance: Option<String>,
    pub(crate) config: InstanceConfig,
    /// As in `Unclaimed`.
    pub(crate) archives: Option<Vec<OwnArchive>>,
}

/// The wait for a claim.
#[derive(Debug)]
pub(crate) struct PendingClaim {
    root: PathBuf,
    own: Option<Own>,
    /// Whether a claim that names no parts is refused.
    needs_parts: bool,
    /// The instance name in the first claim, once that has arrived.
    first: Option<String>,
    /// `None` once the wait is over.
    waiting: Option<oneshot::Sender<ClaimResult>>,
    /// The first claim has succeeded.
    succeeded: CancellationToken,
}

/// How the wait ended; `None` if the process has to end unclaimed.
pub(crate) type ClaimResult = anyhow::Result<Option<Claimed>>;

impl PendingClaim {
    pub(crate) fn new(
        root: PathBuf,
        own: Option<Own>,
        needs_parts: bool,
    ) -> (Rc<RefCell<Self>>, oneshot::Receiver<ClaimResult>) {
        let (waiting, result) = oneshot::channel();
        let pending = PendingClaim {
            root,
            own,
            needs_parts,
            first: None,
            waiting: Some(waiting),
            succeeded: CancellationToken::new(),
        };
        (Rc::new(RefCell::new(pending)), result)
    }

    fn takes_archives(&self) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| own.archives.is_some())
    }
}

/// Refuses a claim because the instance is claimed already.
pub(crate) fn already_claimed(instance: Option<&str>) -> ControlResponse {
    let instance = instance.map(str::to_owned);
    control(ClaimAnswer::TooLate { instance }.into_response())
}

pub(crate) async fn answer(
    pending: &Rc<RefCell<PendingClaim>>,
    request: Request<Incoming>,
) -> ControlResponse {
    match (request.method(), request.uri().path()) {
        (&Method::POST, CLAIM_PATH) => claim(pending, request.into_body()).await,
        (&Method::POST, drain::DRAIN_PATH) => {
            finish(pending, Ok(None));
            response::text(StatusCode::ACCEPTED, "")
        }
        _ => {
            let text = "an unclaimed instance has /claim and /drain\n";
            let mut response = response::text(StatusCode::NOT_FOUND, text);
            if pending.borrow().takes_archives() {
                let headers = response.headers_mut();
                headers.insert(TAKES, HeaderValue::from_static(ARCHIVES));
            }
            response
        }
    }
}

fn finish(pending: &Rc<RefCell<PendingClaim>>, result: anyhow::Result<Option<Claimed>>) {
    let mut pending = pending.borrow_mut();
    if let Some(waiting) = pending.waiting.take() {
        if let Ok(Some(_)) = &result {
            pending.succeeded.cancel();
        }
        // It fails if the wait was dropped, because the process has to end.
        let _ = waiting.send(result);
    }
}

async fn claim(pending: &Rc<RefCell<PendingClaim>>, mut body: impl ClaimBody) -> ControlResponse {
    let begun = clock::now();
    let (claim, rest) = match timeout(LINE_TIMEOUT, first_line(&mut body)).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return bad_request(&error),
        // Nothing has been written, so another claim may follow.
        Err(_) => return bad_request(&anyhow!("no whole first line came within {LINE_TIMEOUT:?}")),
    };
    if let Some(refusal) = too_late(pending, &claim).await {
        return refusal;
    }
    let root = pending.borrow().root.clone();
    // Nothing is awaited since the look at `first`, so no other claim has come.
    let ((config, from_pool), expected) = {
        let mut pending = pending.borrow_mut();
        let own = pending.own.as_ref();
        let chosen = choose(own, &claim).and_then(|chosen| {
            let archives = own.and_then(|own| own.archives.as_deref());
            let named = claim.parts.as_deref();
            Ok((chosen, Expected::of(archives, named, pending.needs_parts)?))
        });
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(error) => return bad_request(&error),
        };
        pending.first = Some(claim.instance.clone());
        chosen
    };
    let limit = CLAIM_TIMEOUT.saturating_sub(clock::now() - begun);
    let unpacked = timeout(limit, unpack(rest, body, root, expected)).await;
    let unpacked =
        unpacked.unwrap_or_else(|_| Err(anyhow!("the claim took longer than {CLAIM_TIMEOUT:?}")));
    let response = match &unpacked {
        Ok(unpack) => taken(*unpack),
        Err(error) => bad_request(error),
    };
    let claimed = unpacked.map(|unpack| {
        Some(Claimed {
            instance: claim.instance,
            config,
            from_pool,
            defaults: claim.defaults,
            unpack,
        })
    });
    finish(pending, claimed);
    response
}

/// The answer, if another claim came first. One with the same name counts as success for who sent the later one, so its
/// answer waits for the success of the first one. If that fails the process ends, and this connection with it.
async fn too_late(pending: &RefCell<PendingClaim>, claim: &Claim) -> Option<ControlResponse> {
    let (first, succeeded) = {
        let pending = pending.borrow();
        (pending.first.clone()?, pending.succeeded.clone())
    };
    if first == claim.instance {
        succeeded.cancelled().await;
    }
    Some(already_claimed(Some(&first)))
}

/// An extension of the response to the claim that wins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WinsClaim;

fn taken(unpack: Option<Duration>) -> ControlResponse {
    let stays_open = true;
    let mut response = control(ClaimAnswer::Taken { unpack, stays_open }.into_response());
    response.extensions_mut().insert(WinsClaim);
    response
}

/// The configuration that the instance gets, and whether its pod is from a warm pool. A pod that was made as one
/// instance takes neither another name nor a configuration from a claim.
fn choose(own: Option<&Own>, claim: &Claim) -> anyhow::Result<(InstanceConfig, bool)> {
    match (own, &claim.config) {
        (None, Some(config)) => Ok((config.clone(), true)),
        (None, None) => bail!("a claim of this instance needs a `config`"),
        (Some(_), Some(_)) => {
            bail!("this pod has its configuration, and takes none from a claim: leave `config` out")
        }
        (Some(_), None) if claim.defaults.is_some() => {
            bail!(
                "this pod has its variables, and takes no names of defaults from a claim: leave `defaults` out"
            )
        }
        (Some(own), None) => match &own.instance {
            Some(name) if *name != claim.instance => {
                bail!(
                    "this pod is instance {name}, and cannot become {}",
                    claim.instance
                )
            }
            _ => Ok((own.config.clone(), false)),
        },
    }
}

fn bad_request(error: &anyhow::Error) -> ControlResponse {
    let reason = format!("{error:#}");
    control(ClaimAnswer::Refused { reason }.into_response())
}

/// Reads the claim. Returns it with the bytes of the tar that were read behind it.
async fn first_line(body: &mut impl ClaimBody) -> anyhow::Result<(Claim, Bytes)> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame
            .context("the connection broke within the claim")?
            .into_data()
        else {
            continue;
        };
        let searched = read.len();
        read.extend_from_slice(&data);
        if let Some(end) = read[searched..].iter().position(|byte| *byte == b'\n') {
            let line = read.split_to(searched + end);
            let claim = serde_json::from_slice(&line).context("the claim's first line")?;
            read.advance(1);
            return Ok((claim, read.freeze()));
        }
        if read.len() > LINE_LIMIT {
            bail!("the claim's first line is longer than {LINE_LIMIT} bytes");
        }
    }
    bail!("the claim ended before the end of its first line")
}

/// Claims an unclaimed instance without a connection. Returns the response and the result.
#[cfg(fuzzing)]
pub(crate) async fn of_body<B>(
    root: PathBuf,
    own: Option<Own>,
    needs_parts: bool,
    body: B,
) -> (ControlResponse, anyhow::Result<Option<Claimed>>)
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin,
{
    let (pending, mut result) = PendingClaim::new(root, own, needs_parts);
    let response = claim(&pending, body).await;
    (response, result.try_recv().unwrap_or(Ok(None)))
}

#[cfg(test)]
mod tests;
