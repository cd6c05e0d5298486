//! The claim of an unclaimed instance: a gateway makes it an instance of a function.
//!
//! Owns `POST /claim` (`pilotlight_wire`): a line of JSON, then the code as a tar, which is unpacked while it
//! arrives. The first claim wins. If its code is incomplete or not valid, the process ends, because the disk may
//! hold a part of it. `lifecycle` waits here, then starts the runtime process.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode};
use pilotlight_wire::claim::{CLAIM_PATH, Claim, ClaimAnswer};
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::drain;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::connection::{Gateways, Listener};
use crate::response::{self, ControlResponse, control};

/// Bytes of the first line. An environment has 4 KB, and everything else in the line is small.
const LINE_LIMIT: usize = 1024 * 1024;
/// Bytes of the tar: 250 MiB for the code and for each of five layers, as on the original platform, and their
/// names.
const CODE_LIMIT: u64 = 2 * 1024 * 1024 * 1024;
/// Pieces of a tar that may wait between the connection and the disk.
const PIECES_IN_TRANSIT: usize = 8;

/// The result of a claim.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) instance: String,
    pub(crate) config: InstanceConfig,
    /// Whether the configuration came with the claim, which means that the instance is from a warm pool.
    pub(crate) from_pool: bool,
    /// How long it took to receive and unpack the code; `None` if the claim brought none.
    pub(crate) unpack: Option<Duration>,
}

/// A claim's body.
trait ClaimBody: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin {}
impl<B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin> ClaimBody for B {}

struct PendingClaim {
    root: PathBuf,
    /// The instance's own configuration, if it was started with one.
    own: Option<InstanceConfig>,
    /// The instance name in the first claim, once that has arrived.
    first: Option<String>,
    /// `None` once the wait is over.
    waiting: Option<oneshot::Sender<ClaimResult>>,
}

/// How the wait ended; `None` if the process has to end unclaimed.
type ClaimResult = anyhow::Result<Option<Claimed>>;

impl PendingClaim {
    fn new(
        root: PathBuf,
        own: Option<InstanceConfig>,
    ) -> (Rc<RefCell<Self>>, oneshot::Receiver<ClaimResult>) {
        let (waiting, result) = oneshot::channel();
        let pending = PendingClaim {
            root,
            own,
            first: None,
            waiting: Some(waiting),
        };
        (Rc::new(RefCell::new(pending)), result)
    }
}

/// Waits for a claim and its code; `None` if a gateway drains the instance instead.
pub(crate) async fn wait(
    listener: &Listener,
    root: PathBuf,
    own: Option<InstanceConfig>,
) -> anyhow::Result<Option<Claimed>> {
    let (pending, mut result) = PendingClaim::new(root, own);
    let connections = Gateways::default();
    let claimed = loop {
        let stream = tokio::select! {
            // The result first: a connection that is accepted after a claim's answer belongs to the instance.
            biased;
            result = &mut result => break result.context("the claim was dropped")?,
            stream = listener.next() => stream,
        };
        let pending = pending.clone();
        connections.serve(stream, move |request| {
            let pending = pending.clone();
            async move { answer(&pending, request).await }
        });
    };
    // The function starts without waiting until the gateway has read the answer: if that gets lost, the gateway
    // claims again.
    let closing = tokio::task::spawn_local(connections.close());
    if !matches!(claimed, Ok(Some(_))) {
        closing.await.context("the connections' task panicked")?;
    }
    claimed
}

/// Refuses a claim because the instance is claimed already.
pub(crate) fn already_claimed(instance: Option<&str>) -> ControlResponse {
    let instance = instance.map(str::to_owned);
    control(ClaimAnswer::TooLate { instance }.into_response())
}

async fn answer(
    pending: &Rc<RefCell<PendingClaim>>,
    request: Request<Incoming>,
) -> ControlResponse {
    match (request.method(), request.uri().path()) {
        (&Method::POST, CLAIM_PATH) => claim(pending, request.into_body()).await,
        (&Method::POST, drain::DRAIN_PATH) => {
            finish(pending, Ok(None));
            response::text(StatusCode::ACCEPTED, "")
        }
        _ => response::text(
            StatusCode::NOT_FOUND,
            "an unclaimed instance has /claim and /drain\n",
        ),
    }
}

fn finish(pending: &Rc<RefCell<PendingClaim>>, result: anyhow::Result<Option<Claimed>>) {
    if let Some(waiting) = pending.borrow_mut().waiting.take() {
        // It fails if the wait was dropped, because the process has to end.
        let _ = waiting.send(result);
    }
}

async fn claim(pending: &Rc<RefCell<PendingClaim>>, mut body: impl ClaimBody) -> ControlResponse {
    let (claim, rest) = match first_line(&mut body).await {
        Ok(read) => read,
        Err(error) => return bad_request(&error),
    };
    let (root, own) = {
        let mut pending = pending.borrow_mut();
        if let Some(first) = &pending.first {
            return already_claimed(Some(first));
        }
        let own = pending.own.clone();
        if claim.config.is_none() && own.is_none() {
            return bad_request(&anyhow::anyhow!(
                "a claim of this instance needs a `config`"
            ));
        }
        pending.first = Some(claim.instance.clone());
        (pending.root.clone(), own)
    };
    let from_pool = claim.config.is_some();
    let unpacked = unpack(rest, body, root).await;
    let response = match &unpacked {
        Ok(unpack) => control(ClaimAnswer::Taken { unpack: *unpack }.into_response()),
        Err(error) => bad_request(error),
    };
    let config = claim.config.or(own).context("no configuration");
    let claimed = unpacked.and_then(|unpack| {
        Ok(Some(Claimed {
            instance: claim.instance,
            config: config?,
            from_pool,
            unpack,
        }))
    });
    finish(pending, claimed);
    response
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

/// Unpacks the tar while it arrives, on another thread, because this one must not wait for disks. Returns how
/// long that took; `None` if there is no tar.
async fn unpack(
    first: Bytes,
    mut body: impl ClaimBody,
    root: PathBuf,
) -> anyhow::Result<Option<Duration>> {
    if first.is_empty() && body.is_end_stream() {
        return Ok(None);
    }
    let begun = clock::now();
    let (pieces, received) = mpsc::channel(PIECES_IN_TRANSIT);
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(PieceReader {
            pieces: received,
            piece: first,
            left: CODE_LIMIT,
        });
        archive.set_preserve_permissions(true);
        // The tars of code and layers follow each other, each with zeros at its end.
        archive.set_ignore_zeros(true);
        let mut checked = PathBuf::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?;
            let parent = name.parent().unwrap_or(Path::new(""));
            // Most entries lie in the same folder as the entry before, which is checked already.
            if *parent != *checked {
                if lies_below_link(&root, parent) {
                    return Err(io::Error::other("a name lies below a link"));
                }
                checked = parent.to_owned();
            }
            if !entry.unpack_in(&root)? {
                return Err(io::Error::other("a name leads outside"));
            }
        }
        // Padding may follow the end of a tar.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        io::Result::Ok(())
    });
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(_trailers)) => continue,
            Err(error) => {
                broken = Some(error);
                Err(())
            }
        };
        // If the unpacking has failed, nothing receives the piece. The cause is returned below.
        if pieces.send(piece).await.is_err() || broken.is_some() {
            break;
        }
    }
    drop(pieces);
    let unpacked = unpacking.await.context("the unpacking panicked")?;
    match broken {
        Some(error) => return Err(error).context("the connection broke within the code"),
        None => unpacked.context("the code cannot be unpacked")?,
    }
    Ok(Some(clock::now() - begun))
}

/// Whether one of these folders is a link. Code and layers may have links that lead anywhere, so nothing
/// is written through one. The first folder is the image's own.
fn lies_below_link(root: &Path, folder: &Path) -> bool {
    let mut path = root.to_owned();
    folder.components().enumerate().any(|(depth, part)| {
        path.push(part);
        depth > 0 && path.is_symlink()
    })
}

/// The tar's pieces, read on another thread while they arrive.
struct PieceReader {
    pieces: mpsc::Receiver<Result<Bytes, ()>>,
    piece: Bytes,
    left: u64,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(())) => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => return Ok(0),
            }
        }
        let size = buffer.len().min(self.piece.len());
        let left = self.left.checked_sub(size as u64);
        self.left =
            left.ok_or_else(|| io::Error::other("it is larger than code and layers may be"))?;
        self.piece.copy_to_slice(&mut buffer[..size]);
        Ok(size)
    }
}

/// Claims an unclaimed instance without a connection. Returns the response and the result.
#[cfg(fuzzing)]
pub(crate) async fn of_body<B>(
    root: PathBuf,
    own: Option<InstanceConfig>,
    body: B,
) -> (ControlResponse, anyhow::Result<Option<Claimed>>)
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin,
{
    let (pending, mut result) = PendingClaim::new(root, own);
    let response = claim(&pending, body).await;
    (response, result.try_recv().unwrap_or(Ok(None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_over_the_limit_is_not_read() {
        let (_, pieces) = mpsc::channel(1);
        let piece = Bytes::from_static(b"abcd");
        let mut reader = PieceReader {
            pieces,
            piece,
            left: 3,
        };
        let mut buffer = [0; 2];
        assert_eq!(reader.read(&mut buffer).ok(), Some(2));
        assert!(reader.read(&mut buffer).is_err());
    }
}
