//! What is sent for a record, in each form, and what a receiver's answers mean. Real receivers are in `tests/destinations`.

use std::time::{Duration, UNIX_EPOCH};

use ::http::{HeaderName, HeaderValue, Request};
use bytes::Bytes;
use pilotlight_core::events::retry::{EventEnd, EventTime, Progress};
use pilotlight_core::ids::{Namespace, PoolId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::event::{EventHead, EventOutcome, EventResponse, QueuedEvent};

const ID: &str = "5d2f3a9e-0c8e-4a51-9a55-0f7a3e5f0001";
const TRACE: &str = "Root=1-6a2f3a9e-0c8e4a519a550f7a3e5f0001;Sampled=1";

fn outgoing() -> Outgoing {
    let target = PoolId::latest(Namespace::local(), "hello".parse().expect("a name"));
    let head = EventHead {
        request_id: ID.to_owned(),
        target,
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:hello".to_owned(),
        client_context: None,
        trace: TRACE.to_owned(),
        trace_state: None,
        progress: Progress::new(EventTime(1_800_000_000_000)),
        overrides: Default::default(),
        outcome: None,
    };
    let event = QueuedEvent {
        head,
        payload: Bytes::from_static(b"{\"n\":1}"),
    };
    let outcome = EventOutcome {
        end: EventEnd::Success,
        at: EventTime(1_800_000_000_120),
        attempts: 1,
        response: Some(EventResponse {
            payload: "1".to_owned(),
            version: "$LATEST".to_owned(),
            function_error: None,
        }),
    };
    Outgoing::of(&event, &outcome)
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    let value = request
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no {name}"));
    value.to_str().expect("a text")
}

fn bucket(keys: Option<AwsKeys>) -> S3Receiver {
    S3Receiver {
        endpoint: "https://storage.example:9000".to_owned(),
        bucket: "records".to_owned(),
        prefix: "shop/".to_owned(),
        region: "eu-central-1".to_owned(),
        keys,
        authorities: None,
    }
}

fn keys() -> AwsKeys {
    AwsKeys {
        id: ReceiverSecret("AKID".to_owned()),
        secret: ReceiverSecret("hunter2".to_owned()),
        session_token: Some(ReceiverSecret("t0ken".to_owned())),
    }
}

#[test]
fn a_web_server_gets_a_cloud_event_with_the_headers_of_its_secret() {
    let to = HttpReceiver {
        url: ReceiverSecret("https://host/in?token=hunter2".to_owned()),
        headers: vec![
            (
                HeaderName::from_static("authorization"),
                HeaderValue::from_static("Bearer hunter2"),
            ),
            (
                HeaderName::from_static("content-type"),
                HeaderValue::from_static("text/plain"),
            ),
        ],
        authorities: None,
    };
    let request = http::request(&to, &outgoing()).expect("a request");
    assert_eq!(
        (
            request.method().as_str(),
            request.uri().to_string().as_str()
        ),
        ("POST", "https://host/in?token=hunter2")
    );
    assert_eq!(
        header(&request, "content-type"),
        "application/cloudevents+json"
    );
    assert_eq!(header(&request, "authorization"), "Bearer hunter2");
    assert_eq!(header(&request, "x-amzn-trace-id"), TRACE);
    assert_eq!(*request.body(), outgoing().cloud_event);
    let receiver = Receiver::Http(to);
    assert_eq!(receiver.to_string(), "https://host/in");
    let shown = format!("{receiver:?}");
    // Values of headers hide themselves if they are marked.
    assert!(!shown.contains("token="), "{shown}");
}

#[test]
fn an_object_has_the_platforms_name_and_a_signature_of_its_content() {
    let key = s3::key("shop/", &outgoing());
    assert_eq!(
        key,
        format!("shop/aws/lambda/async/hello/2027/01/15/2027-01-15T08.00.00-{ID}")
    );
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_001);
    let request = s3::request(&bucket(Some(keys())), &outgoing(), now).expect("a request");
    assert_eq!(
        request.uri().to_string(),
        format!("https://storage.example:9000/records/{key}")
    );
    assert_eq!(
        (request.method().as_str(), request.body()),
        ("PUT", &outgoing().record)
    );
    assert_eq!(header(&request, "x-amz-date"), "20270115T080001Z");
    assert_eq!(header(&request, "x-amz-security-token"), "t0ken");
    assert_eq!(header(&request, "x-amz-content-sha256").len(), 64);
    let authorization = header(&request, "authorization");
    let begin =
        "AWS4-HMAC-SHA256 Credential=AKID/20270115/eu-central-1/s3/aws4_request, SignedHeaders=";
    assert!(authorization.starts_with(begin), "{authorization}");
    let plain = s3::request(&bucket(None), &outgoing(), now).expect("a request");
    assert!(plain.headers().get("authorization").is_none());
    let shown = format!("{:?}", Receiver::S3(bucket(Some(keys()))));
    assert!(
        !shown.contains("hunter2") && !shown.contains("t0ken"),
        "{shown}"
    );
}

#[test]
fn a_message_of_nats_has_an_id_that_a_stream_knows_again() {
    let message = nats::message("orders.done", &outgoing(), true);
    let head = String::from_utf8(message.head).expect("text");
    let headers = format!(
        "NATS/1.0\r\nNats-Msg-Id: {ID}-1800000000000-Success\r\nX-Amzn-Trace-Id: {TRACE}\r\n\r\n"
    );
    let (own, size) = (headers.len(), headers.len() + outgoing().record.len());
    assert_eq!(head, format!("HPUB orders.done {own} {size}\r\n{headers}"));
    let plain = nats::message("orders.done", &outgoing(), false).head;
    let size = outgoing().record.len();
    assert_eq!(plain, format!("PUB orders.done {size}\r\n").into_bytes());
}

#[test]
fn addresses_are_read_as_the_manifest_has_them() {
    for (url, expected) in [
        ("nats://host", Some((false, "host", 4222))),
        ("tls://host:1", Some((true, "host", 1))),
        ("nats://[::1]:4223", Some((false, "[::1]", 4223))),
        ("tls://[::1]", Some((true, "[::1]", 4222))),
        ("nats://host:99999", None),
        ("nats://me@host", None),
        ("nats://", None),
        ("http://host", None),
        ("host", None),
    ] {
        assert_eq!(nats::server(url), expected, "{url}");
    }
    for (url, expected) in [
        (
            "https://sqs.eu-central-1.amazonaws.com/0/q",
            Some("https://sqs.eu-central-1.amazonaws.com"),
        ),
        ("http://[::1]:9324/q", Some("http://[::1]:9324")),
        ("ftp://host/q", None),
        ("/q", None),
    ] {
        assert_eq!(sqs::endpoint(url).as_deref(), expected, "{url}");
    }
}

/// A server that says this on each connection, and then reads until the connection is closed.
async fn says(words: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(words.as_bytes()).await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            });
        }
    });
    format!("nats://{address}")
}

fn subject(url: &str) -> Receiver {
    Receiver::Nats(NatsReceiver {
        url: url.to_owned(),
        subject: "a".to_owned(),
        login: NatsLogin::Nothing,
        authorities: None,
    })
}

#[tokio::test]
async fn a_server_that_is_none_of_nats_is_left_after_its_first_words() {
    for words in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "INFO no json\r\n",
        "INFO {\"tls_required\":true}\r\nwhat a middle man has put here\r\n",
        "INFO {}\r\n-ERR 'Authorization Violation'\r\nMSG a 1 9\r\n",
    ] {
        let at = says(words).await;
        let sent = Receivers::default().send(&subject(&at), &outgoing()).await;
        assert!(
            matches!(sent, Err(Undelivered::Later(_))),
            "{words} {sent:?}"
        );
    }
    // A record that it says it would refuse is not sent.
    let at = says("INFO {\"max_payload\":10}\r\nPONG\r\n").await;
    let sent = Receivers::default().send(&subject(&at), &outgoing()).await;
    assert!(matches!(sent, Err(Undelivered::Never(_))), "{sent:?}");
}

#[tokio::test]
async fn a_line_without_end_is_not_kept() {
    let (mut writer, reader) = tokio::io::duplex(1024);
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while writer.write_all(&[b'a'; 1024]).await.is_ok() {
            written += 1024;
        }
        written
    });
    let mut reader = BufReader::new(reader);
    assert_eq!(nats::line(&mut reader).await, None);
    drop(reader);
    let written = writing.await.expect("it ends");
    assert!(written < 128 * 1024, "{written}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let at = says("").await;
    let sent = Receivers::default().send(&subject(&at), &outgoing()).await;
    let error = sent.expect_err("no answer");
    assert!(matches!(error, Undelivered::Later(_)), "{error}");
}
