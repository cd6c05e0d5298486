//! Claims without a connection.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::pin::{Pin, pin};

use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::{Body, Frame};
use pilotlight_core::instance::parts::{Digest, Part};
use serde_json::json;
use tokio::sync::mpsc;

use super::unpack::STALL_TIMEOUT;
use super::*;

fn config(function: &str) -> InstanceConfig {
    let config = json!({
        "listen": "memory", "endsWithParent": false, "function": function, "memory": 128,
        "timeout": 3, "sanitizeErrors": false, "logFormat": "Text", "logs": true,
        "logGroup": "/aws/lambda/hello", "logStream": "2026/01/31/[$LATEST]0",
        "runtime": "custom", "command": ["/var/task/main"], "taskRoot": "/", "environment": {},
    });
    serde_json::from_value(config).expect("a configuration")
}

fn line(instance: &str, config: Option<InstanceConfig>) -> Vec<u8> {
    naming(instance, config, None)
}

fn naming(instance: &str, config: Option<InstanceConfig>, parts: Option<Vec<Part>>) -> Vec<u8> {
    let instance = instance.to_owned();
    Claim {
        instance,
        config,
        defaults: None,
        parts,
    }
    .to_line()
}

fn part(field: &str, content: &[u8]) -> Part {
    Part {
        field: field.to_owned(),
        bytes: content.len() as u64,
        sha256: Digest::of(content),
    }
}

/// A tar with one file.
fn tar(name: &str, text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let appended = builder.append_data(&mut header, name, text.as_bytes());
    appended.expect("in memory");
    builder.into_inner().expect("in memory")
}

/// A body that never ends after these bytes.
fn stalling(bytes: Vec<u8>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    let piece = Ok::<_, Infallible>(Frame::data(Bytes::from(bytes)));
    StreamBody::new(Box::pin(stream::iter([piece]).chain(stream::pending())))
}

/// A body of one byte a second, without an end.
fn trickling(bytes: Vec<u8>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    let first = stream::iter([bytes]);
    let rest = stream::repeat(vec![0]).then(async |byte| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        byte
    });
    let pieces = first.chain(rest);
    let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
    StreamBody::new(Box::pin(frames))
}

fn whole(bytes: Vec<u8>) -> impl ClaimBody {
    http_body_util::Full::new(Bytes::from(bytes))
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_stalls_within_its_first_line_keeps_no_other_one_out() {
    let (pending, result) = PendingClaim::new("/nowhere".into(), None, false);
    let refused = claim(&pending, stalling(b"{".to_vec())).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let taken = claim(&pending, whole(line("a", Some(config("hello"))))).await;
    assert_eq!(taken.status(), StatusCode::OK);
    let claimed = result
        .await
        .expect("a result")
        .expect("a claim")
        .expect("an instance");
    assert_eq!((claimed.instance.as_str(), claimed.from_pool), ("a", true));
}

#[tokio::test]
async fn a_claim_that_is_sent_again_succeeds_with_the_first_one_and_not_before() {
    let root = tempfile::tempdir().expect("a directory");
    let (pending, _result) = PendingClaim::new(root.path().into(), None, false);
    let (sender, rest) = mpsc::unbounded_channel::<Vec<u8>>();
    let begun = line("a", Some(config("hello")));
    let pieces = stream::iter([begun]).chain(stream::unfold(rest, async |mut rest| {
        Some((rest.recv().await?, rest))
    }));
    let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
    let mut first = pin!(claim(&pending, StreamBody::new(Box::pin(frames))));
    let mut again = pin!(claim(&pending, whole(line("a", Some(config("hello"))))));
    let mut other = pin!(claim(&pending, whole(line("b", Some(config("hello"))))));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(other.as_mut().await.status(), StatusCode::CONFLICT);
    assert!(futures_util::poll!(&mut again).is_pending());
    sender.send(tar("f", "text")).expect("received");
    drop(sender);
    assert_eq!(first.await.status(), StatusCode::OK);
    let late = again.await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert_eq!(late.headers()["pilotlight-instance"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_code_stalls_or_trickles_ends_the_process_within_a_bound() {
    let root = tempfile::tempdir().expect("a directory");
    let begun = || [line("a", Some(config("hello"))), vec![0]].concat();
    for (body, limit) in [
        (
            Box::pin(stalling(begun())) as Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>,
            STALL_TIMEOUT,
        ),
        (Box::pin(trickling(begun())), CLAIM_TIMEOUT),
    ] {
        let began = tokio::time::Instant::now();
        let (pending, result) = PendingClaim::new(root.path().into(), None, false);
        // The clock does not advance by itself while a thread unpacks.
        let passes = async {
            loop {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
        };
        let refused = tokio::select! {
            refused = claim(&pending, body) => refused,
            () = passes => unreachable!(),
        };
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(result.await.expect("a result").is_err());
        // It ended, which is the bound. The clock runs on while the thread ends.
        assert!(began.elapsed() >= limit);
    }
}

#[tokio::test]
async fn a_pod_that_was_made_as_an_instance_takes_its_configuration_from_nobody() {
    let own = Own {
        instance: Some("a".to_owned()),
        config: config("hello"),
        archives: None,
    };
    for (name, sent, status) in [
        ("a", Some(config("evil")), StatusCode::BAD_REQUEST),
        ("a", Some(config("hello")), StatusCode::BAD_REQUEST),
        ("b", None, StatusCode::BAD_REQUEST),
        ("a", None, StatusCode::OK),
    ] {
        let (pending, mut result) = PendingClaim::new("/nowhere".into(), Some(own.clone()), false);
        let answered = claim(&pending, whole(line(name, sent))).await;
        assert_eq!(answered.status(), status);
        let claimed = result
            .try_recv()
            .ok()
            .and_then(|result| result.expect("a claim"));
        let claimed = claimed.map(|claimed| (claimed.instance, claimed.config));
        let expected = ("a".to_owned(), config("hello"));
        assert_eq!(claimed, (status == StatusCode::OK).then_some(expected));
    }
}

/// The answer to a claim of these parts and this body, and whether it made an instance.
async fn claimed(
    root: &Path,
    parts: Option<Vec<Part>>,
    body: &[u8],
    needs_parts: bool,
) -> (StatusCode, String, bool) {
    let (pending, mut result) = PendingClaim::new(root.to_owned(), None, needs_parts);
    let line = naming("a", Some(config("hello")), parts);
    let answered = claim(&pending, whole([&line, body].concat())).await;
    let (head, text) = answered.into_parts();
    let text = text.collect().await.expect("a text").to_bytes();
    let text = String::from_utf8(text.to_vec()).expect("a text");
    let is_instance = matches!(result.try_recv(), Ok(Ok(Some(_))));
    (head.status, text, is_instance)
}

#[tokio::test]
async fn code_that_is_not_what_the_claim_names_makes_no_instance() {
    let (code, layer) = (tar("var/task/a", "code"), tar("opt/b", "layer"));
    let body = [&code[..], &layer].concat();
    let parts = vec![part("spec.code", &code), part("spec.layers[0]", &layer)];
    let named = |digest: Digest| format!("the claim names {digest}");

    let root = tempfile::tempdir().expect("a directory");
    let taken = claimed(root.path(), Some(parts.clone()), &body, true).await;
    assert_eq!((taken.0, taken.2), (StatusCode::OK, true), "{}", taken.1);
    assert!(root.path().join("opt/b").exists());

    // A byte of a file, and one of a header, which also makes it no tar.
    let mut in_file = body.clone();
    in_file[code.len() + 512] ^= 1;
    let mut in_header = body.clone();
    in_header[code.len() + 150] ^= 1;
    let damaged = named(parts[1].sha256);
    let longer = [&body[..], &[0]].concat();
    for (parts, body, why) in [
        (parts.clone(), &in_file[..], damaged.as_str()),
        (parts.clone(), &in_header, &damaged),
        // Cut off where a tar ends, and within one.
        (parts.clone(), &code, "spec.layers[0] ends after 0 of its"),
        (
            parts.clone(),
            &body[..700],
            "spec.code ends after 700 of its",
        ),
        (parts.clone(), b"", "spec.code ends after 0 of its"),
        (parts.clone(), &layer, "spec.code has the SHA-256"),
        (parts[..1].to_vec(), &body, "more than the parts"),
        (parts.clone(), &longer, "more than the parts"),
        (vec![], &body, "more than the parts"),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let (status, text, is_instance) = claimed(root.path(), Some(parts), body, true).await;
        assert_eq!((status, is_instance), (StatusCode::BAD_REQUEST, false));
        assert!(text.contains(why), "{why}: {text}");
    }
}

#[tokio::test]
async fn a_claim_that_names_no_parts_is_taken_only_while_gateways_may_be_of_an_earlier_release() {
    let code = tar("var/task/a", "code");
    for (needs_parts, status) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
        let root = tempfile::tempdir().expect("a directory");
        let answered = claimed(root.path(), None, &code, needs_parts).await;
        assert_eq!(answered.0, status, "{}", answered.1);
        assert_eq!(root.path().join("var/task/a").exists(), !needs_parts);
    }
}

/// A tar.gz with one file.
fn archive(name: &str, text: &str) -> Vec<u8> {
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(&tar(name, text)).expect("in memory");
    zipped.finish().expect("in memory")
}

#[tokio::test]
async fn a_pod_of_one_function_takes_the_archives_of_its_specification_and_no_other_code() {
    let (code, layer) = (archive("a", "code"), archive("b", "layer"));
    let own = |field: &str, folder: &str, content: &[u8]| OwnArchive {
        field: field.to_owned(),
        folder: folder.into(),
        sha256: Digest::of(content),
    };
    let made_as = Own {
        instance: Some("a".to_owned()),
        config: config("hello"),
        archives: Some(vec![
            own("spec.code.archive", "var/task", &code),
            own("spec.layers[0]", "opt", &layer),
        ]),
    };
    let parts = [part("code", &code), part("layer", &layer)];
    let whole_code = [&code[..], &layer].concat();
    let evil = archive("a", "evil");
    let evil_code = [&evil[..], &layer].concat();
    let tars = [tar("var/task/a", "evil"), tar("opt/b", "layer")];
    let mut damaged = whole_code.clone();
    damaged[code.len() - 1] ^= 1;
    let lying = Part {
        bytes: evil.len() as u64,
        ..parts[0].clone()
    };
    // Whether the next claim has a chance: the first one brought nothing.
    for (named, body, why, is_over) in [
        (Some(parts.to_vec()), &whole_code, "", true),
        // By its true name, by the name of the pod's own archive, and without a name.
        (
            Some(vec![part("code", &evil), parts[1].clone()]),
            &evil_code,
            "spec.code.archive of this pod is the archive",
            false,
        ),
        (
            Some(vec![lying, parts[1].clone()]),
            &evil_code,
            "spec.code.archive has the SHA-256",
            true,
        ),
        (None, &tars.concat(), "a claim needs the digests", false),
        (
            Some(vec![part("code", &tars[0]), part("layer", &tars[1])]),
            &tars.concat(),
            "spec.code.archive of this pod is the archive",
            false,
        ),
        (
            Some(parts[..1].to_vec()),
            &code,
            "spec.layers[0] is missing in the claim",
            false,
        ),
        (
            Some([&parts[..], &parts[1..]].concat()),
            &whole_code,
            "layer is no part of this pod's function",
            false,
        ),
        (
            Some(parts.to_vec()),
            &damaged,
            "spec.code.archive has the SHA-256",
            true,
        ),
        (
            Some(parts.to_vec()),
            &code,
            "spec.layers[0] ends after 0 of its",
            true,
        ),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let (pending, mut result) =
            PendingClaim::new(root.path().to_owned(), Some(made_as.clone()), true);
        let body = [&naming("a", None, named), &body[..]].concat();
        let answered = claim(&pending, whole(body)).await;
        let (head, text) = answered.into_parts();
        let text = text.collect().await.expect("a text").to_bytes();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(why), "{why}: {text}");
        let result = result.try_recv();
        assert_eq!(result.is_ok(), is_over, "{why}");
        let is_instance = matches!(result, Ok(Ok(Some(_))));
        assert_eq!(
            (head.status == StatusCode::OK, is_instance),
            (why.is_empty(), why.is_empty())
        );
        let read = fs::read_to_string(root.path().join("var/task/a"));
        assert_ne!(read.as_deref().unwrap_or_default(), "evil", "{why}");
        if why.is_empty() {
            assert_eq!(read.expect("the code"), "code");
            let read = fs::read_to_string(root.path().join("opt/b"));
            assert_eq!(read.expect("the layer"), "layer");
            assert_eq!(
                fs::read_dir(root.path().join("tmp"))
                    .expect("a folder")
                    .count(),
                0
            );
        }
    }
}

/// During an upgrade, a gateway of the earlier release claims it.
#[tokio::test]
async fn a_pod_of_one_function_takes_tars_only_while_gateways_may_be_of_an_earlier_release() {
    let made_as = Own {
        instance: Some("a".to_owned()),
        config: config("hello"),
        archives: Some(Vec::new()),
    };
    for (needs_parts, status) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
        let root = tempfile::tempdir().expect("a directory");
        let own = Some(made_as.clone());
        let (pending, _result) = PendingClaim::new(root.path().into(), own, needs_parts);
        let body = [line("a", None), tar("var/task/a", "code")].concat();
        let answered = claim(&pending, whole(body)).await;
        assert_eq!(answered.status(), status);
        assert_eq!(root.path().join("var/task/a").exists(), !needs_parts);
    }
}
