//! The span of an invocation and its line in the access log, as a subscriber gets them.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing::Level;

use super::peers::two;
use super::stage::{Stage, function, on_stage};

thread_local! {
    /// What this thread has written. `None` while no test reads it.
    static WRITTEN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Reads what this thread traces, until it is dropped.
///
/// The subscriber is that of the process. With one for each thread, a test of another thread that is the first
/// to trace an event could switch off that event for all threads: `tracing` then asks only the subscriber of
/// that thread, and keeps its reply.
struct Written;

impl Written {
    fn begin() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(Level::DEBUG)
                .with_ansi(false)
                .with_writer(|| ThisThread)
                .init();
            // Another thread may have traced something while the subscriber was being set.
            tracing::callsite::rebuild_interest_cache();
        });
        WRITTEN.set(Some(Vec::new()));
        Written
    }

    fn access_lines(&self) -> Vec<String> {
        let bytes = WRITTEN.with_borrow(|written| written.clone());
        let text = String::from_utf8(bytes.unwrap_or_default()).expect("a text");
        let lines = text.lines().filter(|line| line.contains(" access: "));
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        WRITTEN.set(None);
    }
}

struct ThisThread;

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| {
            if let Some(written) = written {
                written.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_has_a_line_with_its_function_request_owner_and_instance() {
    let written = Written::begin();
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        instance.serves("1").await;
        let answer = caller.answer().await;
        let lines = written.access_lines();
        let [line] = &lines[..] else {
            panic!("one line: {lines:?}");
        };
        let request_id = answer.header("x-amzn-requestid");
        for part in [
            "function=hello",
            &format!("request_id={request_id}"),
            "owner=local",
            &format!("instance={}", instance.name),
            "status=200",
            "duration_ms=",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let refused = stage.call("no JSON").answer().await;
        let line = written.access_lines().pop().expect("a line");
        assert!(
            line.contains("status=400") && line.contains("function=hello"),
            "{line}"
        );
        assert!(line.contains(refused.header("x-amzn-requestid")), "{line}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_has_one_line_at_the_gateway_that_was_called() {
    let written = Written::begin();
    on_stage(async {
        let ((mut first, _), (second, _)) = two("").await;
        let caller = second.call("1");
        let mut instance = first.instance().await;
        instance.serves("1").await;
        caller.answer().await;
        assert_eq!(written.access_lines().len(), 1);
    })
    .await;
}
