//! A custom runtime that answers with its event, byte for byte.
//!
//! Owns nothing but the handler; `lambda_runtime` speaks the Runtime API to the supervisor.
//! The benchmarks measure the platform with it, so it never parses, logs or allocates for itself.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(echo)).await
}

async fn echo(event: LambdaEvent<Box<RawValue>>) -> Result<Box<RawValue>, Error> {
    Ok(event.payload)
}
