//! The store in VictoriaLogs, with a real one on this machine.
//!
//! `tests/cluster/cluster build victoria-logs` builds the program. `make test` runs these tests; the others leave them out,
//! as the program takes a minute to build.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pilotlight_logs::conformance::{begin, check_all, key, micros, pages, record};
use pilotlight_logs::entry::Entry;
use pilotlight_logs::query::{Query, Selection};
use pilotlight_logs::store::{Store, StoreError};
use pilotlight_logs::victoria::{Tenant, VictoriaConfig, VictoriaStore, durable_after};
use pilotlight_net::outbound::{BaseUrl, Outbound, ServerCredentials};
use tokio::sync::watch;

/// What the chart starts it with.
const FLAGS: [&str; 4] = [
    "-inmemoryDataFlushInterval=1s",
    "-insert.maxLineSizeBytes=2MiB",
    "-delete.enable",
    "-retentionPeriod=30d",
];

struct VictoriaLogs {
    process: Child,
    address: SocketAddr,
}

impl VictoriaLogs {
    /// Returns once it serves. Port 0 is any free one.
    fn start(data: &Path, port: u16, flags: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let built = root.join("target/cluster/bin/victoria-logs");
        let program = std::env::var_os("PILOTLIGHT_VICTORIA_LOGS").map_or(built, PathBuf::from);
        let mut process = Command::new(&program)
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .arg(format!("-storageDataPath={}", data.display()))
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}: run `tests/cluster/cluster build victoria-logs`",
                    program.display()
                )
            });
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut lines = log.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                let (_, rest) = line.split_once("started server at http://")?;
                rest.trim_end_matches('/').parse().ok()
            })
            .expect("it serves");
        // Its log goes on, and it must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        VictoriaLogs { process, address }
    }

    fn kill(&mut self) {
        self.process.kill().expect("it lives");
        self.process.wait().expect("it has ended");
    }
}

impl Drop for VictoriaLogs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn store_at(address: SocketAddr, credentials: Option<&ServerCredentials>) -> VictoriaStore {
    let base = BaseUrl::parse(&format!("http://{address}")).expect("a URL");
    let outbound = Outbound::new(base, None, credentials).expect("a client");
    let config = VictoriaConfig {
        tenant: Tenant::default(),
        durable_after: durable_after(Duration::from_secs(1)),
        clock: Timestamp::now,
    };
    VictoriaStore::new(watch::channel(Ok(outbound)).1, config)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn records(name: &str, count: u64) -> Vec<Arc<Entry>> {
    let (function, at) = (key(name), begin());
    let one = |number| {
        record(
            &function,
            "i1",
            number + 1,
            micros(at, number as i64),
            &format!("line {number}"),
        )
    };
    (0..count).map(|number| Arc::new(one(number))).collect()
}

#[tokio::test]
#[ignore = "needs VictoriaLogs"]
async fn it_does_what_every_store_does() {
    let data = folder();
    let server = VictoriaLogs::start(data.path(), 0, &FLAGS);
    check_all(&store_at(server.address, None)).await;
}

#[tokio::test]
#[ignore = "needs VictoriaLogs"]
async fn what_was_written_survives_a_store_that_is_killed_in_the_middle_of_it() {
    let data = folder();
    let mut server = VictoriaLogs::start(data.path(), 0, &FLAGS);
    let address = server.address;
    let store = store_at(address, None);
    let written = records("killed", 5000);
    let query = Query::all(key("killed"));
    // It has them, in memory alone.
    let restarting = async {
        while store.read(&query).await.expect("a page").records.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.kill();
        VictoriaLogs::start(data.path(), address.port(), &FLAGS)
    };
    let (done, mut server) = tokio::join!(store.write(&written), restarting);
    done.expect("it was written again");
    // Now it is on disk.
    server.kill();
    let _server = VictoriaLogs::start(data.path(), address.port(), &FLAGS);
    let read = pages(&store, &query).await;
    assert!(
        read.iter().eq(written.iter().map(AsRef::as_ref)),
        "{} records",
        read.len()
    );
}

#[tokio::test]
#[ignore = "needs VictoriaLogs"]
async fn records_that_the_store_drops_in_silence_are_refused_with_their_number() {
    let data = folder();
    let server = VictoriaLogs::start(data.path(), 0, &FLAGS);
    let store = store_at(server.address, None);
    let mut written = records("old", 3);
    let old = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * 60));
    let late = Entry {
        time: old.expect("a time"),
        ..(*written[0]).clone()
    };
    written[0] = Arc::new(late);
    let error = store.write(&written).await.expect_err("one is too old");
    assert!(
        matches!(&error, StoreError::Incomplete { refused, .. } if *refused == [0]),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("taken 3 records and has not stored 1"),
        "{error}"
    );
    assert_eq!(pages(&store, &Query::all(key("old"))).await.len(), 2);
}

#[tokio::test]
#[ignore = "needs VictoriaLogs"]
async fn a_store_that_is_away_or_wants_a_password_says_so() {
    let data = folder();
    let password = data.path().join("password");
    std::fs::write(&password, "right").expect("a file");
    let file = format!("-httpAuth.password=file://{}", password.display());
    let flags = ["-httpAuth.username=pilotlight", &file];
    let mut server = VictoriaLogs::start(&data.path().join("data"), 0, &flags);
    let address = server.address;
    let with = |password: &str| {
        let credentials = ServerCredentials::Basic {
            username: "pilotlight".to_owned(),
            password: password.to_owned(),
        };
        store_at(address, Some(&credentials))
    };
    let query = Query::all(key("nobody"));
    let error = with("wrong").read(&query).await.expect_err("no access");
    assert!(error.to_string().contains("credentials"), "{error}");
    with("right").read(&query).await.expect("a page");
    let error = with("right")
        .delete(&query.function)
        .await
        .expect_err("switched off");
    assert!(
        matches!(error, StoreError::Refused(_)) && error.to_string().contains("-delete.enable"),
        "{error}"
    );

    server.kill();
    for error in [
        with("right").read(&query).await.expect_err("it is away"),
        with("right")
            .write(&records("away", 1))
            .await
            .expect_err("it is away"),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
    let (_, unknown) = watch::channel(Err(Arc::from("the Secret logs has no password yet")));
    let config = VictoriaConfig {
        tenant: Tenant::default(),
        durable_after: Duration::ZERO,
        clock: Timestamp::now,
    };
    let error = VictoriaStore::new(unknown, config).read(&query).await;
    assert!(
        error
            .expect_err("nobody knows")
            .to_string()
            .contains("has no password yet")
    );
}

#[tokio::test]
#[ignore = "needs VictoriaLogs"]
async fn a_sweep_deletes_what_no_read_shows_any_more() {
    let data = folder();
    let server = VictoriaLogs::start(data.path(), 0, &FLAGS);
    let store = store_at(server.address, None);
    let function = key("swept");
    let new = record(&function, "i1", 2, Timestamp::now(), "new");
    let written = [
        Arc::new(record(&function, "i1", 1, begin(), "old")),
        Arc::new(new),
    ];
    store.write(&written).await.expect("it is written");
    let kept = SignedDuration::from_mins(30);
    store
        .set_retention(&function, Some(kept))
        .await
        .expect("it is set");
    store.sweep().await.expect("it is swept");
    store
        .set_retention(&function, None)
        .await
        .expect("it is set");
    // Deletions run behind the answer.
    while pages(&store, &Query::all(function.clone())).await.len() > 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let selection = Selection {
        contains: vec!["new".to_owned()],
        ..Selection::default()
    };
    let query = Query {
        selection,
        ..Query::all(function)
    };
    assert_eq!(pages(&store, &query).await.len(), 1);
}

#[tokio::test]
#[ignore = "needs VictoriaLogs"]
async fn tenants_do_not_see_each_other() {
    let data = folder();
    let server = VictoriaLogs::start(data.path(), 0, &FLAGS);
    let base = BaseUrl::parse(&format!("http://{}", server.address)).expect("a URL");
    let outbound = Outbound::new(base, None, None).expect("a client");
    let of = |account| {
        let config = VictoriaConfig {
            tenant: Tenant {
                account,
                project: 7,
            },
            durable_after: durable_after(Duration::from_secs(1)),
            clock: Timestamp::now,
        };
        VictoriaStore::new(watch::channel(Ok(outbound.clone())).1, config)
    };
    of(1)
        .write(&records("mine", 2))
        .await
        .expect("it is written");
    assert_eq!(pages(&of(1), &Query::all(key("mine"))).await.len(), 2);
    assert!(pages(&of(2), &Query::all(key("mine"))).await.is_empty());
}
