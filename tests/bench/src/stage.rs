//! The systems, functions and payloads that are measured, and the calls between them.
//!
//! Owns the names that tables and plot use. The client sends the same request to all systems, so
//! only address and function differ.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use hyper::StatusCode;
use pilotlight_load::invocation;
use pilotlight_load::timing::Call;

/// The system that answers the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// `echo`, called directly.
    Direct,
    /// `proxy` before `echo`.
    Proxy,
    /// `runtime_proxy` before the function's runtime process.
    RuntimeProxy,
    /// `pilotlight local`.
    Pilotlight,
}

impl System {
    pub(crate) fn label(self) -> &'static str {
        match self {
            System::Direct => "direct",
            System::Proxy => "proxy",
            System::RuntimeProxy => "runtime proxy",
            System::Pilotlight => "pilotlight",
        }
    }
}

/// The function that computes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// The bench's own hyper server, without a function.
    PlainServer,
    /// examples/rust-echo: the vendor's Rust client.
    RustEcho,
    /// examples/hello: the vendor's Python client.
    Hello,
}

impl Function {
    /// The name in its manifest.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Function::PlainServer => "plain server",
            Function::RustEcho => "rust-echo",
            Function::Hello => "hello",
        }
    }

    /// The expected answer to a payload.
    fn answer(self, payload: &Bytes) -> Bytes {
        match self {
            Function::PlainServer | Function::RustEcho => payload.clone(),
            Function::Hello => Bytes::from_static(b"{\"message\": \"Hello, Ada!\"}"),
        }
    }
}

/// A system that answers for a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contestant {
    pub(crate) system: System,
    pub(crate) function: Function,
    pub(crate) address: SocketAddr,
}

impl Contestant {
    pub(crate) fn call(&self, payload: &Bytes) -> Result<Call> {
        Ok(Call {
            address: self.address,
            // Baselines take any path.
            path: invocation::path(&self.function.name().replace(' ', "-"))?,
            payload: payload.clone(),
            answer: self.function.answer(payload),
            lease: None,
            headers: Vec::new(),
            status: StatusCode::OK,
        })
    }
}
