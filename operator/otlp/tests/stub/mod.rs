//! A receiver that answers as a test says. What a real one takes, others tests ask of a real one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Only a broken exporter reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// An answer: its status, further headers and its body.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: &'static str,
    pub(crate) body: Vec<u8>,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Reply {
            status,
            headers: "",
            body: Vec::new(),
        }
    }
}

/// Reads one request, and answers it. Returns its head and its body.
fn serve(stream: &mut TcpStream, reply: &Reply) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head").to_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    let Reply {
        status,
        headers,
        body: answer,
    } = reply;
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n"
    )
    .expect("written");
    stream.write_all(answer).expect("written");
    Some((head, body))
}

/// A receiver with these answers, one for each request. The channel has the head and the body of each.
pub(crate) fn receiver(replies: Vec<Reply>) -> (SocketAddr, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut replies = replies.into_iter().peekable();
        while replies.peek().is_some() {
            let (mut stream, _) = listener.accept().expect("a connection");
            while let Some(reply) = replies.peek() {
                let Some(request) = serve(&mut stream, reply) else {
                    break;
                };
                replies.next();
                // The test may have ended.
                let _ = tell.send(request);
            }
        }
    });
    (address, told)
}
