//! An instance that nobody has claimed yet: it waits for a gateway that says what it is.
//!
//! Owns `POST /claim` (`pilotlight_wire`): a line of JSON, then the code as a tar, unpacked
//! while it arrives. The first claim wins. One that breaks off ends the process: whatever it has
//! left on the disk goes with the instance. What follows is `lifecycle`'s.

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

/// Of the first line: environments are of 4 KB, and so is little else.
const LINE_LIMIT: usize = 1024 * 1024;
/// Of what follows: the vendor's 250 MiB for the code and for each of five layers, and their names.
const CODE_LIMIT: u64 = 2 * 1024 * 1024 * 1024;
/// Pieces of a tar between the connection and the disk.
const PIECES: usize = 8;

/// What a claim has made of the instance.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) instance: String,
    pub(crate) config: InstanceConfig,
    /// The configuration came with the claim: the instance is from a warm pool.
    pub(crate) from_pool: bool,
    /// How long the code took to arrive, if any did.
    pub(crate) unpack: Option<Duration>,
}

/// A claim's body, as hyper has it.
trait Arrives: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin {}
impl<B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin> Arrives for B {}

struct Waiting {
    root: PathBuf,
    own: Option<InstanceConfig>,
    /// The name of the claim that came first.
    first: Option<String>,
    tell: Option<oneshot::Sender<Told>>,
}

/// What has become of the wait.
type Told = anyhow::Result<Option<Claimed>>;

impl Waiting {
    fn new(
        root: PathBuf,
        own: Option<InstanceConfig>,
    ) -> (Rc<RefCell<Self>>, oneshot::Receiver<Told>) {
        let (tell, told) = oneshot::channel();
        let waiting = Waiting {
            root,
            own,
            first: None,
            tell: Some(tell),
        };
        (Rc::new(RefCell::new(waiting)), told)
    }
}

/// Waits for a claim and its code; `None` when it is told to end instead.
pub(crate) async fn wait(
    listener: &Listener,
    root: PathBuf,
    own: Option<InstanceConfig>,
) -> anyhow::Result<Option<Claimed>> {
    let (waiting, mut told) = Waiting::new(root, own);
    let connections = Gateways::default();
    let claimed = loop {
        let stream = tokio::select! {
            // First: who comes after a claim is answered comes to what it has become.
            biased;
            told = &mut told => break told.context("the claim was given up")?,
            stream = listener.next() => stream,
        };
        let waiting = waiting.clone();
        connections.serve(stream, move |request| {
            let waiting = waiting.clone();
            async move { answer(&waiting, request).await }
        });
    };
    // A gateway that does not read its answer asks again; a function does not wait for that.
    let closing = tokio::task::spawn_local(connections.close());
    if !matches!(claimed, Ok(Some(_))) {
        closing.await.context("the connections broke")?;
    }
    claimed
}

/// The response to a claim of an instance that is claimed.
pub(crate) fn too_late(instance: Option<&str>) -> ControlResponse {
    let instance = instance.map(str::to_owned);
    control(ClaimAnswer::TooLate { instance }.into_response())
}

async fn answer(waiting: &Rc<RefCell<Waiting>>, request: Request<Incoming>) -> ControlResponse {
    match (request.method(), request.uri().path()) {
        (&Method::POST, CLAIM_PATH) => claim(waiting, request.into_body()).await,
        (&Method::POST, drain::DRAIN_PATH) => {
            finish(waiting, Ok(None));
            response::text(StatusCode::ACCEPTED, "")
        }
        _ => response::text(
            StatusCode::NOT_FOUND,
            "an instance that is not claimed has /claim and /drain\n",
        ),
    }
}

fn finish(waiting: &Rc<RefCell<Waiting>>, result: anyhow::Result<Option<Claimed>>) {
    if let Some(tell) = waiting.borrow_mut().tell.take() {
        // Nobody waits any more once the process is told to end.
        let _ = tell.send(result);
    }
}

async fn claim(waiting: &Rc<RefCell<Waiting>>, mut body: impl Arrives) -> ControlResponse {
    let (claim, rest) = match first_line(&mut body).await {
        Ok(read) => read,
        Err(error) => return bad(&error),
    };
    let (root, own) = {
        let mut waiting = waiting.borrow_mut();
        if let Some(first) = &waiting.first {
            return too_late(Some(first));
        }
        let own = waiting.own.clone();
        if claim.config.is_none() && own.is_none() {
            return bad(&anyhow::anyhow!(
                "a claim of this instance needs a `config`"
            ));
        }
        waiting.first = Some(claim.instance.clone());
        (waiting.root.clone(), own)
    };
    let from_pool = claim.config.is_some();
    let unpacked = unpack(rest, body, root).await;
    let reply = match &unpacked {
        Ok(unpack) => control(ClaimAnswer::Taken { unpack: *unpack }.into_response()),
        Err(error) => bad(error),
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
    finish(waiting, claimed);
    reply
}

fn bad(error: &anyhow::Error) -> ControlResponse {
    let reason = format!("{error:#}");
    control(ClaimAnswer::Refused { reason }.into_response())
}

/// The claim, and the beginning of the tar that follows it.
async fn first_line(body: &mut impl Arrives) -> anyhow::Result<(Claim, Bytes)> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the claim broke off")?.into_data() else {
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
    bail!("the claim broke off before the end of its first line")
}

/// Unpacks what arrives, on a thread of its own: disks are not waited for on this one. How long that
/// takes, if anything arrives.
async fn unpack(
    first: Bytes,
    mut body: impl Arrives,
    root: PathBuf,
) -> anyhow::Result<Option<Duration>> {
    if first.is_empty() && body.is_end_stream() {
        return Ok(None);
    }
    let begun = clock::now();
    let (pieces, arriving) = mpsc::channel(PIECES);
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Archive::new(Arriving {
            pieces: arriving,
            piece: first,
            left: CODE_LIMIT,
        });
        archive.set_preserve_permissions(true);
        // Code and layers come as one tar after the other.
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
        // A tar may have padding after its end.
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
        // Its reader may have found a fault, which is told below.
        if pieces.send(piece).await.is_err() || broken.is_some() {
            break;
        }
    }
    drop(pieces);
    let unpacked = unpacking.await.context("unpacking was given up")?;
    match broken {
        Some(error) => return Err(error).context("the code broke off"),
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

/// The tar as it arrives, to be read on another thread.
struct Arriving {
    pieces: mpsc::Receiver<Result<Bytes, ()>>,
    piece: Bytes,
    left: u64,
}

impl Read for Arriving {
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
        self.left = left.ok_or_else(|| io::Error::other("it is larger than any code"))?;
        self.piece.copy_to_slice(&mut buffer[..size]);
        Ok(size)
    }
}

/// One claim of an instance that waits, without a connection: its answer, and what it has made of
/// the instance.
#[cfg(fuzzing)]
pub(crate) async fn of_body<B>(
    root: PathBuf,
    own: Option<InstanceConfig>,
    body: B,
) -> (ControlResponse, anyhow::Result<Option<Claimed>>)
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin,
{
    let (waiting, mut told) = Waiting::new(root, own);
    let reply = claim(&waiting, body).await;
    (reply, told.try_recv().unwrap_or(Ok(None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_bounded() {
        let (_, pieces) = mpsc::channel(1);
        let piece = Bytes::from_static(b"abcd");
        let mut arriving = Arriving {
            pieces,
            piece,
            left: 3,
        };
        let mut buffer = [0; 2];
        assert_eq!(arriving.read(&mut buffer).ok(), Some(2));
        assert!(arriving.read(&mut buffer).is_err());
    }
}
