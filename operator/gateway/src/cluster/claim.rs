//! Claims a pod of a warm pool: sends its supervisor the configuration of an instance and the code.
//!
//! `cluster::backend` chooses the pod. The supervisor's `claim` receives the message, `wire::claim`, and compares the code
//! with the digests that the message names first. If an earlier
//! attempt has claimed the pod for the same instance, the claim counts as successful, so a gateway that adopts an
//! instance need not know whether it is claimed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Body as _;
use pilotlight_core::instance::parts::{Digest, Part};
use pilotlight_core::reason::Reason;
use pilotlight_net::address::{self, Stream};
use pilotlight_net::body::{self, Whole};
use pilotlight_net::client::HttpClient;
use pilotlight_net::keepalive;
use pilotlight_wire::claim::{ARCHIVES, CLAIM_PATH, Claim, ClaimAnswer, TAKES};
use pilotlight_wire::status;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::codes::{CodePart, Content, Form};
use super::sealed::Sealed;
use super::supervisors::Supervisor;

/// Connect timeout, with the proof of who is at both ends. An unclaimed supervisor has nothing else to do, so one that
/// does not accept is unreachable. An exchange over a connection that was kept connects again after this time, to see
/// that the machine is still there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connect timeout of that second connection. The kernel sends a packet that was lost again after one second, and a claim
/// must not fail for one packet.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of code that are read from a file at a time. Tokio passes each read to a blocking thread, which has a cost.
const READ_SIZE: usize = 256 * 1024;

/// The longest refusal that is read from a supervisor, in bytes.
const REFUSAL_LIMIT: usize = 64 * 1024;

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A supervisor's own word on what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The name of the instance that the pod has become by a claim.
    Instance(String),
    /// It waits for a claim, with the code in this form.
    Unclaimed(Form),
}

/// # Errors
/// If the pod cannot be reached, or does not say which instance it is.
pub(crate) async fn look(supervisor: &Supervisor) -> Result<Found, Reason> {
    let ask = async {
        let Exchanged { head, stream, .. } = exchange(supervisor, &Question::Status).await?;
        if head.status == StatusCode::NOT_FOUND {
            // The claim follows.
            if let Some(stream) = stream {
                supervisor.keep(stream);
            }
            let takes = head.headers.get(TAKES);
            return Ok(Found::Unclaimed(match takes.map(HeaderValue::as_bytes) {
                Some(form) if form == ARCHIVES.as_bytes() => Form::Archive,
                _ => Form::Tar,
            }));
        }
        let name = head.headers.get(status::INSTANCE);
        let name = name.and_then(|name| name.to_str().ok());
        let name = name.ok_or("it does not say which instance it is")?;
        Ok(Found::Instance(name.to_owned()))
    };
    ask.await
        .map_err(|error: Broken| unreachable(&error).into())
}

/// Why a pod was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotClaimed {
    #[error("another gateway has claimed it")]
    Lost,
    #[error("its supervisor refuses the code: {0}")]
    Refused(String),
    #[error("the gateway's cache of code cannot be read: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Unreachable(String),
}

/// Claims a pod and sends the parts of its code in order, which the claim names. Returns how long the pod took to unpack
/// them.
pub(crate) async fn claim(
    supervisor: &Supervisor,
    claim: &Claim,
    code: &[CodePart],
) -> Result<Duration, NotClaimed> {
    supervisor.begin_claim();
    let question = Question::Claim { claim, code };
    let exchanged = exchange(supervisor, &question).await;
    let Exchanged { head, text, stream } =
        exchanged.map_err(|error| match error.downcast::<Unreadable>() {
            Ok(unreadable) => NotClaimed::Unreadable(unreadable.0.to_string()),
            Err(error) => NotClaimed::Unreachable(unreachable(&error)),
        })?;
    match ClaimAnswer::read(&head, &text) {
        ClaimAnswer::Taken { unpack, stays_open } => {
            if let Some(stream) = stream.filter(|_| stays_open) {
                // The first lease follows.
                supervisor.keep(stream);
            }
            Ok(unpack.unwrap_or_default())
        }
        // This gateway or a previous owner of the function has already claimed the pod for the same instance.
        ClaimAnswer::TooLate { instance } if instance.as_ref() == Some(&claim.instance) => {
            Ok(Duration::ZERO)
        }
        ClaimAnswer::TooLate { .. } => Err(NotClaimed::Lost),
        ClaimAnswer::Refused { reason } => Err(NotClaimed::Refused(reason)),
    }
}

fn unreachable(error: &Broken) -> String {
    format!("its supervisor cannot be reached: {error}")
}

/// A part, and where its bytes are.
struct Opened {
    part: Part,
    source: Source,
}

enum Source {
    File(tokio::fs::File),
    Held(Bytes),
}

/// A file of the cache cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(io::Error);

async fn open(code: &[CodePart]) -> Result<Vec<Opened>, Unreadable> {
    let mut opened = Vec::new();
    for CodePart { field, content } in code {
        let (bytes, sha256, source) = match content.clone() {
            Content::Held(held) => (held.len() as u64, Digest::of(&held), Source::Held(held)),
            // The digest was made with the file, or is the author's. The file is not read before it is sent.
            Content::Tar(pinned) => from_file(move || Sealed::open(pinned.path())).await?,
            Content::Archive(pinned, sha256) => {
                from_file(move || Sealed::named(pinned.path(), sha256)).await?
            }
        };
        let field = field.clone();
        let part = Part {
            field,
            bytes,
            sha256,
        };
        opened.push(Opened { part, source });
    }
    Ok(opened)
}

async fn from_file(
    open: impl FnOnce() -> io::Result<Sealed> + Send + 'static,
) -> Result<(u64, Digest, Source), Unreadable> {
    let opened = tokio::task::spawn_blocking(open).await;
    let sealed = opened.map_err(io::Error::from).flatten();
    let sealed = sealed.map_err(Unreadable)?;
    let source = Source::File(tokio::fs::File::from_std(sealed.file));
    Ok((sealed.bytes, sealed.sha256, source))
}

/// A request that may be sent again.
enum Question<'a> {
    Status,
    Claim {
        claim: &'a Claim,
        code: &'a [CodePart],
    },
}

impl Question<'_> {
    async fn to_request(&self) -> Result<Request<Body>, Broken> {
        let Question::Claim { claim, code } = *self else {
            return Ok(Request::get(status::STATUS_PATH).body(Body::empty())?);
        };
        let code = open(code).await?;
        let parts = code.iter().map(|opened| opened.part.clone());
        let named = Claim {
            parts: Some(parts.collect()),
            ..claim.clone()
        };
        let line = named.to_line();
        let length = code.iter().map(|opened| opened.part.bytes);
        let length = line.len() as u64 + length.sum::<u64>();
        let mut body = stream::iter([io::Result::Ok(Bytes::from(line))]).boxed();
        for Opened { part, source } in code {
            body = match source {
                Source::Held(bytes) => body.chain(stream::iter([Ok(bytes)])).boxed(),
                Source::File(file) => {
                    let content = ReaderStream::with_capacity(file.take(part.bytes), READ_SIZE);
                    body.chain(content).boxed()
                }
            };
        }
        Ok(Request::post(CLAIM_PATH)
            .header(header::CONTENT_LENGTH, length)
            .body(Body::from_stream(body))?)
    }
}

/// A response, and the connection if it can carry another exchange.
struct Exchanged {
    head: http::response::Parts,
    text: Bytes,
    stream: Option<Stream>,
}

/// Asks twice if need be: a connection that was kept may be closed by now.
async fn exchange(supervisor: &Supervisor, question: &Question<'_>) -> Result<Exchanged, Broken> {
    if let Some(kept) = supervisor.take_kept() {
        let exchanged = exchange_over(kept, supervisor.address, question.to_request().await?);
        tokio::select! {
            biased;
            exchanged = exchanged => if exchanged.is_ok() { return exchanged },
            error = lost(supervisor.address) => return Err(error.into()),
        }
    }
    let opened = tokio::time::timeout(CONNECT_TIMEOUT, supervisor.open());
    exchange_over(
        opened.await??,
        supervisor.address,
        question.to_request().await?,
    )
    .await
}

async fn exchange_over(
    stream: Stream,
    address: SocketAddr,
    mut request: Request<Body>,
) -> Result<Exchanged, Broken> {
    let mut client = HttpClient::over(stream).await?;
    let host = HeaderValue::try_from(address.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    let (head, body) = client.send(request).await?.into_parts();
    // The status stream of a claimed instance has no end.
    if head.status.is_success() && !body.is_end_stream() {
        let (text, stream) = (Bytes::new(), None);
        return Ok(Exchanged { head, text, stream });
    }
    match client.during(body::read(body, REFUSAL_LIMIT, 0)).await {
        Whole::Complete(text) => {
            let stream = client.into_idle_stream();
            Ok(Exchanged { head, text, stream })
        }
        Whole::TooLarge => Err("its refusal is too long".into()),
        Whole::Broken(error) => Err(error.into()),
    }
}

/// Returns once the supervisor accepts no connections. While its machine runs it does so at once; after the loss of the
/// machine, a connection that was opened earlier shows that much later.
async fn lost(address: SocketAddr) -> io::Error {
    loop {
        tokio::time::sleep(CONNECT_TIMEOUT).await;
        if let Err(error) = address::connect(address, PROBE_TIMEOUT, keepalive::PARTS).await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pilotlight_core::instance::parts::OwnArchive;
    use tokio::net::TcpListener;
    use tokio::task::{self, LocalSet};

    use super::super::code_store::Pinned;
    use super::*;

    /// A claim that makes the pod the instance `name` of the function `hello`.
    fn own(name: &str) -> Claim {
        let config = serde_json::json!({
            "listen": "memory", "endsWithParent": false, "function": "hello", "memory": 128,
            "timeout": 3, "sanitizeErrors": false, "logFormat": "Text", "logs": true,
            "logGroup": "/aws/lambda/hello", "logStream": "2026/01/31/[$LATEST]0",
            "runtime": "custom", "command": ["/var/task/main"], "taskRoot": "/", "environment": {},
        });
        Claim {
            instance: name.to_owned(),
            config: Some(serde_json::from_value(config).expect("a configuration")),
            defaults: None,
            parts: None,
        }
    }

    fn held(field: &str, tar: Bytes) -> CodePart {
        let (field, content) = (field.to_owned(), Content::Held(tar));
        CodePart { field, content }
    }

    /// A part in a cache with this content, sealed with that of the digest.
    fn cached(cache: &Path, content: &[u8], sealed_as: &[u8]) -> CodePart {
        let file = [content, &Digest::of(sealed_as).to_bytes()].concat();
        std::fs::write(cache.join("layer.tar"), file).unwrap();
        let field = "spec.layers[0]".to_owned();
        let content = Content::Tar(Pinned::only(cache, "layer.tar"));
        CodePart { field, content }
    }

    /// A tar of one file.
    fn packed(name: &str) -> Bytes {
        let mut header = tar::Header::new_gnu();
        // The safe setters reject the names of a hostile archive, such as `../outside`.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b"hello"[..]).expect("in memory");
        builder.into_inner().expect("in memory").into()
    }

    /// Runs `test` with the address of a real supervisor that is unclaimed.
    async fn with_unclaimed<F: Future>(root: &Path, test: impl FnOnce(Supervisor) -> F) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let supervisor =
            pilotlight_supervisor::in_process::unclaimed(listener, root.to_owned(), None);
        let here = LocalSet::new();
        let test = async {
            let supervisor = task::spawn_local(supervisor);
            test(Supervisor::unproven(address)).await;
            supervisor.abort();
        };
        here.run_until(test).await;
    }

    #[tokio::test]
    async fn the_first_claim_brings_the_code_and_a_second_one_is_told_whose_it_is() {
        let root = tempfile::tempdir().unwrap();
        with_unclaimed(root.path(), async |supervisor| {
            assert_eq!(look(&supervisor).await, Ok(Found::Unclaimed(Form::Tar)));
            let cache = tempfile::tempdir().unwrap();
            let layer = packed("opt/b");
            let code = [
                held("spec.code.inline", packed("var/task/a")),
                cached(cache.path(), &layer, &layer),
            ];
            let unpacked = claim(&supervisor, &own("first"), &code).await.unwrap();
            assert!(unpacked > Duration::ZERO);
            for name in ["var/task/a", "opt/b"] {
                let text = std::fs::read_to_string(root.path().join(name)).unwrap();
                assert_eq!(text, "hello", "{name}");
            }

            let first = Found::Instance("first".to_owned());
            assert_eq!(look(&supervisor).await, Ok(first));
            let again = claim(&supervisor, &own("first"), &[]).await;
            assert!(again.is_ok(), "{again:?}");
            let other = claim(&supervisor, &own("second"), &[]).await;
            assert_eq!(other, Err(NotClaimed::Lost));
        })
        .await;
    }

    #[tokio::test]
    async fn code_that_leads_outside_is_refused_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        with_unclaimed(root.path(), async |supervisor| {
            let refused = claim(
                &supervisor,
                &own("first"),
                &[held("spec.code.inline", packed("../outside"))],
            )
            .await;
            let Err(NotClaimed::Refused(reason)) = refused else {
                panic!("{refused:?}");
            };
            assert!(reason.contains("a name leads outside"), "{reason}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_that_was_damaged_in_the_cache_is_refused_with_both_digests() {
        let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        with_unclaimed(root.path(), async |supervisor| {
            let layer = packed("opt/b");
            let mut damaged = layer.to_vec();
            damaged[512] ^= 1;
            let code = [cached(cache.path(), &damaged, &layer)];
            let refused = claim(&supervisor, &own("first"), &code).await;
            let Err(NotClaimed::Refused(reason)) = refused else {
                panic!("{refused:?}");
            };
            for word in [
                "spec.layers[0]".to_owned(),
                Digest::of(&layer).to_string(),
                Digest::of(&damaged).to_string(),
            ] {
                assert!(reason.contains(&word), "{reason}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_pod_of_one_function_says_that_it_takes_archives_and_refuses_every_other_one() {
        let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let supervisor = Supervisor::unproven(listener.local_addr().unwrap());
        let zipped = |text: &str| {
            let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut zipped, &packed(text)).expect("in memory");
            zipped.finish().expect("in memory")
        };
        let (own_code, other_code) = (zipped("own"), zipped("other"));
        let archives = vec![OwnArchive {
            field: "spec.code.archive".to_owned(),
            folder: "var/task".into(),
            sha256: Digest::of(&own_code),
        }];
        let archive = |content: &[u8]| {
            std::fs::write(cache.path().join("code.archive"), content).unwrap();
            let pinned = Pinned::only(cache.path(), "code.archive");
            [CodePart {
                field: "spec.code.archive".to_owned(),
                content: Content::Archive(pinned, Digest::of(content)),
            }]
        };
        let config = own("first").config.expect("a configuration");
        let of_pod = Claim {
            config: None,
            ..own("first")
        };
        let made_as = ("first".to_owned(), config);
        let path = root.path().to_owned();
        let waiting = pilotlight_supervisor::in_process::without_code(
            listener,
            path,
            made_as,
            Some(archives),
        );
        let here = LocalSet::new();
        here.run_until(async {
            let waiting = task::spawn_local(waiting);
            let found = look(&supervisor).await;
            assert_eq!(found, Ok(Found::Unclaimed(Form::Archive)));
            let refused = claim(&supervisor, &of_pod, &archive(&other_code)).await;
            assert!(
                matches!(refused, Err(NotClaimed::Refused(_))),
                "{refused:?}"
            );
            let taken = claim(&supervisor, &of_pod, &archive(&own_code)).await;
            assert!(taken.is_ok(), "{taken:?}");
            let text = std::fs::read_to_string(root.path().join("var/task/own"));
            assert_eq!(text.unwrap(), "hello");
            waiting.abort();
        })
        .await;
    }

    #[tokio::test]
    async fn a_supervisor_that_is_not_there_cannot_be_reached() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let supervisor = Supervisor::unproven(address);
        let unreachable = claim(&supervisor, &own("first"), &[]).await;
        assert!(matches!(unreachable, Err(NotClaimed::Unreachable(_))));
        assert!(look(&supervisor).await.is_err());
    }
}
