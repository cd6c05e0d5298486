//! The entry points of the fuzz target `destination`.

use std::time::UNIX_EPOCH;

use ::http::Request;
use bytes::Bytes;

use super::{Outgoing, Receiver, Undelivered, http, nats, s3, sqs, verdict};

/// The request that a web server or a bucket gets. `None`: the receiver is another one.
pub fn request(
    receiver: &Receiver,
    outgoing: &Outgoing,
) -> Option<Result<Request<Bytes>, Undelivered>> {
    match receiver {
        Receiver::Http(to) => Some(http::request(to, outgoing)),
        Receiver::S3(to) => Some(s3::request(to, outgoing, UNIX_EPOCH)),
        Receiver::Nats(_) | Receiver::Sqs(_) => None,
    }
}

/// The host and the port of a NATS server.
pub fn nats_server(url: &str) -> Option<(&str, u16)> {
    nats::server(url).map(|(_, host, port)| (host, port))
}

/// The server of a queue.
pub fn queue_server(url: &str) -> Option<String> {
    sqs::endpoint(url)
}

/// What the answer of a bucket means.
pub fn verdict(status: u16, body: &[u8]) -> Option<Undelivered> {
    verdict::of_code("the bucket", status, verdict::s3_code(body))
}
