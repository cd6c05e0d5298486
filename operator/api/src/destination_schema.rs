//! The schema of destinations, a part of that of Functions (`schema`).
//!
//! States for the API server what the types of `destination` refuse in a file.

use serde_json::{Value, json};

use crate::schema_parts::{object_ref, rule, text};

/// A host and a port, or none.
const HOST: &str = r"([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?";
/// What a web address may have after them: RFC 3986, without the fragment.
const TAIL: &str = r"[A-Za-z0-9._~:/?@!$&\'()*+,;=%\\[\\]-]*";

/// `spec.async.onSuccess` and `spec.async.onFailure`.
pub(crate) fn destination(description: &str) -> Value {
    // `function` is a reserved word of CEL.
    let forms = "[has(self.__function__), has(self.http), has(self.nats), has(self.sqs), has(self.s3)]\
                 .filter(form, form).size() == 1";
    json!({
        "type": "object",
        "description": description,
        "x-kubernetes-validations": [rule(forms, "must have exactly one of function, http, nats, sqs, s3")],
        "properties": {
            "function": text(63, "Another function of the namespace, which gets the record as its event.", &[rule(
                "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be 1 to 63 characters: a-z, 0-9 and `-`, with a letter or digit at both ends",
            )]),
            "http": http(),
            "nats": nats(),
            "sqs": sqs(),
            "s3": s3(),
        },
    })
}

fn http() -> Value {
    json!({
        "type": "object",
        "description": "A server that gets the record in a CloudEvent.",
        "required": ["url"],
        "properties": {
            "url": text(2048, "Its address.", &[rule(
                &format!("self.matches('^https?://{HOST}([/?]{TAIL})?$')"),
                "must be an https:// or http:// address such as https://host/path, without user, password, fragment \
                 and spaces",
            )]),
            "secretRef": object_ref("A Secret of the namespace: each key is the name of a header, `ca.crt` the server's authorities."),
        },
    })
}

fn nats() -> Value {
    json!({
        "type": "object",
        "description": "A subject of a NATS server.",
        "required": ["subject", "url"],
        "properties": {
            "url": text(512, "The server's address.", &[rule(
                &format!("self.matches('^(nats|tls)://{HOST}$')"),
                "must be an address such as nats://host:4222 or tls://host, without user and path",
            )]),
            "subject": text(256, "What the messages are sent to.", &[rule(
                // Printable ASCII without space, `*`, `.` and `>`.
                r"self.matches('^[!-)+,\\-/-=?-~]+([.][!-)+,\\-/-=?-~]+)*$')",
                "must be a subject such as `orders.done`: words with `.` between, without spaces and wildcards",
            )]),
            "secretRef": object_ref(
                "A Secret of the namespace with `username` and `password`, `token` or `user.creds`, and `ca.crt` if the \
                 server's authorities are no public ones.",
            ),
        },
    })
}

fn sqs() -> Value {
    json!({
        "type": "object",
        "description": "A queue of SQS, or of a server that speaks its protocol.",
        "required": ["queueUrl"],
        "properties": {
            "queueUrl": text(1024, "Its address.", &[
                rule(
                    &format!("self.matches('^https?://{HOST}(/[A-Za-z0-9._~-]+)+$')"),
                    "must be a queue's address such as https://sqs.eu-central-1.amazonaws.com/000000000000/orders",
                ),
                rule(
                    "!self.endsWith('.fifo')",
                    "must be a standard queue: the name of a FIFO queue ends in .fifo, and none can be a destination",
                ),
            ]),
            "region": region("Absent: that in the name of the server, or the installation's."),
            "secretRef": keys(),
        },
    })
}

fn s3() -> Value {
    json!({
        "type": "object",
        "description": "A bucket of S3, or of a server that speaks its protocol.",
        "required": ["bucket"],
        "properties": {
            "bucket": text(63, "Its name.", &[rule(
                "size(self) >= 3 && self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$')",
                "must be a bucket's name: 3 to 63 characters a-z, 0-9, `.` and `-`, with a letter or digit at both ends",
            )]),
            "prefix": text(256, "What the name of each object begins with.", &[rule(
                "self.matches('^[A-Za-z0-9_.!/-]+$') && !self.startsWith('/') && !self.contains('//') \
                 && !('/' + self).contains('/./') && !('/' + self).contains('/../')",
                "must be 1 to 256 letters, digits and `-`, `_`, `.`, `!`, with `/` between: no `/` at the start, no empty, \
                 `.` or `..` part",
            )]),
            "region": region("Absent: the installation's."),
            "endpoint": text(512, "The server; absent: S3 in that region.", &[rule(
                &format!("self.matches('^https?://{HOST}$')"),
                "must be a server such as https://storage.example:9000, without path",
            )]),
            "secretRef": keys(),
        },
    })
}

fn region(description: &str) -> Value {
    text(
        63,
        description,
        &[rule(
            "self.matches('^[a-z0-9-]+$')",
            "must be a region such as eu-central-1",
        )],
    )
}

fn keys() -> Value {
    object_ref(
        "A Secret of the namespace with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and `AWS_SESSION_TOKEN` and \
         `ca.crt` if they are needed.",
    )
}
