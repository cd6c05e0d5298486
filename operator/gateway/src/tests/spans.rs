//! The span of an invocation and its line in the access log, as a subscriber gets them.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

use super::peers::two;
use super::stage::{Stage, function, on_stage};

/// What was written, line by line.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// Writes everything that this thread traces, until the guard is dropped.
    fn begin() -> (Self, DefaultGuard) {
        let written = Written::default();
        let to = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || to.clone())
            .finish();
        (written, tracing::subscriber::set_default(subscriber))
    }

    fn access_lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("one thread").clone();
        let text = String::from_utf8(bytes).expect("a text");
        let lines = text.lines().filter(|line| line.contains(" access: "));
        lines.map(str::to_owned).collect()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_has_a_line_with_its_function_request_owner_and_instance() {
    let (written, _guard) = Written::begin();
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
    let (written, _guard) = Written::begin();
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
