//! The other gateway, if a test has one: calls go from one's routes to the other's, without a connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{HeaderName, Request};
use http_body_util::BodyExt;
use pilotlight_core::ids::FunctionKey;
use pilotlight_wire::invoke::{InvokeRequest, Outcome};
use pilotlight_wire::state::{STATE_PATH, State};
use pilotlight_wire::stream::StreamHead;
use tokio::sync::watch;
use tower::ServiceExt;

use super::stage::{Stage, function, shared};
use crate::answer_stream;
use crate::backend::Promise;
use crate::config::Config;
use crate::intake::Intake;
use crate::peers::{Forwarded, Peers};

#[derive(Debug, Default)]
pub(super) struct Other {
    way: Mutex<Way>,
    /// How many calls were sent to it, or were meant to be.
    calls: AtomicUsize,
    /// Whether it owns the functions, by the members that the gateway knows.
    owns: watch::Sender<bool>,
}

#[derive(Clone, Debug, Default)]
enum Way {
    Leads(Router),
    /// No connection comes about.
    IsClosed,
    /// The same, but calls arrive without this header.
    LosesHeader(Router, HeaderName),
    /// Breaks off after the call was sent.
    #[default]
    BreaksOff,
}

impl Other {
    pub(super) fn is(&self, stage: &Stage) {
        self.set(Way::Leads(stage.parts()));
    }

    pub(super) fn does_not_get(&self, header: &'static str, stage: &Stage) {
        let header = HeaderName::from_static(header);
        self.set(Way::LosesHeader(stage.parts(), header));
    }

    pub(super) fn is_unreachable(&self) {
        self.set(Way::IsClosed);
    }

    /// The gateway that knows it learns that it owns the functions, or that the gateway itself does.
    pub(super) fn owns_all(&self, owns: bool) {
        self.owns.send_replace(owns);
    }

    fn set(&self, way: Way) {
        *self.way.lock().expect("one thread") = way;
    }

    pub(super) fn count(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Two gateways that forward to each other, and the same function on both. It is the first one's.
pub(super) async fn two(spec: &str) -> ((Stage, Arc<Other>), (Stage, Arc<Other>)) {
    two_with(spec, (Config::default(), Config::default())).await
}

/// The same with these settings.
pub(super) async fn two_with(
    spec: &str,
    configs: (Config, Config),
) -> ((Stage, Arc<Other>), (Stage, Arc<Other>)) {
    let (to_second, to_first) = (Arc::new(Other::default()), Arc::new(Other::default()));
    let first = Stage::new(configs.0, Some(to_second.clone()));
    let second = Stage::new(configs.1, Some(to_first.clone()));
    to_second.is(&second);
    to_first.is(&first);
    for stage in [&first, &second] {
        stage.gateway.deploy(vec![shared(function(spec))]).await;
    }
    first.gains(&[]).await;
    ((first, to_second), (second, to_first))
}

impl Peers for Other {
    fn forward<'a>(&'a self, request: InvokeRequest, _: &'a Intake) -> Promise<'a, Forwarded> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let way = self.way.lock().expect("one thread").clone();
        Box::pin(async move {
            let mut request = request.into_request().map(Body::from);
            let routes = match way {
                Way::Leads(routes) => routes,
                Way::LosesHeader(routes, header) => {
                    request.headers_mut().remove(header);
                    routes
                }
                Way::IsClosed => return Forwarded::NeverSent,
                Way::BreaksOff => return Forwarded::Ended(Outcome::Lost),
            };
            let answered = routes.oneshot(request).await;
            let (head, mut body) = answered.expect("routes do not fail").into_parts();
            if let Some(head) = StreamHead::read(&head) {
                let (writer, stream) = answer_stream::channel(head, None);
                tokio::spawn(async move {
                    if let Some(end) = writer.copy(&mut body).await {
                        writer.end(end);
                    }
                });
                return Forwarded::Began(stream);
            }
            let body = body.collect().await.expect("a whole answer").to_bytes();
            Forwarded::Ended(Outcome::read(&head, body))
        })
    }

    fn own_address(&self) -> String {
        "this".to_owned()
    }

    fn owns(&self, _: &FunctionKey) -> bool {
        !*self.owns.borrow()
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let changes = stream::unfold(self.owns.subscribe(), |mut owns| async {
            owns.changed().await.ok()?;
            Some(((), owns))
        });
        changes.boxed()
    }

    fn states(&self) -> Promise<'_, Vec<(String, Option<State>)>> {
        let way = self.way.lock().expect("one thread").clone();
        Box::pin(async move {
            let Way::Leads(routes) = way else {
                return vec![("the other".to_owned(), None)];
            };
            let request = Request::get(STATE_PATH).body(Body::empty());
            let answered = routes.oneshot(request.expect("a request")).await;
            let body = answered.expect("routes do not fail").into_body();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            let state = serde_json::from_slice(&body).expect("a state");
            vec![("the other".to_owned(), Some(state))]
        })
    }
}
