//! Claims a pod of a warm pool: sends its supervisor the configuration of an instance and the code.
//!
//! `cluster::backend` decides which pod. The other end is the supervisor's `claim`; the message is
//! `wire::claim`. A claim that an earlier attempt has made for the same instance counts as successful, so a
//! gateway that adopts an instance need not know whether it is claimed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, Request, StatusCode, header};
use pilotlight_net::body::{self, Whole};
use pilotlight_net::client::HttpClient;
use pilotlight_net::{address, keepalive};
use pilotlight_wire::claim::{CLAIM_PATH, Claim, ClaimAnswer};
use pilotlight_wire::status;
use tokio_util::io::ReaderStream;

use super::codes::Tar;

/// How long connecting to a supervisor may take. One that waits for its claim has nothing else to do.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of code that are read from a file at a time. Each read is done by another thread.
const READ_SIZE: usize = 256 * 1024;

/// The longest reason for a refusal, in bytes.
const REFUSAL_LIMIT: usize = 64 * 1024;

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Whether any gateway has claimed the pod.
pub(crate) async fn is_claimed(address: SocketAddr) -> Result<bool, Arc<str>> {
    let ask = async {
        let request = Request::builder()
            .uri(status::STATUS_PATH)
            .body(Body::empty())?;
        let (parts, _) = exchange(address, request).await?;
        Ok(parts.status != StatusCode::NOT_FOUND)
    };
    ask.await.map_err(|error: Broken| unreachable(&error))
}

/// Why an instance was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotClaimed {
    #[error("another gateway has claimed it")]
    Lost,
    #[error("it refuses its code: {0}")]
    Refused(String),
    #[error("{0}")]
    Unreachable(Arc<str>),
}

/// Claims a pod and sends the code, one tar after the other. Returns how long the pod took to unpack it.
pub(crate) async fn claim(
    address: SocketAddr,
    claim: &Claim,
    code: &[Tar],
) -> Result<Duration, NotClaimed> {
    let sent = send(address, claim.to_line(), code).await;
    let (head, text) = sent.map_err(|error| NotClaimed::Unreachable(unreachable(&error)))?;
    match ClaimAnswer::read(&head, &text) {
        ClaimAnswer::Taken { unpack } => Ok(unpack.unwrap_or_default()),
        // An earlier attempt of this gateway, or of one before it, has taken the pod for the same instance.
        ClaimAnswer::TooLate { instance } if instance.as_ref() == Some(&claim.instance) => {
            Ok(Duration::ZERO)
        }
        ClaimAnswer::TooLate { .. } => Err(NotClaimed::Lost),
        ClaimAnswer::Refused { reason } => Err(NotClaimed::Refused(reason)),
    }
}

fn unreachable(error: &Broken) -> Arc<str> {
    Arc::from(format!("its supervisor cannot be reached: {error}"))
}

async fn send(
    address: SocketAddr,
    line: Vec<u8>,
    code: &[Tar],
) -> Result<(http::response::Parts, Bytes), Broken> {
    let mut length = line.len() as u64;
    let mut body = stream::iter([io::Result::Ok(Bytes::from(line))]).boxed();
    for tar in code {
        body = match tar {
            Tar::Held(bytes) => {
                length += bytes.len() as u64;
                body.chain(stream::iter([Ok(bytes.clone())])).boxed()
            }
            Tar::File(path) => {
                let file = tokio::fs::File::open(path).await?;
                length += file.metadata().await?.len();
                body.chain(ReaderStream::with_capacity(file, READ_SIZE))
                    .boxed()
            }
        };
    }
    let body = Body::from_stream(body);
    let request = Request::builder()
        .method(Method::POST)
        .uri(CLAIM_PATH)
        .header(header::CONTENT_LENGTH, length)
        .body(body)?;
    exchange(address, request).await
}

async fn exchange(
    address: SocketAddr,
    mut request: Request<Body>,
) -> Result<(http::response::Parts, Bytes), Broken> {
    let stream = address::connect(address, CONNECT_TIMEOUT, keepalive::PARTS).await?;
    let mut client = HttpClient::over(stream).await?;
    let host = HeaderValue::try_from(address.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    let (head, body) = client.send(request).await?.into_parts();
    if head.status.is_success() {
        // The status stream of a claimed instance has no end.
        return Ok((head, Bytes::new()));
    }
    match client.during(body::read(body, REFUSAL_LIMIT, 0)).await {
        Whole::Complete(text) => Ok((head, text)),
        Whole::TooLarge => Err("the reason is too long".into()),
        Whole::Broken(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::TcpListener;
    use tokio::task::{self, LocalSet};

    use super::*;

    /// What a claim is told that makes the instance `name` of the function.
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
        }
    }

    /// A tar of one file.
    fn packed(name: &str) -> Bytes {
        let mut header = tar::Header::new_gnu();
        // The safe setters refuse what a hostile archive holds.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b"hello"[..]).expect("in memory");
        builder.into_inner().expect("in memory").into()
    }

    /// A real supervisor of a warm pool, while the test lasts.
    async fn with_unclaimed<F: Future>(root: &Path, test: impl FnOnce(SocketAddr) -> F) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let supervisor = pilotlight_supervisor::in_process::unclaimed(listener, root.to_owned());
        let here = LocalSet::new();
        let test = async {
            let supervisor = task::spawn_local(supervisor);
            test(address).await;
            supervisor.abort();
        };
        here.run_until(test).await;
    }

    #[tokio::test]
    async fn the_first_claim_brings_the_code_and_a_second_one_is_told_whose_it_is() {
        let root = tempfile::tempdir().unwrap();
        with_unclaimed(root.path(), async |address| {
            assert_eq!(is_claimed(address).await, Ok(false));
            let layer = root.path().join("layer.tar");
            std::fs::write(&layer, packed("opt/b")).unwrap();
            let code = [Tar::Held(packed("var/task/a")), Tar::File(layer)];
            let unpacked = claim(address, &own("first"), &code).await.unwrap();
            assert!(unpacked > Duration::ZERO);
            for name in ["var/task/a", "opt/b"] {
                let text = std::fs::read_to_string(root.path().join(name)).unwrap();
                assert_eq!(text, "hello", "{name}");
            }

            assert_eq!(is_claimed(address).await, Ok(true));
            let again = claim(address, &own("first"), &[]).await;
            assert!(again.is_ok(), "{again:?}");
            let other = claim(address, &own("second"), &[]).await;
            assert_eq!(other, Err(NotClaimed::Lost));
        })
        .await;
    }

    #[tokio::test]
    async fn code_that_leads_outside_is_refused_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        with_unclaimed(root.path(), async |address| {
            let refused = claim(address, &own("first"), &[Tar::Held(packed("../outside"))]).await;
            let Err(NotClaimed::Refused(reason)) = refused else {
                panic!("{refused:?}");
            };
            assert!(reason.contains("a name leads outside"), "{reason}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_supervisor_that_is_not_there_cannot_be_reached() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let unreachable = claim(address, &own("first"), &[]).await;
        assert!(matches!(unreachable, Err(NotClaimed::Unreachable(_))));
        assert!(is_claimed(address).await.is_err());
    }
}
