//! The little of HTTP/1.1 that a test needs to send and receive a body piece by piece.
//!
//! Used by `streams`, which plays the gateway and the runtime process. Panics on everything that is not a
//! well-formed response.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// A client's connection.
pub(crate) struct Http {
    stream: BufReader<DuplexStream>,
    /// The part of a chunk that a cancelled write has not sent.
    unsent: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names are in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Http {
            stream: BufReader::new(stream),
            unsent: Vec::new(),
        }
    }

    /// Sends the head of a request.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(head.as_bytes()).await.expect("it is connected");
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    pub(crate) async fn write_chunk(&mut self, piece: &[u8]) -> io::Result<()> {
        let head = format!("{:x}\r\n", piece.len());
        self.unsent = [head.as_bytes(), piece, b"\r\n"].concat();
        self.finish_chunk().await
    }

    /// Sends what is left of a chunk after its write was cancelled.
    pub(crate) async fn finish_chunk(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let written = self.stream.get_mut().write(&self.unsent).await?;
            self.unsent.drain(..written);
        }
        Ok(())
    }

    /// `trailers`: lines, each with its CRLF.
    pub(crate) async fn end_chunks(&mut self, trailers: &str) -> io::Result<()> {
        self.write(format!("0\r\n{trailers}\r\n").as_bytes()).await
    }

    /// The head of a response.
    pub(crate) async fn head(&mut self) -> Response {
        let line = self.line().await;
        let status = line.split(' ').nth(1).expect("a status line");
        Response {
            status: status.parse().expect("a number"),
            headers: self.trailers().await,
            body: Vec::new(),
        }
    }

    /// A response whose head has its length.
    pub(crate) async fn whole(&mut self) -> Response {
        let mut response = self.head().await;
        let length = response.headers.get("content-length");
        let length = length.expect("a length").parse().expect("a number");
        response.body.resize(length, 0);
        let read = self.stream.read_exact(&mut response.body).await;
        read.expect("a whole body");
        response
    }

    /// The next chunk; `None` after the last one.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await;
        let size = usize::from_str_radix(&size, 16).expect("a size");
        if size == 0 {
            return None;
        }
        let mut piece = vec![0; size + 2];
        self.stream.read_exact(&mut piece).await.expect("a chunk");
        piece.truncate(size);
        Some(piece)
    }

    /// The headers after the last chunk.
    pub(crate) async fn trailers(&mut self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return headers;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.insert(name.to_lowercase(), value.to_owned());
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("UTF-8");
        let line = line.strip_suffix("\r\n").expect("the connection is open");
        line.to_owned()
    }
}
