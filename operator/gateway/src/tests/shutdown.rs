//! The end of a gateway: what runs may finish, within the grace period; nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use pilotlight_core::reason::Reason;
use tokio::net::TcpListener;
use tokio::task;
use tokio_util::sync::CancellationToken;

use super::instance::Instance;
use super::stage::{Stage, function, on_stage, settled};
use crate::backend::{Backend, Promise, Reservation, Running};
use crate::catalog::Deployment;
use crate::config::Config;
use crate::gateway::{DRIVER_FAILED, Gateway};

/// A bound that only a broken gateway meets.
const PATIENCE: Duration = Duration::from_secs(300);

/// Begins the gateway's end, in a task of its own.
fn ends(stage: &Stage) -> task::JoinHandle<()> {
    let gateway = stage.gateway.clone();
    task::spawn_local(async move { gateway.shutdown().await })
}

async fn idle(stage: &mut Stage) -> Instance {
    let caller = stage.call("0");
    let mut instance = stage.instance().await;
    instance.serves("0").await;
    caller.answer().await;
    settled().await;
    instance
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_ends_lets_the_running_call_finish_and_refuses_the_others() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 1}")).await;
        let running = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let queued = stage.call("2");
        settled().await;
        assert_eq!(stage.status("/readyz").await.status.as_u16(), 200);

        let end = ends(&stage);
        let late = [queued.answer().await, stage.call("3").answer().await];
        for refused in late {
            assert_eq!(refused.error(), (500, "ServiceException"));
            let message = refused.json()["Message"].to_string();
            assert!(message.contains("was not executed"), "{message}");
        }
        settled().await;
        assert!(!end.is_finished());
        instance.answers(&event, "\"done\"").await;
        assert_eq!(running.answer().await.text(), "\"done\"");
        instance.ended().await;
        end.await.unwrap();
        assert_eq!(stage.status("/readyz").await.status.as_u16(), 503);
        let after = stage.call("4").answer().await;
        assert_eq!(after.error(), (500, "ServiceException"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_instances_end_at_once_with_their_gateway() {
    on_stage(async {
        let mut stage = Stage::of(function("keepAlive: 3600")).await;
        let mut instance = idle(&mut stage).await;
        let begun = tokio::time::Instant::now();
        ends(&stage).await.unwrap();
        instance.ended().await;
        assert!(begun.elapsed().as_secs() < 1, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlasts_the_grace_period_is_ended_with_its_instance() {
    on_stage(async {
        let mut stage = Stage::of(function("timeout: 900")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        instance.event().await;
        let begun = tokio::time::Instant::now();
        let end = ends(&stage);
        let answer = caller.answer().await;
        assert_eq!(answer.error(), (500, "ServiceException"));
        assert_eq!(begun.elapsed().as_secs(), 5);
        end.await.unwrap();
        instance.ended().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_on_its_way_up_is_given_up_as_its_gateway_ends() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let start = stage.start().await;
        let begun = tokio::time::Instant::now();
        ends(&stage).await.unwrap();
        assert!(start.is_given_up() && begun.elapsed().is_zero());
        assert_eq!(caller.answer().await.error(), (500, "ServiceException"));
    })
    .await;
}

/// A backend that breaks the driver, which tells it each change of a function's load.
#[derive(Debug)]
struct Broken;

impl Backend for Broken {
    fn reserve(&self, _: &Deployment, _: &str) -> Reservation {
        Box::new(())
    }

    fn start<'a>(
        &'a self,
        _: &'a Deployment,
        _: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Reason>> {
        Box::pin(std::future::pending())
    }

    fn observe(&self, _: &Deployment, _: usize, _: usize) {
        panic!("a defect");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_driver_panics_ends_with_an_error() {
    let gateway = Gateway::start(Config::default(), Arc::new(Broken), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve(listener, stop).await }
    });
    task::yield_now().await;
    assert!(!serving.is_finished());
    gateway.deploy(vec![function("")]).await;
    let ended = tokio::time::timeout(PATIENCE, serving).await;
    let error = ended.expect("it ends").unwrap().unwrap_err();
    assert_eq!(error.to_string(), DRIVER_FAILED);
    // Its end waits for nothing.
    gateway.shutdown().await;
}
