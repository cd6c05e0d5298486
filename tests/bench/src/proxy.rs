//! A bare reverse proxy: hyper's server in front of hyper's pooled client.
//!
//! Passes each request to the next upstream in turn and streams both bodies without reading them: the least that
//! any gateway built on hyper costs. Its upstreams are `echo` processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::{http_server, role};

struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstreams: Vec<Authority>,
    next: AtomicUsize,
}

pub(crate) fn run(upstreams: &[SocketAddr]) -> Result<()> {
    let upstreams = upstreams.iter().map(|address| address.to_string().parse());
    let upstreams = upstreams
        .collect::<Result<_, _>>()
        .context("an upstream's address")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.context("no runtime")?.block_on(async {
        let listener = role::listen().await?;
        role::announce(&[&listener])?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let proxy = Arc::new(Proxy {
            client,
            upstreams,
            next: AtomicUsize::new(0),
        });
        let service = service_fn(move |request| {
            let proxy = proxy.clone();
            async move { proxy.forward(request).await }
        });
        http_server::serve(listener, service).await
    })
}

impl Proxy {
    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.upstreams.len();
        let slash = PathAndQuery::from_static("/");
        let path = request.uri().path_and_query().cloned().unwrap_or(slash);
        *request.uri_mut() = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.upstreams[turn].clone())
            .path_and_query(path)
            .build()?;
        Ok(self.client.request(request).await?)
    }
}
