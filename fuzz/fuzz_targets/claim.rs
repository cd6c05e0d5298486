//! A claim: a line of JSON, then a tar, which arrives in two pieces.
//!
//! It is either accepted, and the instance gets what it says, or refused with a reason. No file is written outside
//! of the root, and files use no more space than was sent.

#![no_main]

use std::cell::RefCell;

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use pilotlight_fuzz::request::Pieces;
use pilotlight_fuzz::sandbox::Sandbox;
use pilotlight_fuzz::tar::repaired;
use pilotlight_supervisor::fuzzing::Thread;
use pilotlight_wire::claim::Claim;

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
    let sent = [line, &repaired(tar)].concat();
    let root = sandbox.root();
    let claimed = thread.claim(&root, None, Pieces::in_two(&sent));
    let found = sandbox.check();
    let blocks = found.entries as u64 * BLOCK;
    assert!(found.blocks <= sent.len() as u64 + blocks, "{found:?}");
    let status = claimed.answer.status();
    match claimed.accepted {
        Some(accepted) => {
            assert_eq!(status, StatusCode::OK);
            let claim: Claim = serde_json::from_slice(line).expect("its first line");
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
}
