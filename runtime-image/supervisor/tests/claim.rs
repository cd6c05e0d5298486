//! The claims of an unclaimed supervisor, as gateways send them.

mod instance;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pilotlight_core::instance::parts::Digest;
use serde_json::{Value, json};
use ureq::http::Method;

use instance::{Instance, after, call, claim, claim_with, config, next, post, tar};

/// The configuration of an instance that runs `bootstrap` of its code.
fn runs_bootstrap(root: &Path) -> Value {
    let task = root.join("var/task");
    config("exec ./bootstrap", json!({ "taskRoot": task }))
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
fn the_first_claim_wins_and_later_ones_receive_its_instance_name() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = Instance::unclaimed(root.path());
    let config = runs_bootstrap(root.path());

    // The first claim is in progress, as the end of its code is missing.
    let mut first = instance.connection();
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
fn a_stranger_cannot_give_a_pod_of_a_function_another_command_or_another_name() {
    let root = tempfile::tempdir().expect("a directory");
    let own = runs_bootstrap(root.path());
    let instance = Instance::without_code(root.path(), "i1", &own);
    let evil = config("echo I am evil; exec sleep 600", json!({}));
    let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "its own")]);
    for (name, config) in [("i1", &evil), ("i1", &own), ("i2", &json!(null))] {
        let refused = claim(&instance, name, config, &code);
        assert_eq!(refused.status, 400, "{name} {config}");
    }
    let claimed = claim(&instance, "i1", &json!(null), &code);
    assert_eq!(claimed.status, 200, "{claimed:?}");
    instance.logged("I am its own", 1);
    let url = format!("{}/status", instance.control);
    let status = ureq::get(url).call().expect("the stream begins");
    assert_eq!(status.headers()["pilotlight-instance"], "i1");
}

/// The variables of a pod's sources reach the function as in a pod of its own: they override what the claim lists as
/// defaults, and neither the manifest's values nor reserved names.
#[test]
fn a_claim_says_which_variables_the_sources_of_its_pod_override() {
    let sources = [
        ("PILOTLIGHT_ENV_TABLE", "from the secret"),
        ("PILOTLIGHT_ENV_LANG", "from the secret"),
        ("PILOTLIGHT_ENV_STAGE", "from the secret"),
        ("PILOTLIGHT_ENV__HANDLER", "from the secret"),
    ];
    let script = "echo $TABLE, $LANG, $STAGE, $_HANDLER; exec sleep 600";
    let environment = json!({ "LANG": "default", "STAGE": "manifest", "_HANDLER": "a.b" });
    let config = config(script, json!({ "environment": environment }));
    for (defaults, lang) in [
        (json!(["LANG"]), "from the secret"),
        (json!(null), "default"),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let instance = Instance::unclaimed_and(root.path(), &sources);
        let line = json!({ "instance": "i1", "config": config, "defaults": defaults });
        let claimed = claim_with(&instance, line, b"");
        assert_eq!(claimed.status, 200, "{claimed:?}");
        instance.logged(&format!("from the secret, {lang}, manifest, a.b"), 1);
    }
}

#[test]
fn a_pod_of_a_function_takes_no_names_of_defaults_from_a_claim() {
    let root = tempfile::tempdir().expect("a directory");
    let own = runs_bootstrap(root.path());
    let instance = Instance::without_code(root.path(), "i1", &own);
    let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "its own")]);
    let line = json!({ "instance": "i1", "config": null, "defaults": ["TZ"] });
    let refused = claim_with(&instance, line, &code);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(claim(&instance, "i1", &json!(null), &code).status, 200);
}

fn gzipped(tar: &[u8]) -> Vec<u8> {
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(tar).expect("in memory");
    zipped.finish().expect("in memory")
}

#[test]
fn a_pod_of_one_function_runs_its_own_archive_and_ends_when_it_gets_another() {
    let archive = |name: &str| {
        let (_, mode, script) = BOOTSTRAP;
        gzipped(&tar(&[
            ("bootstrap", mode, script),
            ("lib/name", 0o644, name),
        ]))
    };
    let (own, evil) = (archive("its own"), archive("evil"));
    let sha256 = Digest::of(&own);
    let made_for = json!({ "archives": [
        { "field": "spec.code.archive", "folder": "var/task", "sha256": sha256 },
    ] });
    for (sent, is_own) in [(&evil, false), (&own, true)] {
        let root = tempfile::tempdir().expect("a directory");
        let config = runs_bootstrap(root.path());
        let mut instance = Instance::made_for(root.path(), "i1", &config, made_for.clone());
        let looked = call(
            Method::GET,
            &format!("{}/status", instance.control),
            &[],
            "",
        );
        assert_eq!(looked.header("pilotlight-takes"), "archives");
        let part = json!({ "field": "code", "bytes": sent.len(), "sha256": sha256 });
        let line = json!({ "instance": "i1", "config": null, "parts": [part] });
        let answer = claim_with(&instance, line, sent);
        if is_own {
            assert_eq!(answer.status, 200, "{answer:?}");
            instance.logged("I am its own", 1);
            continue;
        }
        assert_eq!(answer.status, 400);
        let text = String::from_utf8_lossy(&answer.body);
        for word in [
            "spec.code.archive",
            &sha256.to_string(),
            &Digest::of(&evil).to_string(),
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!instance.ended().success());
        assert!(!root.path().join("var/task/bootstrap").exists());
    }
}

#[test]
fn an_invalid_claim_is_refused_and_the_next_one_accepted() {
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
    assert_eq!(lease.status, 404, "an unclaimed instance cannot be leased");
    let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "next")]);
    let claimed = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
    assert_eq!(claimed.status, 200);
    instance.logged("I am next", 1);
}

#[test]
fn incomplete_code_or_a_name_that_leads_outside_ends_the_instance() {
    let outside = {
        // The tar writer refuses such a name, so it replaces a valid one afterwards.
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

/// A tar with code whose first entry is this link.
fn with_link(name: &str, to: &Path, files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut link = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, name, to).expect("an entry");
    let mut code = link.into_inner().expect("a tar");
    code.extend(tar(files));
    code
}

#[test]
fn a_link_in_the_code_is_kept_wherever_it_leads() {
    for to in ["/opt/nodejs/node_modules", "../../../etc", "absent"] {
        let root = tempfile::tempdir().expect("a directory");
        let instance = Instance::unclaimed(root.path());
        let name = "var/task/node_modules";
        let code = [BOOTSTRAP, ("var/task/lib/name", 0o644, "linked")];
        let code = with_link(name, Path::new(to), &code);
        let claimed = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
        assert_eq!(claimed.status, 200, "{claimed:?}");
        instance.logged("I am linked", 1);
        let link = fs::read_link(root.path().join(name)).expect("a link");
        assert_eq!(link, Path::new(to));
    }
}

#[test]
fn no_file_is_written_through_a_link_in_the_code() {
    let outside = tempfile::tempdir().expect("a directory");
    for (place, file) in [
        // In a pod, every folder is below the root.
        (None, "opt/lib/evil"),
        (None, "opt/lib/deep/evil"),
        (Some(outside.path()), "opt/lib/evil"),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let inside = root.path().join("etc");
        fs::create_dir(&inside).expect("made");
        let mut instance = Instance::unclaimed(root.path());
        let to = place.unwrap_or(&inside);
        let code = with_link("opt/lib", to, &[(file, 0o644, "x"), BOOTSTRAP]);
        let refused = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
        assert_eq!(refused.status, 400);
        assert!(!instance.ended().success());
        assert_eq!(fs::read_dir(to).expect("a directory").count(), 0);
    }
    // A later entry with the name of the link replaces it.
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("canary"), "alive").expect("written");
    let instance = Instance::unclaimed(root.path());
    let code = [BOOTSTRAP, ("var/task/lib/name", 0o644, "whole")];
    let code = with_link("var/task/lib/name", Path::new("../../../canary"), &code);
    let claimed = claim(&instance, "i1", &runs_bootstrap(root.path()), &code);
    assert_eq!(claimed.status, 200, "{claimed:?}");
    instance.logged("I am whole", 1);
    let canary = fs::read_to_string(root.path().join("canary"));
    assert_eq!(canary.expect("a file"), "alive");
}

#[test]
fn an_unclaimed_instance_ends_when_it_is_drained_or_loses_its_parent() {
    let root = tempfile::tempdir().expect("a directory");
    let mut drained = Instance::unclaimed(root.path());
    drained.drain();
    assert!(drained.ended().success());
    let mut left = Instance::unclaimed(root.path());
    left.leave();
    assert!(left.ended().success());
}

#[test]
fn an_instance_from_a_warm_pool_ends_when_no_gateway_is_connected() {
    let root = tempfile::tempdir().expect("a directory");
    let limit = json!({ "orphanedAfterMs": 300 });
    let mut connected = Instance::unclaimed_with(root.path(), limit.clone());
    let mut orphans = [(); 2].map(|()| Instance::unclaimed_with(root.path(), limit.clone()));
    let sleeps = config("exec sleep 600", json!({}));
    let stream = |instance: &Instance| {
        let mut stream = instance.connection();
        let request = b"GET /status HTTP/1.1\r\nhost: i\r\n\r\n";
        stream.write_all(request).expect("sent");
        stream
    };
    assert_eq!(claim(&connected, "i1", &sleeps, b"").status, 200);
    let status = stream(&connected);
    // The limit passes twice, once for each orphan, while a gateway is connected to the first instance.
    for orphan in &mut orphans {
        assert_eq!(claim(orphan, "i2", &sleeps, b"").status, 200);
        assert!(orphan.ended().success());
        orphan.logged("the instance ends because no gateway is connected to it", 1);
    }
    assert!(!connected.has_ended(), "a gateway is connected");
    drop(status);
    assert!(connected.ended().success());
}

#[test]
fn the_phases_of_a_cold_start_are_in_the_first_answer_and_its_report() {
    let root = tempfile::tempdir().expect("a directory");
    for format in ["Text", "JSON"] {
        let instance = Instance::unclaimed(root.path());
        let code = tar(&[BOOTSTRAP, ("var/task/lib/name", 0o644, "timed")]);
        let mut config = runs_bootstrap(root.path());
        config["logFormat"] = json!(format);
        assert_eq!(claim(&instance, "i1", &config, &code).status, 200);
        let api = instance.api(1);
        let mut event = next(&api);
        instance.becomes("ready");
        let before = &[("pilotlight-phases", "queue;dur=0.21, claim;dur=3.4")];
        let mut answers = Vec::new();
        for id in ["r1", "r2"] {
            let headers: &'static [_] = if id == "r1" { before } else { &[] };
            let lease = instance.lease_with_headers(id, "{}", headers);
            event.join().expect("an event");
            post(&api, &format!("/invocation/{id}/response"), &[], "1");
            event = next(&api);
            answers.push(lease.join().expect("an answer"));
        }
        let phases = answers[0].header("pilotlight-phases");
        let parts: Vec<&str> = phases.split(", ").collect();
        assert!(parts[0].starts_with("unpack;dur="), "{phases}");
        assert!(parts[1].starts_with("init;dur="), "{phases}");
        assert_eq!(answers[1].header("pilotlight-phases"), "");

        let is_report = if format == "Text" {
            "REPORT RequestId"
        } else {
            "platform.report"
        };
        let (first, second) = (instance.logged(is_report, 1), instance.logged(is_report, 2));
        let unpack = after(parts[0], "dur=");
        if format == "Text" {
            let (_, cold) = first.split_once("Init Duration: ").expect("an init");
            let whole = format!("Cold Start: queue 0.21 ms, claim 3.40 ms, unpack {unpack} ms\t");
            assert_eq!(after(cold, "\t"), whole);
            assert!(!second.contains("Cold Start"), "{second}");
        } else {
            let record = |line: &str| -> Value {
                let line = &line[line.find('{').expect("JSON")..];
                serde_json::from_str::<Value>(line).expect("JSON")["record"].take()
            };
            let cold = &record(&first)["coldStart"];
            assert_eq!(
                (&cold["queueMs"], &cold["claimMs"]),
                (&json!(0.21), &json!(3.4))
            );
            assert!(cold["unpackMs"].is_number(), "{cold}");
            assert_eq!(record(&second)["coldStart"], Value::Null);
        }
    }
}
