//! Instances as local processes: each is a supervisor in a process group of its own.
//!
//! Starts and ends them for `instance`, and feeds what they log to `logs`. This process holds the other
//! end of a supervisor's standard input, so the supervisor and its runtime end with this process. Decides nothing.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use pilotlight_api::instance_config::{Place, compose};
use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_core::reason::Reason;
use pilotlight_logs::entry::Origin;
use pilotlight_net::address::{Address, Opening, UNIX};
use pilotlight_wire::config::{CONFIG_VARIABLE, DoorConfig, GATEWAYS_VARIABLE, TRACES_VARIABLE};
use pilotlight_wire::log_record::{LISTENING, LogRecord, LogSource, MARK};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::backend::{Backend, Promise, Reservation, Running};
use crate::catalog::{Deployment, Source};
use crate::config::Config;
use crate::logs::{Feed, Hub, Way};

/// How long a supervisor may take until it reports the address that it listens on.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Digits of an instance's name in its socket's name.
const SOCKET_NAME_DIGITS: usize = 16;
/// How long a supervisor may take to end its runtime before it is killed.
const END_LIMIT: Duration = Duration::from_secs(3);

/// Why an instance could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("its code lies in a cluster, not on this machine")]
    NotLocal,
    #[error("its scratch directory {path} cannot be made: {source}")]
    Scratch {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the supervisor {path} cannot be started: {source}")]
    Spawn {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the supervisor ended before it listened: {0}")]
    Ended(String),
    #[error("the supervisor did not listen within {} s", START_LIMIT.as_secs())]
    TooSlow,
}

/// Starts instances on this machine.
#[derive(Debug)]
pub struct ProcessBackend {
    supervisor: PathBuf,
    root: PathBuf,
    logs: Hub,
    region: String,
    gateways: String,
    /// Whether instances take segments.
    keeps_traces: bool,
}

impl ProcessBackend {
    /// `supervisor`: the program; `root`: where each instance gets a scratch directory; `gateways`: where
    /// functions call others.
    pub fn new(
        supervisor: PathBuf,
        root: PathBuf,
        logs: Hub,
        config: &Config,
        gateways: DoorConfig,
    ) -> Self {
        ProcessBackend {
            supervisor,
            root,
            logs,
            region: config.region.clone(),
            gateways: serde_json::to_string(&gateways).expect("two texts are always JSON"),
            keeps_traces: config.traces.is_some(),
        }
    }

    async fn start(
        &self,
        deployment: &Deployment,
        instance: &str,
    ) -> Result<InstanceProcess, StartError> {
        let function = deployment.name();
        let Source::Local(launch) = &deployment.source else {
            return Err(StartError::NotLocal);
        };
        // Short, as paths of sockets have to be; the name is told apart by less than all of it.
        let socket = self
            .root
            .join(format!("{}.sock", &instance[..SOCKET_NAME_DIGITS]));
        let place = Place {
            qualifier: deployment.pool.qualifier,
            instance,
            date: &Timestamp::now().strftime("%Y/%m/%d").to_string(),
            region: &self.region,
            // Cheaper than a port, and nobody else's to call.
            listen: &format!("{UNIX}{}", socket.display()),
            ends_with_parent: true,
        };
        let mut config = compose(function, &deployment.spec, launch, place);
        let scratch = Scratch {
            directory: self.root.join(format!("{function}-{instance}")),
            socket,
        };
        std::fs::create_dir_all(&scratch.directory).map_err(|source| StartError::Scratch {
            path: scratch.directory.clone(),
            source,
        })?;
        let temporary = scratch.directory.display().to_string();
        let own = config.environment.entry("TMPDIR".to_owned());
        own.or_insert(temporary);
        let config = serde_json::to_string(&config).expect("the configuration has string keys");
        let mut child = Command::new(&self.supervisor)
            .env_clear()
            .env(CONFIG_VARIABLE, config)
            .env(GATEWAYS_VARIABLE, &self.gateways)
            .envs(self.keeps_traces.then_some((TRACES_VARIABLE, "1")))
            .current_dir(&scratch.directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| StartError::Spawn {
                path: self.supervisor.clone(),
                source,
            })?;
        let (tell, listening) = oneshot::channel();
        let reader = LogReader::new(&self.logs, &deployment.pool, instance);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let lifeline = child.stdin.take();
        let logs = tokio::spawn(async move {
            let errors = async {
                match stderr {
                    Some(stderr) => reader.errors(stderr).await,
                    None => String::new(),
                }
            };
            let records = async {
                if let Some(stdout) = stdout {
                    reader.records(stdout, tell, None).await;
                }
            };
            tokio::join!(errors, records).0
        });
        match tokio::time::timeout(START_LIMIT, listening).await {
            Ok(Ok(address)) => Ok(InstanceProcess {
                child,
                lifeline,
                address,
                logs,
                _scratch: scratch,
            }),
            Ok(Err(_)) => Err(StartError::Ended(logs.await.unwrap_or_default())),
            Err(_) => Err(StartError::TooSlow),
        }
    }
}

impl Backend for ProcessBackend {
    /// A local process needs no reservation.
    fn reserve(&self, _: &Deployment, _: &str) -> Reservation {
        Box::new(())
    }

    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Reason>> {
        Box::pin(async move {
            match self.start(deployment, instance).await {
                Ok(process) => Ok(Box::new(process) as Box<dyn Running>),
                Err(error) => Err(Reason::from(error.to_string())),
            }
        })
    }

    fn observe(&self, _: &Deployment, _: usize, _: usize) {}
}

/// An instance's directory for temporary files, and its socket. Both are removed on drop.
#[derive(Debug)]
struct Scratch {
    directory: PathBuf,
    socket: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It fails if the supervisor has not listened yet.
        let _ = std::fs::remove_file(&self.socket);
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "a scratch directory is left");
        }
    }
}

/// A running supervisor.
#[derive(Debug)]
pub(crate) struct InstanceProcess {
    child: Child,
    /// The supervisor runs while this is open.
    lifeline: Option<ChildStdin>,
    address: Address,
    logs: JoinHandle<String>,
    _scratch: Scratch,
}

impl InstanceProcess {
    /// Signals the supervisor's process group, unless it has ended.
    fn signal(&self, signal: Signal) {
        let group = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(group) = group {
            // The supervisor is not reaped yet, so the group is its own.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Running for InstanceProcess {
    fn connect(&self) -> Opening {
        self.address.connect()
    }

    fn wait(&mut self) -> Promise<'_, Reason> {
        Box::pin(async {
            match self.child.wait().await {
                Ok(status) => Reason::from(format!("its supervisor ended ({status})")),
                Err(error) => Reason::from(format!("its supervisor was lost: {error}")),
            }
        })
    }

    fn end(mut self: Box<Self>) -> Promise<'static, ()> {
        Box::pin(async move {
            // The function may have stopped it. It ends all that the function has started, as nobody else can.
            self.signal(Signal::CONT);
            drop(self.lifeline.take());
            let ended = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
            if ended.is_err() {
                let pid = self.child.id();
                tracing::warn!(pid, "a supervisor does not end and is killed");
                self.signal(Signal::KILL);
                let _ = self.child.wait().await;
            }
            let _ = self.logs.await;
        })
    }
}

/// Reads what a supervisor writes.
pub(crate) struct LogReader {
    logs: Hub,
    function: FunctionKey,
    feed: Feed,
}

impl LogReader {
    pub(crate) fn new(logs: &Hub, pool: &PoolId, instance: &str) -> Self {
        let function = pool.function.clone();
        let feed = logs.feed(Origin {
            function: function.clone(),
            qualifier: pool.qualifier,
            instance: instance.to_owned(),
        });
        LogReader {
            logs: logs.clone(),
            function,
            feed,
        }
    }

    /// `way`: how to connect to a supervisor that does not announce its address.
    pub(crate) async fn records(
        &self,
        from: impl AsyncRead + Unpin,
        tell: oneshot::Sender<Address>,
        way: Option<Way>,
    ) {
        let mut lines = BufReader::new(from).lines();
        let mut tell = Some(tell);
        let mut source = way.map(|way| self.logs.begin(&self.function, way));
        while let Ok(Some(line)) = lines.next_line().await {
            let record = LogRecord::parse(&line);
            let said = record.filter(|record| record.source == LogSource::Platform);
            let said = said.as_ref().map_or("", |record| &record.text);
            let address = said.strip_prefix(LISTENING);
            match (address.and_then(|address| address.parse().ok()), &source) {
                (Some(address), _) if tell.is_some() => {
                    let address: Address = address;
                    let known = address.clone();
                    let way = Box::new(move || known.connect());
                    source = Some(self.logs.begin(&self.function, way));
                    // It fails if the start was given up.
                    let _ = tell.take().map(|tell| tell.send(address));
                }
                (_, Some(source)) if said.starts_with(MARK) => {
                    source.reached(&said[MARK.len()..]);
                }
                _ => self.feed.line(&line),
            }
        }
    }

    /// Logs the standard error of the supervisor itself, and returns its last line.
    async fn errors(&self, from: impl AsyncRead + Unpin) -> String {
        let mut lines = BufReader::new(from).lines();
        let mut last = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            self.feed.line(&line);
            last = line;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pilotlight_core::ids::{Namespace, Revision};
    use pilotlight_core::instance::launch::Launch;
    use pilotlight_logs::query::Query;

    use super::*;

    fn deployment() -> Deployment {
        let manifest = "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\n\
                        metadata: {name: hello}\n\
                        spec: {runtime: custom, handler: main, code: {path: .}}\n";
        let read = pilotlight_api::read("f.yaml".as_ref(), manifest);
        let function = read.expect("a manifest").remove(0).function;
        Deployment {
            pool: PoolId::latest(Namespace::local(), function.metadata.name),
            source: Source::Local(Launch {
                command: vec!["/bin/true".to_owned()],
                handler: function.spec.handler.clone().expect("a handler"),
                task_root: "/".into(),
                environment: Default::default(),
                heap: Default::default(),
                relocated: Default::default(),
            }),
            spec: function.spec,
            revision: Revision::default(),
            code_sha256: String::new(),
            code_size: 0,
            modified: Default::default(),
        }
    }

    /// Another process writes it. Did this one, then a process that another test starts meanwhile could inherit the
    /// descriptor for writing, and the kernel executes no file that is open for writing.
    fn write_script(path: &Path, script: &str) {
        use std::io::Write;
        let mut install = std::process::Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(path);
        let mut install = install
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("install runs");
        let mut stdin = install.stdin.take().expect("a pipe");
        write!(stdin, "#!/bin/sh\n{script}\n").expect("it reads");
        drop(stdin);
        assert!(install.wait().expect("it ends").success());
    }

    /// A backend whose supervisor is this script.
    fn backend(root: &Path, script: &str) -> (ProcessBackend, Hub) {
        let supervisor = root.join("supervisor");
        write_script(&supervisor, script);
        let logs = Hub::in_memory(1024 * 1024);
        let root = root.join("instances");
        let config = Config::default();
        let gateways = DoorConfig {
            tls: None,
            token: None,
            address: "127.0.0.1:1".to_owned(),
            namespace: "local".to_owned(),
        };
        let backend = ProcessBackend::new(supervisor, root, logs.clone(), &config, gateways);
        (backend, logs)
    }

    const NAME: &str = "0123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn a_supervisor_that_does_not_come_up_says_why_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (backend, _) = backend(root.path(), "echo 'no room' >&2; exit 1");
        let ended = backend.start(&deployment(), NAME).await.unwrap_err();
        let reason = "the supervisor ended before it listened: no room";
        assert_eq!(ended.to_string(), reason);
        let left = std::fs::read_dir(root.path().join("instances")).unwrap();
        assert_eq!(left.count(), 0);

        let absent = ProcessBackend {
            supervisor: root.path().join("absent"),
            ..backend
        };
        let absent = absent.start(&deployment(), NAME).await.unwrap_err();
        assert!(matches!(absent, StartError::Spawn { .. }), "{absent}");
    }

    #[tokio::test]
    async fn a_supervisor_has_its_lifeline_and_its_records_are_logged_to_the_last() {
        let root = tempfile::tempdir().unwrap();
        let record = "echo \"2026-01-31T10:00:00Z";
        let script = format!(
            "{record} platform - LISTENING unix:/run/a.sock\"\n\
             {record} stdout 8f3c hello\"\n\
             read line\n\
             {record} platform - the end\""
        );
        let (backend, logs) = backend(root.path(), &script);
        let instance = backend.start(&deployment(), NAME).await.unwrap();
        assert_eq!(instance.address, Address::Unix("/run/a.sock".into()));
        let scratch = root.path().join(format!("instances/hello-{NAME}"));
        assert!(scratch.is_dir());
        Box::new(instance).end().await;
        assert!(!scratch.exists());
        let query = Query::all(deployment().pool.function);
        let page = logs.reader(&query.function).await.read(&query).await;
        let entries = page.unwrap().records;
        let texts: Vec<_> = entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts, ["hello", "the end"]);
        assert_eq!(entries[0].request_id.as_deref(), Some("8f3c"));
        assert!(entries.iter().all(|entry| entry.instance == NAME));
    }

    #[tokio::test]
    async fn the_end_of_a_supervisor_is_told_with_its_status() {
        let root = tempfile::tempdir().unwrap();
        let script = "echo \"2026-01-31T10:00:00Z platform - LISTENING 127.0.0.1:9\"; exit 7";
        let (backend, _) = backend(root.path(), script);
        let mut instance = backend.start(&deployment(), NAME).await.unwrap();
        for _ in 0..2 {
            let reason = instance.wait().await;
            assert_eq!(reason.detail(), "its supervisor ended (exit status: 7)");
        }
        Box::new(instance).end().await;
    }
}
