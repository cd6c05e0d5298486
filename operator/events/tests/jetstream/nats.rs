//! A NATS server on this machine, with a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// What the chart starts it with.
const SETTINGS: &str = "max_payload: 2MB";

pub(crate) struct NatsServer {
    process: Child,
    folder: TempDir,
    settings: String,
    port: u16,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("jetstream");
        let jetstream = format!(
            "jetstream {{ store_dir: \"{}\", sync_interval: always }}",
            store.display()
        );
        Self::start_in(folder, format!("{SETTINGS}\n{jetstream}"))
    }

    /// With these lines of its configuration, in which `FOLDER` is one for JetStream.
    pub(crate) fn start_with(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("jetstream");
        let settings = settings.replace("FOLDER", &store.display().to_string());
        Self::start_in(folder, settings)
    }

    fn start_in(folder: TempDir, settings: String) -> Self {
        // Port -1 is any free one.
        let (process, port) = spawn(folder.path(), &settings, -1);
        NatsServer {
            process,
            folder,
            settings,
            port,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it lives");
        self.process.wait().expect("it has ended");
    }

    /// At the same port, with the same data.
    pub(crate) fn restart(&mut self) {
        let (process, _) = spawn(self.folder.path(), &self.settings, self.port.into());
        self.process = process;
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns once it serves.
fn spawn(folder: &Path, settings: &str, port: i32) -> (Child, u16) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = root.join("target/cluster/bin/nats-server");
    let program = std::env::var_os("PILOTLIGHT_NATS_SERVER").map_or(built, PathBuf::from);
    let config = folder.join("nats.conf");
    let text = format!("listen: \"127.0.0.1:{port}\"\n{settings}\n");
    fs::write(&config, text).expect("a file");
    let mut process = Command::new(&program)
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}: run `tests/cluster/cluster build nats`",
                program.display()
            )
        });
    let log = BufReader::new(process.stderr.take().expect("a pipe"));
    let mut lines = log.lines().map_while(Result::ok);
    let mut port = None;
    let is_ready = lines.any(|line| {
        if let Some((_, at)) = line.split_once("Listening for client connections on 127.0.0.1:") {
            port = at.trim().parse().ok();
        }
        line.contains("Server is ready")
    });
    assert!(is_ready, "it serves");
    // Its log goes on, and it must not wait for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    (process, port.expect("its port"))
}
