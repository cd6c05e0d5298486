//! A NATS server on this machine, with a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// What the chart starts it with.
const SETTINGS: &str = "max_payload: 2MB";
const JETSTREAM: &str = "jetstream { store_dir: \"FOLDER\", sync_interval: always }";

pub(crate) struct NatsServer {
    process: Child,
    folder: TempDir,
    settings: String,
    port: u16,
    scheme: &'static str,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&format!("{SETTINGS}\n{JETSTREAM}"))
    }

    /// Serves clients by TLS alone, and only those that name `user` and `password`.
    pub(crate) fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        let mut server = Self::start_with(&format!(
            "{SETTINGS}\n{JETSTREAM}\ntls {{ cert_file: \"{}\", key_file: \"{}\" }}\n\
             authorization {{ user: user, password: password }}",
            certificate.display(),
            key.display()
        ));
        server.scheme = "tls";
        server
    }

    /// A cluster of that many servers.
    pub(crate) fn start_cluster(size: usize) -> Vec<Self> {
        // All are open at once, so that the ports differ.
        let free: Vec<_> = (0..size)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let port = |listener: TcpListener| listener.local_addr().expect("an address").port();
        let ports: Vec<u16> = free.into_iter().map(port).collect();
        let routes: Vec<_> = ports
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect();
        let routes = routes.join(", ");
        ports
            .iter()
            .enumerate()
            .map(|(number, port)| {
                Self::start_with(&format!(
                    "{SETTINGS}\n{JETSTREAM}\nserver_name: n{number}\n\
                     cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
                ))
            })
            .collect()
    }

    /// With these lines of its configuration, in which `FOLDER` is one for JetStream.
    pub(crate) fn start_with(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("jetstream");
        let settings = settings.replace("FOLDER", &store.display().to_string());
        // Port -1 is any free one.
        let (process, port) = spawn(folder.path(), &settings, -1);
        NatsServer {
            process,
            folder,
            settings,
            port,
            scheme: "nats",
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
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
