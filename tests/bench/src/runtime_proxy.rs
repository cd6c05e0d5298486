//! The runtime process called over a bare loopback proxy: no supervisor and no gateway.
//!
//! One port takes HTTP requests, the other is the Runtime API of the processes that the bench
//! starts for it (`runtime_process`); `runtime_api` is between them. This is the least that can call a
//! function at all, so Pilotlight's added latency is counted from here.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::runtime_api::RuntimeApi;
use crate::{http_server, role};

pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.context("no runtime")?.block_on(async {
        let (front, back) = (role::listen().await?, role::listen().await?);
        role::announce(&[&front, &back])?;
        let api = Arc::new(RuntimeApi::default());
        let processes = service_fn({
            let api = api.clone();
            move |request| api.clone().answer(request)
        });
        let calls = service_fn(move |request| call(api.clone(), request));
        let served = tokio::try_join!(
            tokio::spawn(http_server::serve(front, calls)),
            tokio::spawn(http_server::serve(back, processes)),
        )?;
        served.0.and(served.1)
    })
}

async fn call(api: Arc<RuntimeApi>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let payload = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::new(api.invoke(payload).await?));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
