//! Where a part listens, and the stream that leads there. The only place that opens connections.
//!
//! `client` and `pooled` speak HTTP over what is opened here. A test hands out a stream in memory instead.

use std::fmt;
use std::io;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};

use crate::keepalive::{self, Keepalive};

/// The prefix of an address that is the path of a Unix socket.
pub const UNIX: &str = "unix:";

/// How long connecting to an instance may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries bytes to a supervisor and back.
pub trait Carrier: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Carrier for T {}

/// A connection to a supervisor. It is boxed once for each connection, never for a call.
pub type Stream = Box<dyn Carrier>;

/// A connection that is opened when this is polled.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// Where an instance accepts leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The path of a socket on this machine.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = AddrParseError;

    /// `IP:port`, or [`UNIX`] and a path.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.strip_prefix(UNIX) {
            Some(path) => Ok(Address::Unix(path.into())),
            None => text.parse().map(Address::Tcp),
        }
    }
}

impl Address {
    pub fn connect(&self) -> Opening {
        let address = self.clone();
        Box::pin(async move {
            Ok(match address {
                Address::Tcp(address) => {
                    let stream = connect(address, CONNECT_TIMEOUT, keepalive::PARTS).await?;
                    Box::new(stream) as Stream
                }
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        })
    }
}

/// Opens a connection to another part, whose machine may be lost at any time. A name is looked up first.
///
/// # Errors
/// If the other part does not accept it within `timeout`.
pub async fn connect(
    address: impl ToSocketAddrs,
    timeout: Duration,
    keepalive: Keepalive,
) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    keepalive.apply(&stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    #[test]
    fn an_address_is_read_as_a_supervisor_writes_it() {
        let tcp = Address::Tcp(([10, 0, 0, 7], 9001).into());
        assert_eq!("10.0.0.7:9001".parse(), Ok(tcp));
        let unix = Address::Unix("/run/a.sock".into());
        assert_eq!("unix:/run/a.sock".parse(), Ok(unix));
        assert!("hello:9001".parse::<Address>().is_err());
    }

    #[tokio::test]
    async fn a_connection_to_another_part_sends_small_messages_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = connect(address, CONNECT_TIMEOUT, keepalive::PARTS).await;
        assert!(stream.unwrap().nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_socket_of_this_machine_carries_bytes_both_ways() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = Address::Unix(path).connect().await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 5];
        stream.write_all(b"there").await.unwrap();
        other.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"there");
        other.write_all(b"again").await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"again");
    }
}
