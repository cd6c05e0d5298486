//! X-Ray's daemon inside the instance: a port for datagrams on 127.0.0.1, which `AWS_XRAY_DAEMON_ADDRESS` names.
//!
//! Reads what the function's SDK reports of its work (`wire::segments`), for the invocation at hand alone, within the bounds of
//! `core::traces::segments`; the answer carries it to the gateway. There is no port unless the installation keeps traces.
//! Nothing is ever sent, and no call waits for a datagram: what does not fit is counted.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;

use pilotlight_core::traces::context;
use pilotlight_core::traces::segments::{SEGMENTS_BYTES, SEGMENTS_LIMIT, Segments};
use pilotlight_wire::lease::LeaseRequest;
use pilotlight_wire::segments::read_datagram;

/// The daemon's own port, for programs that do not read the variable.
const PORT: u16 = 2000;
/// The longest datagram of IPv4, in bytes.
const DATAGRAM_LIMIT: usize = 65_507;
/// How many datagrams are read before other work of the supervisor has its turn.
const BATCH: usize = 16;
/// The bytes of datagrams of one invocation that are looked at; further ones are counted. JSON with whitespace, metadata and
/// stack traces is longer than what is kept of it.
const READ_LIMIT: usize = 16 * SEGMENTS_BYTES;

/// The port. It is read whenever it has something, and before each answer.
#[derive(Debug)]
pub(crate) struct Daemon {
    socket: UdpSocket,
    /// The same socket, which says when there is something to read.
    readiness: Rc<tokio::net::UdpSocket>,
    buffer: Box<[u8]>,
    /// Datagrams that came while no invocation could take them.
    stray: u32,
}

/// What came for one invocation.
#[derive(Debug, Default)]
pub(crate) struct Received {
    segments: Segments,
    bytes: usize,
}

impl Daemon {
    /// `is_alone`: whether nobody else uses the loopback interface, as in a pod. Local instances share the machine's.
    ///
    /// # Errors
    /// If there is no port.
    pub(crate) fn bind(is_alone: bool) -> io::Result<(Self, SocketAddr)> {
        let bind = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        let socket = match is_alone {
            // A pod in the network of its node may find it taken.
            true => bind(PORT).or_else(|_| bind(0))?,
            false => bind(0)?,
        };
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let daemon = Daemon {
            readiness: Rc::new(tokio::net::UdpSocket::from_std(socket.try_clone()?)?),
            socket,
            buffer: vec![0; DATAGRAM_LIMIT].into(),
            stray: 0,
        };
        Ok((daemon, address))
    }

    pub(crate) fn readiness(&self) -> Rc<tokio::net::UdpSocket> {
        self.readiness.clone()
    }

    /// Reads some datagrams for an invocation. Returns whether none is left.
    pub(crate) fn read(&mut self, mut invocation: Option<(&LeaseRequest, &mut Received)>) -> bool {
        for _ in 0..BATCH {
            let bytes = match self.socket.recv(&mut self.buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                // An error of an earlier datagram, which says nothing about the next one.
                Err(_) => continue,
            };
            match &mut invocation {
                Some((request, received)) => received.take(request, &self.buffer[..bytes]),
                None => self.stray = self.stray.saturating_add(1),
            }
        }
        false
    }

    /// Reads all that the function has sent before its answer, within [`READ_LIMIT`].
    pub(crate) fn read_all(&mut self, request: &LeaseRequest, received: &mut Received) -> Segments {
        for _ in 0..READ_LIMIT / SEGMENTS_BYTES {
            if self.read(Some((request, received))) {
                break;
            }
        }
        let mut segments = std::mem::take(&mut received.segments);
        let stray = std::mem::take(&mut self.stray);
        segments.dropped = segments.dropped.saturating_add(stray);
        segments
    }
}

impl Received {
    fn take(&mut self, request: &LeaseRequest, datagram: &[u8]) {
        self.bytes = self.bytes.saturating_add(datagram.len());
        let room = SEGMENTS_LIMIT.saturating_sub(self.segments.list.len());
        let is_read = room > 0 && self.bytes <= READ_LIMIT && request.wants_report;
        let header = request.trace_id.as_ref().and_then(|id| id.to_str().ok());
        let trace = header.filter(|_| is_read).and_then(context::of_xray);
        let read = trace.map(|context| read_datagram(datagram, context.trace));
        let dropped = match read {
            Some(Ok((mut segments, dropped))) => {
                let left = segments.len().saturating_sub(room) as u32;
                segments.truncate(room);
                self.segments.list.append(&mut segments);
                dropped.saturating_add(left)
            }
            Some(Err(_)) | None => 1,
        };
        self.segments.dropped = self.segments.dropped.saturating_add(dropped);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::HeaderValue;

    use super::*;

    fn request(wants_report: bool) -> LeaseRequest {
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0f1b758a73ce5eaa;Sampled=1";
        LeaseRequest {
            request_id: "8f3c".into(),
            event: Bytes::new(),
            function_arn: HeaderValue::from_static("arn"),
            trace_id: Some(HeaderValue::from_static(trace)),
            trace_state: None,
            client_context: None,
            wants_log_tail: false,
            wants_report,
            accepts_stream: false,
            phases: None,
        }
    }

    fn document(number: usize, trace: &str) -> String {
        format!(
            "{{\"format\":\"json\",\"version\":1}}\n{{\"name\":\"work\",\"id\":\"{number:016x}\",\
             \"trace_id\":\"1-5759e988-{trace}\",\"start_time\":1.0,\"end_time\":2.0}}"
        )
    }

    const OWN: &str = "bd862e3fe1be46a994272793";

    #[tokio::test]
    async fn datagrams_of_the_invocation_are_kept_and_all_others_are_counted() {
        let (mut daemon, address) = Daemon::bind(false).expect("a port");
        let function = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let send = |text: &str| function.send_to(text.as_bytes(), address).expect("sent");
        send(&document(1, OWN));
        assert!(daemon.read(None), "it is stray");
        send(&document(2, OWN));
        send("no datagram of a segment");
        send(&document(3, "bd862e3fe1be46a994272794"));
        let segments = daemon.read_all(&request(true), &mut Received::default());
        let ids = segments.list.iter().map(|segment| segment.id.to_string());
        assert_eq!(Vec::from_iter(ids), ["0000000000000002"]);
        assert_eq!(segments.dropped, 3);
        send(&document(4, OWN));
        let segments = daemon.read_all(&request(false), &mut Received::default());
        assert_eq!((segments.list.len(), segments.dropped), (0, 1));
    }

    #[tokio::test]
    async fn a_flood_is_counted_and_no_more_is_kept_than_the_limit() {
        let (mut daemon, address) = Daemon::bind(false).expect("a port");
        let function = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let mut received = Received::default();
        let all = SEGMENTS_LIMIT + 20;
        for number in 1..=all {
            let text = document(number, OWN);
            function.send_to(text.as_bytes(), address).expect("sent");
            // The kernel keeps some hundred.
            if number % BATCH == 0 {
                daemon.read(Some((&request(true), &mut received)));
            }
        }
        let segments = daemon.read_all(&request(true), &mut received);
        assert_eq!(segments.list.len(), SEGMENTS_LIMIT);
        assert_eq!(segments.dropped, 20);
    }

    #[tokio::test]
    async fn instances_of_one_machine_have_a_port_each() {
        let (_first, first) = Daemon::bind(false).expect("a port");
        let (_second, second) = Daemon::bind(false).expect("a port");
        assert_ne!(first.port(), second.port());
    }
}
