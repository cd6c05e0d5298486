//! An unclaimed supervisor as gateways see it.

mod instance;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use ureq::http::Method;

use instance::{Answer, Instance, call, config, next};

fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .expect("appended");
    }
    archive.into_inner().expect("closed")
}

/// The configuration of an instance that runs `bootstrap` of its code.
fn runs_bootstrap(root: &Path) -> Value {
    let task = root.join("var/task");
    config("exec ./bootstrap", json!({ "taskRoot": task }))
}

fn claim(instance: &Instance, name: &str, config: &Value, code: &[u8]) -> Answer {
    let mut body = json!({ "instance": name, "config": config })
        .to_string()
        .into_bytes();
    body.push(b'\n');
    body.extend_from_slice(code);
    call(
        Method::POST,
        &format!("{}/claim", instance.control),
        &[],
        body,
    )
}

const BOOTSTRAP: (&str, u32, &str) = (
    "var/task/bootstrap",
    0o755,
    "#!/bin/sh\necho I am $(cat lib/name)\nexec sleep 600\n",
);

#[test]
fn a_claimed_instance_runs_the_code_that_came_with_the_claim() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = Instance::unclaimed(root.path());
    let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "claimed")]);
    let claimed = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
    assert_eq!(claimed.status, 200, "{claimed:?}");

    instance.logged("I am claimed", 1);
    let waiting = next(&instance.api(1));
    instance.becomes("ready");
    let mode = fs::metadata(root.path().join("var/task/bootstrap"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let lease = instance.lease("r1", "{}");
    assert_eq!(waiting.join().expect("an event").body, b"{}");
    drop(instance);
    assert_eq!(lease.join().expect("an answer").status, 500);
}

#[test]
fn the_first_claim_wins_and_the_second_is_told_which_it_was() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = Instance::unclaimed(root.path());
    let config = runs_bootstrap(root.path());

    // The first is under way: its code has not ended.
    let address = instance.control.trim_start_matches("http://");
    let mut first = TcpStream::connect(address).expect("connected");
    let line = json!({ "instance": "i1", "config": config }).to_string();
    let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "first")]);
    let length = line.len() + 1 + code.len();
    let head =
        format!("POST /claim HTTP/1.1\r\nhost: i\r\ncontent-length: {length}\r\n\r\n{line}\n");
    first.write_all(head.as_bytes()).expect("sent");
    first.write_all(&code[..512]).expect("sent");
    let second = instance::until("the second claim is refused", || {
        let second = claim(&instance, "i2", &json!(null), b"");
        (second.status == 409).then_some(second)
    });
    assert_eq!(second.header("pilotlight-refusal"), "claimed");
    assert_eq!(second.header("pilotlight-instance"), "i1");

    first.write_all(&code[512..]).expect("sent");
    let mut answer = [0; 15];
    first.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    instance.logged("I am first", 1);
    let late = claim(&instance, "i3", &config, &code);
    assert_eq!(late.status, 409);
    assert_eq!(late.header("pilotlight-instance"), "i1");
}

#[test]
fn a_claim_that_says_nothing_useful_is_refused_and_the_next_one_taken() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = Instance::unclaimed(root.path());
    let url = format!("{}/claim", instance.control);
    for body in [
        "",
        "{}\n",
        r#"{"instance":"i1","config":null}"#,
        "{\"instance\":\"i1\"}\n",
    ] {
        let refused = call(Method::POST, &url, &[], body);
        assert_eq!(refused.status, 400, "{body:?}");
        assert!(!refused.body.is_empty(), "{body:?}");
    }
    let lease = instance.lease("r1", "{}").join().expect("an answer");
    assert_eq!(lease.status, 404, "there is nothing to lease yet");
    let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "next")]);
    let claimed = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
    assert_eq!(claimed.status, 200);
    instance.logged("I am next", 1);
}

#[test]
fn code_that_breaks_off_or_leads_outside_ends_the_instance() {
    let outside = {
        // The writer refuses such a name, so it is put in place of an innocent one.
        let mut code = tar(&[("var/aa/evil", 0o644, "x")]);
        code[..11].copy_from_slice(b"var/../evil");
        let mut header = tar::Header::from_byte_slice(&code[..512]).clone();
        header.set_cksum();
        code[..512].copy_from_slice(header.as_bytes());
        code
    };
    let damaged = tar(&[BOOTSTRAP])[..700].to_vec();
    for code in [damaged, outside] {
        let root = tempfile::tempdir().expect("a directory");
        let mut instance = Instance::unclaimed(root.path());
        let refused = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
        assert_eq!(refused.status, 400);
        assert!(!instance.ended().success());
        assert!(!root.path().join("evil").exists());
    }
}

#[test]
fn an_unclaimed_instance_ends_when_it_is_told_to() {
    let root = tempfile::tempdir().expect("a directory");
    let mut drained = Instance::unclaimed(root.path());
    drained.drain();
    assert!(drained.ended().success());
    let mut left = Instance::unclaimed(root.path());
    left.leave();
    assert!(left.ended().success());
}
