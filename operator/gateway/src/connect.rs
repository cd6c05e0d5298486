//! Connections to supervisors, and how the loss of the machine at the other end is noticed.
//!
//! Owns the addresses that supervisors tell and the kernel's keepalive settings. `instance` and
//! `cluster::claim` speak HTTP over what is opened here; a backend says which address, and one of a test
//! opens a stream in memory instead.

use std::io;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pilotlight_wire::config;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::backend::Promise;

/// A machine that acknowledges nothing for this long is lost, and what it runs with it.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two keepalive probes, while nothing else is sent.
const PROBE: Duration = Duration::from_secs(5);

/// Carries bytes to a supervisor and back.
pub trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A connection to a supervisor. It is boxed once for each connection, never for a call.
pub type Stream = Box<dyn Carrier>;

/// A connection that is opened when this is polled.
pub type Opening = Promise<'static, io::Result<Stream>>;

/// Where an instance takes leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// The path of a socket, on this machine.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = AddrParseError;

    /// As a supervisor tells it.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.strip_prefix(config::UNIX) {
            Some(path) => Ok(Address::Unix(path.into())),
            None => text.parse().map(Address::Tcp),
        }
    }
}

impl Address {
    pub(crate) fn connect(&self) -> Opening {
        let address = self.clone();
        Box::pin(async move {
            Ok(match address {
                Address::Tcp(address) => Box::new(open(address).await?) as Stream,
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        })
    }
}

/// A connection to a supervisor, whose machine may be lost at any time.
pub(crate) async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(SILENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    notice_loss(&stream, (PROBE, PROBE), SILENCE)?;
    Ok(stream)
}

/// Has the kernel break a connection whose other machine is lost: when nothing is sent, it asks after the
/// first time and then at intervals of the second; else `silence` passes without an acknowledgement.
pub(crate) fn notice_loss(
    stream: &TcpStream,
    (idle, interval): (Duration, Duration),
    silence: Duration,
) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(idle).with_interval(interval);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(silence))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    #[test]
    fn an_address_is_read_as_a_supervisor_tells_it() {
        let tcp = Address::Tcp(([10, 0, 0, 7], 9001).into());
        assert_eq!("10.0.0.7:9001".parse(), Ok(tcp));
        let unix = Address::Unix("/run/a.sock".into());
        assert_eq!("unix:/run/a.sock".parse(), Ok(unix));
        assert!("hello:9001".parse::<Address>().is_err());
    }

    #[tokio::test]
    async fn the_kernel_breaks_a_connection_whose_machine_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = open(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SILENCE));
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
