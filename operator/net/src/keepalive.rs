//! How the kernel notices that the machine at the other end of a connection is lost.
//!
//! Used by everything that opens or accepts TCP connections. A lost machine sends nothing, so without these
//! options a connection to it would stay open for hours.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The socket options of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long the connection may be idle before the kernel probes the other machine.
    pub idle: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// Probes without an answer after which the connection is broken. `None`: the kernel's default, unless
    /// `user_timeout` passes earlier.
    pub retries: Option<u32>,
    /// How long sent bytes or probes may stay without an acknowledgement. `None`: the kernel's default.
    pub user_timeout: Option<Duration>,
}

const PARTS_PROBES: Duration = Duration::from_secs(5);
const PARTS_TIMEOUT: Duration = Duration::from_secs(10);

/// From a gateway to supervisors and to other gateways, and from a controller to gateways: a machine that
/// acknowledges nothing for `PARTS_TIMEOUT` is lost.
pub const PARTS: Keepalive = Keepalive {
    idle: PARTS_PROBES,
    interval: PARTS_PROBES,
    retries: None,
    user_timeout: Some(PARTS_TIMEOUT),
};

const CALLERS_IDLE: Duration = Duration::from_secs(60);
const CALLERS_PROBES: Duration = Duration::from_secs(10);
const CALLERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Towards callers of a gateway, which may be far away. A lost caller's connections and queued calls are freed
/// that way; the end of the gateway waits for open answers.
pub const CALLERS: Keepalive = Keepalive {
    idle: CALLERS_IDLE,
    interval: CALLERS_PROBES,
    retries: None,
    user_timeout: Some(CALLERS_TIMEOUT),
};

const INSTANCE_PROBES: Duration = Duration::from_secs(15);

/// From an instance to gateways. There are thousands of instances, so each probes seldom.
pub const INSTANCE: Keepalive = Keepalive {
    idle: INSTANCE_PROBES,
    interval: INSTANCE_PROBES,
    retries: Some(3),
    user_timeout: None,
};

impl Keepalive {
    /// # Errors
    /// If the connection has ended already.
    pub fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        let mut probes = TcpKeepalive::new()
            .with_time(self.idle)
            .with_interval(self.interval);
        if let Some(retries) = self.retries {
            probes = probes.with_retries(retries);
        }
        socket.set_tcp_keepalive(&probes)?;
        socket.set_tcp_user_timeout(self.user_timeout)
    }
}

/// Bounds what the kernel buffers of the bytes that the other machine does not take.
///
/// # Errors
/// If the connection has ended already.
#[cfg(feature = "server")]
pub(crate) fn bound_send_buffer(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    SockRef::from(stream).set_send_buffer_size(bytes)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_has_the_options_of_each_policy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for policy in [PARTS, CALLERS, INSTANCE] {
            let address = listener.local_addr().unwrap();
            let stream = TcpStream::connect(address).await.unwrap();
            policy.apply(&stream).unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), policy.idle);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), policy.interval);
            if let Some(retries) = policy.retries {
                assert_eq!(socket.tcp_keepalive_retries().unwrap(), retries);
            }
            assert_eq!(socket.tcp_user_timeout().unwrap(), policy.user_timeout);
        }
    }
}
