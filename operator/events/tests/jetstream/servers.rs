//! Servers as others run them: three that keep each event together, and one that wants TLS and a password.

use std::fs;
use std::time::{Duration, Instant};

use pilotlight_events::conformance::TestTime;
use pilotlight_events::jetstream::{
    JetStreamConfig, JetStreamQueue, JetStreamTiming, NatsCredentials,
};
use pilotlight_events::queue::EventQueue;

use super::nats::NatsServer;
use super::{PATIENCE, accept, accepted_again, config, count, taken_until, unavailable};

/// How many events are accepted beside each loss of a server.
const EVENTS: usize = 20;

#[tokio::test]
#[ignore = "needs nats-server"]
async fn three_servers_lose_no_event_with_one_of_them() {
    let mut servers = NatsServer::start_cluster(3);
    let mut all = config(&servers[0], "p");
    all.servers = servers.iter().map(NatsServer::url).collect();
    all.replicas = 3;
    // The others choose a leader within some seconds.
    all.timing.request = Duration::from_secs(5);
    let queue = JetStreamQueue::open(all.clone()).expect("a queue");
    let mut accepted = 0;
    let mut more = async |queue: &JetStreamQueue| {
        for _ in 0..EVENTS {
            accepted_again(queue, "a", &format!("r{accepted}")).await;
            accepted += 1;
        }
        accepted
    };
    for lost in &mut servers {
        more(&queue).await;
        lost.kill();
        more(&queue).await;
        lost.restart();
    }
    let kept = more(&queue).await;
    // One alone cannot know that an event is safe.
    servers[1].kill();
    servers[2].kill();
    let began = Instant::now();
    while accept_now(&queue, "alone").await {
        assert!(began.elapsed() < PATIENCE, "one server accepts no event");
    }
    servers[1].restart();
    servers[2].restart();
    accepted_again(&queue, "a", "last").await;
    drop(queue);
    let queue = JetStreamQueue::open(all).expect("a queue");
    // It asserts that no event is there twice.
    taken_until(&queue, "a", kept + 1).await;
}

/// Whether the event of another function is accepted.
async fn accept_now(queue: &JetStreamQueue, id: &str) -> bool {
    let event = pilotlight_events::conformance::event("b", id, TestTime::Real.now());
    queue.accept(event).await.is_ok()
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn a_server_proves_itself_by_its_certificate_and_wants_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("another");
    let certificate = write("server.crt", &own.cert.pem());
    let key = write("server.key", &own.signing_key.serialize_pem());
    let server = NatsServer::start_with_tls(&certificate, &key);
    write("username", "user");
    let opened = || {
        let config = JetStreamConfig {
            credentials: Some(NatsCredentials(folder.path().to_owned())),
            timing: JetStreamTiming {
                request: Duration::from_millis(500),
                ..config(&server, "p").timing
            },
            ..config(&server, "p")
        };
        JetStreamQueue::open(config).expect("a queue")
    };
    let refused = async || {
        let queue = opened();
        let event = pilotlight_events::conformance::event("a", "r", TestTime::Real.now());
        unavailable(queue.accept(event).await)
    };
    write("password", "password");
    write("ca.crt", &other.cert.pem());
    let why = refused().await;
    assert!(why.contains("certificate"), "{why}");
    write("ca.crt", &own.cert.pem());
    write("password", "wrong");
    let why = refused().await;
    assert!(why.to_lowercase().contains("authorization"), "{why}");
    write("password", "password");
    let queue = opened();
    accepted_again(&queue, "a", "r1").await;
    accept(&queue, "a", "r2").await;
    assert_eq!(count(&queue, "a").await, 2);
}
