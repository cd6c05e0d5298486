//! A subject of a NATS server: a message for each record.
//!
//! A client of its own for this one purpose. `async-nats` resolves names itself and has no bound on what a server may send, and
//! this server is one that the author of a Function names. A message counts as taken when the server has answered the PING
//! behind it, so each refusal of the message has come by then. Connections are kept for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pilotlight_core::shown_url::ShownUrl;
use pilotlight_net::guarded::{AddressGuard, client_tls};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::login::LoginFields;
use super::outgoing::{Outgoing, Undelivered};
use super::receiver::NatsReceiver;

/// How long a connection stays open without a message. A server closes one that is silent for several minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most connections without a message, over all servers.
const IDLE_LIMIT: usize = 64;
/// The longest line of a server, in bytes: INFO names all servers of a cluster.
const LINE_LIMIT: usize = 64 * 1024;
/// The most lines that a server may send before it answers a PING.
const LINES_LIMIT: usize = 64;
const DEFAULT_PORT: u16 = 4222;

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// A connection whose server knows who this is.
struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    max_payload: usize,
    has_headers: bool,
}

/// What a server says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    tls_required: bool,
    tls_available: bool,
    headers: bool,
    max_payload: usize,
    nonce: String,
}

#[derive(Debug, Serialize)]
struct Connect {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'static str,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    echo: bool,
    headers: bool,
    #[serde(flatten)]
    login: LoginFields,
}

/// The connections without a message, by server and login.
pub(super) struct Connections {
    guard: AddressGuard,
    idle: Arc<Mutex<Idle>>,
}

/// Who is connected to what. It is never printed.
type Key = String;
/// Each with the time of its last message.
type Idle = HashMap<Key, Vec<(Instant, Connection)>>;

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    pub(super) fn new(guard: AddressGuard) -> Self {
        Connections {
            guard,
            idle: Arc::default(),
        }
    }

    pub(super) async fn send(
        &self,
        to: &NatsReceiver,
        outgoing: &Outgoing,
    ) -> Result<(), Undelivered> {
        let key = key(to);
        let kept = self.kept(&key);
        let was_kept = kept.is_some();
        let mut connection = match kept {
            Some(kept) => kept,
            None => open(&self.guard, to).await?,
        };
        let mut published = publish(&mut connection, to, outgoing).await;
        if was_kept && matches!(published, Err(Published::Broken)) {
            // The server may have closed it long ago. A stream keeps a message of this id once.
            connection = open(&self.guard, to).await?;
            published = publish(&mut connection, to, outgoing).await;
        }
        if published.is_ok() {
            self.keep(key, connection);
        }
        match published {
            Ok(()) => Ok(()),
            Err(Published::Broken) => Err(Undelivered::Later(format!(
                "{} has closed the connection",
                ShownUrl(&to.url)
            ))),
            Err(Published::Refused(undelivered)) => Err(undelivered),
        }
    }

    fn kept(&self, key: &str) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        prune(&mut idle);
        idle.get_mut(key)?.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, key: Key, connection: Connection) {
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            prune(&mut idle);
            if idle.values().map(Vec::len).sum::<usize>() >= IDLE_LIMIT {
                return;
            }
            let of_key = idle.entry(key).or_default();
            of_key.push((Instant::now(), connection));
        }
        let idle = Arc::downgrade(&self.idle);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_TIMEOUT).await;
            if let Some(idle) = idle.upgrade() {
                prune(&mut idle.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
    }
}

fn prune(idle: &mut Idle) {
    idle.retain(|_, of_key| {
        of_key.retain(|(since, _)| since.elapsed() < IDLE_TIMEOUT);
        !of_key.is_empty()
    });
}

fn key(to: &NatsReceiver) -> Key {
    let login = to.login.fields("").unwrap_or_default();
    let login = serde_json::to_string(&login).expect("texts are JSON");
    let authorities = to.authorities.as_deref().unwrap_or_default();
    let authorities = String::from_utf8_lossy(authorities);
    [to.url.as_str(), &login, &authorities].join("\n")
}

/// The host as in the address, and the port. `None`: it is no address of a server.
pub(super) fn server(url: &str) -> Option<(bool, &str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let needs_tls = match scheme {
        "nats" => false,
        "tls" => true,
        _ => return None,
    };
    let end = match rest.starts_with('[') {
        true => rest.find(']')? + 1,
        false => rest.find(':').unwrap_or(rest.len()),
    };
    let (host, port) = rest.split_at(end);
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        None if port.is_empty() => DEFAULT_PORT,
        _ => return None,
    };
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (!host.is_empty() && host.bytes().all(inner)).then_some((needs_tls, host, port))
}

async fn open(guard: &AddressGuard, to: &NatsReceiver) -> Result<Connection, Undelivered> {
    let shown = ShownUrl(&to.url);
    let later = |why: &str| Undelivered::Later(format!("{shown} {why}"));
    let Some((needs_tls, host, port)) = server(&to.url) else {
        return Err(Undelivered::Never(format!(
            "{shown} is no address of a NATS server"
        )));
    };
    let connected = guard.connect(host, port).await;
    let stream = connected.map_err(|error| Undelivered::Later(error.to_string()))?;
    let mut stream: BufReader<Box<dyn Stream>> = BufReader::new(Box::new(stream));
    let no_server = || later("gave no answer of a NATS server");
    let line = line(&mut stream).await.ok_or_else(no_server)?;
    let info = line.strip_prefix("INFO ").ok_or_else(no_server)?;
    let info: Info = serde_json::from_str(info).map_err(|_| no_server())?;
    let is_encrypted = needs_tls || info.tls_required || to.authorities.is_some();
    if is_encrypted {
        if !info.tls_required && !info.tls_available {
            return Err(later(
                "speaks no TLS, which its address or the `ca.crt` of its Secret asks for",
            ));
        }
        let config = client_tls(to.authorities.as_deref());
        let config =
            config.map_err(|why| later(&format!("has authorities that cannot be used: {why}")))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|_| later("has no name that a certificate could have"))?;
        let connector = TlsConnector::from(Arc::new(config));
        // What it has sent before is in the buffer, and is not part of TLS: there must be nothing.
        if !stream.buffer().is_empty() {
            return Err(no_server());
        }
        let upgraded = connector.connect(name, stream.into_inner()).await;
        let upgraded = upgraded.map_err(|_| later("has no certificate that can be verified"))?;
        stream = BufReader::new(Box::new(upgraded));
    }
    let login = to.login.fields(&info.nonce);
    let login = login.ok_or_else(|| later("has a `user.creds` whose key signs nothing"))?;
    let connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: is_encrypted,
        name: "pilotlight",
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: false,
        headers: true,
        login,
    };
    let connect = serde_json::to_string(&connect).expect("texts are JSON");
    let mut connection = Connection {
        stream,
        max_payload: info.max_payload,
        has_headers: info.headers,
    };
    let written = connection
        .write(format!("CONNECT {connect}\r\n").as_bytes())
        .await;
    let answered = match written {
        Some(()) => connection.ping().await,
        None => Err(Ponged::Broken),
    };
    match answered {
        Ok(()) => Ok(connection),
        Err(Ponged::Refused(why)) => Err(later(&format!("refused: {why}"))),
        Err(Ponged::Broken) => Err(later("has closed the connection: check its credentials")),
    }
}

/// Why a message was not taken.
enum Published {
    /// The connection is of no use any more.
    Broken,
    Refused(Undelivered),
}

async fn publish(
    connection: &mut Connection,
    to: &NatsReceiver,
    outgoing: &Outgoing,
) -> Result<(), Published> {
    let shown = ShownUrl(&to.url);
    let message = message(&to.subject, outgoing, connection.has_headers);
    let size = message.size;
    if connection.max_payload > 0 && size > connection.max_payload {
        return Err(Published::Refused(Undelivered::Never(format!(
            "{shown} accepts messages of {} bytes, and the record has {size}",
            connection.max_payload
        ))));
    }
    for part in [&message.head[..], &outgoing.record, b"\r\n"] {
        connection.write(part).await.ok_or(Published::Broken)?;
    }
    match connection.ping().await {
        Ok(()) => Ok(()),
        Err(Ponged::Broken) => Err(Published::Broken),
        Err(Ponged::Refused(why)) => {
            let text = format!("{shown} refused the message for {}: {why}", to.subject);
            let is_lasting =
                why.contains("Maximum Payload") || why.contains("Invalid Publish Subject");
            Err(Published::Refused(match is_lasting {
                true => Undelivered::Never(text),
                // Rights may be mended, and the others may pass.
                false => Undelivered::Later(text),
            }))
        }
    }
}

/// What comes before the record.
pub(super) struct Message {
    pub(super) head: Vec<u8>,
    /// As the server counts it.
    size: usize,
}

pub(super) fn message(subject: &str, outgoing: &Outgoing, has_headers: bool) -> Message {
    let payload = outgoing.record.len();
    if !has_headers {
        let head = format!("PUB {subject} {payload}\r\n").into_bytes();
        let size = payload;
        return Message { head, size };
    }
    // A stream drops a message whose id it has seen within its window.
    let mut headers = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n", outgoing.id);
    if !outgoing.trace.is_empty() && !outgoing.trace.contains(char::is_control) {
        headers += &format!("X-Amzn-Trace-Id: {}\r\n", outgoing.trace);
    }
    headers += "\r\n";
    let size = headers.len() + payload;
    let head = format!("HPUB {subject} {} {size}\r\n{headers}", headers.len());
    Message {
        head: head.into_bytes(),
        size,
    }
}

/// Why a PING has no answer.
enum Ponged {
    Broken,
    /// What the server says before it, or before it closes the connection.
    Refused(String),
}

impl Connection {
    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()
    }

    /// Returns when the server has read all that was sent.
    async fn ping(&mut self) -> Result<(), Ponged> {
        self.write(b"PING\r\n").await.ok_or(Ponged::Broken)?;
        self.stream.flush().await.map_err(|_| Ponged::Broken)?;
        let mut refused = None;
        for _ in 0..LINES_LIMIT {
            let Some(line) = line(&mut self.stream).await else {
                return Err(refused.map_or(Ponged::Broken, Ponged::Refused));
            };
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("PONG", _) => return refused.map_or(Ok(()), |why| Err(Ponged::Refused(why))),
                ("PING", _) => {
                    self.write(b"PONG\r\n").await.ok_or(Ponged::Broken)?;
                    self.stream.flush().await.map_err(|_| Ponged::Broken)?;
                }
                ("-ERR", why) => refused = Some(readable(why)),
                ("+OK" | "INFO", _) => {}
                // Nothing was subscribed to.
                _ => return Err(Ponged::Broken),
            }
        }
        Err(Ponged::Broken)
    }
}

/// The server's reason, as far as it can be printed.
fn readable(why: &str) -> String {
    let inner = |c: &char| c.is_ascii_graphic() || *c == ' ';
    why.trim_matches('\'')
        .chars()
        .filter(inner)
        .take(128)
        .collect()
}

/// The next line without its end. `None`: there is none, or it is too long or no text.
pub(super) async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    loop {
        let read = stream.fill_buf().await.ok()?;
        if read.is_empty() {
            return None;
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(read.len(), |end| end + 1);
        line.extend_from_slice(&read[..taken]);
        stream.consume(taken);
        if line.len() > LINE_LIMIT {
            return None;
        }
        if end.is_some() {
            let text = String::from_utf8(line).ok()?;
            return Some(text.trim_end_matches(['\r', '\n']).to_owned());
        }
    }
}
