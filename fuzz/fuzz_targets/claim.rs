//! A claim: a line of JSON, then a tar, which arrives in two pieces.
//!
//! It is either accepted, and the instance gets what it says, or refused with a reason. No file is written outside
//! of the root, and files use no more space than was sent. A claim that names its parts is accepted only if they are what
//! arrives, and naming them truly changes nothing. A pod that was made for one function unpacks nothing but its own archives.

#![no_main]

use std::cell::RefCell;
use std::path::Path;

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use pilotlight_core::instance::parts::{Digest, OwnArchive, Part};
use pilotlight_fuzz::request::Pieces;
use pilotlight_fuzz::sandbox::Sandbox;
use pilotlight_fuzz::tar::repaired;
use pilotlight_supervisor::fuzzing::Thread;
use pilotlight_wire::claim::Claim;
use pilotlight_wire::config::InstanceConfig;

/// The least space that a file or a directory uses.
const BLOCK: u64 = 4096;

thread_local! {
    static LIFE: RefCell<(Sandbox, Thread)> = RefCell::new((Sandbox::new(), Thread::new()));
}

fuzz_target!(|data: &[u8]| {
    LIFE.with_borrow_mut(|(sandbox, thread)| claim(sandbox, thread, data));
});

fn claim(sandbox: &mut Sandbox, thread: &Thread, data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (line, tar) = data.split_at(end.map_or(data.len(), |end| end + 1));
    let tar = repaired(tar);
    let sent = [line, &tar].concat();
    let root = sandbox.root();
    let claimed = thread.claim(&root, None, None, Pieces::in_two(&sent));
    let found = sandbox.check();
    let blocks = found.entries as u64 * BLOCK;
    assert!(found.blocks <= sent.len() as u64 + blocks, "{found:?}");
    let status = claimed.answer.status();
    let accepted = claimed.accepted.clone();
    match claimed.accepted {
        Some(accepted) => {
            assert_eq!(status, StatusCode::OK);
            let claim: Claim = serde_json::from_slice(line).expect("its first line");
            let parts = claim.parts.as_deref();
            assert!(parts.is_none_or(|parts| are_as_named(parts, &tar)));
            assert_eq!(
                accepted,
                (claim.instance, claim.config.expect("it is needed"))
            );
        }
        None => {
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(!claimed.answer.body().is_empty());
        }
    }
    own_pod(&root, thread, line, accepted.clone());
    if line.ends_with(b"\n")
        && let Ok(claim) = serde_json::from_slice::<Claim>(line)
        && claim.parts.is_none()
    {
        if let Some(config) = &claim.config {
            only_own(sandbox, thread, config, &tar);
        }
        named_truly(sandbox, thread, &claim, &tar, accepted.is_some());
        named_falsely(sandbox, thread, &claim, &tar);
    }
}

/// Whether these parts are the whole tar.
fn are_as_named(parts: &[Part], mut tar: &[u8]) -> bool {
    for part in parts {
        let size = usize::try_from(part.bytes).unwrap_or(usize::MAX);
        let Some((content, rest)) = tar.split_at_checked(size) else {
            return false;
        };
        if Digest::of(content) != part.sha256 {
            return false;
        }
        tar = rest;
    }
    tar.is_empty()
}

/// The halves of the tar, as the gateway would name them.
fn halves(tar: &[u8]) -> Vec<Part> {
    let (first, second) = tar.split_at(tar.len() / 3);
    let part = |field: &str, content: &[u8]| Part {
        field: field.to_owned(),
        bytes: content.len() as u64,
        sha256: Digest::of(content),
    };
    vec![part("first", first), part("second", second)]
}

fn claim_of(sandbox: &mut Sandbox, thread: &Thread, claim: &Claim, tar: &[u8]) -> bool {
    let sent = [&claim.to_line(), tar].concat();
    let root = sandbox.root();
    let claimed = thread.claim(&root, None, None, Pieces::in_two(&sent));
    sandbox.check();
    claimed.accepted.is_some()
}

/// A pod whose archive is another one: by whatever names the claim brings this one, nothing is unpacked.
fn only_own(sandbox: &mut Sandbox, thread: &Thread, config: &InstanceConfig, tar: &[u8]) {
    let own = Digest::of(b"its own");
    let lying = Part {
        field: "own".to_owned(),
        bytes: tar.len() as u64,
        sha256: own,
    };
    for parts in [None, Some(halves(tar)), Some(vec![lying])] {
        let claim = Claim {
            instance: "own".to_owned(),
            config: None,
            defaults: None,
            parts,
        };
        let archives = vec![OwnArchive {
            field: "own".to_owned(),
            folder: "var/task".into(),
            sha256: own,
        }];
        let sent = [&claim.to_line(), tar].concat();
        let root = sandbox.root();
        let pod = ("own".to_owned(), config.clone());
        let claimed = thread.claim(&root, Some(pod), Some(archives), Pieces::in_two(&sent));
        assert_eq!(claimed.accepted, None, "{claim:?}");
        let found = sandbox.check();
        assert_eq!((found.bytes, found.links.len()), (0, 0), "{claim:?}");
    }
}

/// The same claim with true names has the same result.
fn named_truly(
    sandbox: &mut Sandbox,
    thread: &Thread,
    claim: &Claim,
    tar: &[u8],
    is_accepted: bool,
) {
    let parts = Some(halves(tar));
    let named = Claim {
        parts,
        ..claim.clone()
    };
    assert_eq!(claim_of(sandbox, thread, &named, tar), is_accepted);
}

/// One wrong name, or one part too many or too few: no instance.
fn named_falsely(sandbox: &mut Sandbox, thread: &Thread, claim: &Claim, tar: &[u8]) {
    let true_parts = halves(tar);
    let mut longer = true_parts.clone();
    longer[1].bytes += 1;
    let mut other = true_parts.clone();
    other[0].sha256 = Digest::of(b"other");
    let mut fewer = true_parts.clone();
    fewer.pop();
    for parts in [longer, other, fewer] {
        // An empty part may be left out.
        if are_as_named(&parts, tar) {
            continue;
        }
        let parts = Some(parts);
        let named = Claim {
            parts,
            ..claim.clone()
        };
        assert!(!claim_of(sandbox, thread, &named, tar), "{named:?}");
    }
}

/// The same line at a pod that was made as one instance: it becomes that one alone, and keeps its configuration.
fn own_pod(root: &Path, thread: &Thread, line: &[u8], accepted: Option<(String, InstanceConfig)>) {
    let Some((_, config)) = accepted else {
        return;
    };
    let own = ("own".to_owned(), config.clone());
    let claimed = thread.claim(root, Some(own.clone()), None, Pieces::in_two(line));
    assert_eq!(
        claimed.accepted, None,
        "it takes no configuration from a claim"
    );
    let naming_defaults = Claim {
        instance: "own".to_owned(),
        config: None,
        defaults: Some(vec!["PATH".to_owned()]),
        parts: None,
    };
    let sent = naming_defaults.to_line();
    let claimed = thread.claim(root, Some(own.clone()), None, Pieces::in_two(&sent));
    assert_eq!(claimed.accepted, None, "it takes no names of defaults");
    for name in ["own", "other"] {
        let claim = Claim {
            instance: name.to_owned(),
            config: None,
            defaults: None,
            parts: None,
        };
        let claimed = thread.claim(
            root,
            Some(own.clone()),
            None,
            Pieces::in_two(&claim.to_line()),
        );
        assert_eq!(claimed.accepted, (name == "own").then(|| own.clone()));
    }
}
