//! The kubelet's liveness probe: a port of its own, which answers one path.
//!
//! Started by `main`, before there is a function or a claim. It answers while this process's only thread runs; a
//! supervisor that was stopped or that hangs does not, and the kubelet ends its container. Says nothing about the
//! instance and shares nothing with `control_api`, so it needs no proof of who asks.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use anyhow::Context;
use pilotlight_wire::config::HEALTH_PATH;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task;

use crate::connection::{Connection, Listener};

/// The longest head of a request.
const HEAD_LIMIT: usize = 4096;
/// Connections at a time. A further one takes the place of the oldest, so that strangers whose connections stall
/// cannot keep the kubelet out.
const CONNECTIONS_MAX: usize = 16;
/// From the start of a connection to the end of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers probes at this `host:port` from now on, in a task of the current `LocalSet`.
///
/// # Errors
/// If it cannot listen there.
pub async fn listen(address: &str) -> anyhow::Result<()> {
    let listener = Listener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen for probes on {address}"))?;
    task::spawn_local(serve(listener));
    Ok(())
}

async fn serve(listener: Listener) {
    let mut open = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answer(listener.next().await));
        if open.len() == CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            task::AbortHandle::abort(&oldest);
        }
        open.push_back(task::spawn_local(answered).abort_handle());
    }
}

/// The request is read before it is answered: a connection that is closed with unread bytes loses its answer.
async fn answer(mut connection: Connection) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_LIMIT || connection.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let asked = format!("GET {HEALTH_PATH} HTTP/1.");
    let status = match head.starts_with(asked.as_bytes()) {
        true => "200 OK",
        false => "404 Not Found",
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}
