//! Says who it is and calls `$FUNCTION` with the defaults of AWS's SDK for Rust; prints what `callers.py` reads.
//!
//! Nothing here knows of Pilotlight: endpoints, credentials and authorities come from the variables of the SDK.

use aws_sdk_lambda::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};

#[tokio::main]
async fn main() {
    let settings = aws_config::load_from_env().await;
    let sts = aws_sdk_sts::Client::new(&settings);
    let lambda = aws_sdk_lambda::Client::new(&settings);
    let function = std::env::var("FUNCTION").expect("FUNCTION names the function");

    let identity = match sts.get_caller_identity().send().await {
        Ok(answer) => json!(answer.arn()),
        Err(error) => failed(error.code(), &DisplayErrorContext(&error).to_string()),
    };
    let request = lambda
        .invoke()
        .function_name(function)
        .payload(Blob::new(r#"{"name": "é"}"#));
    let answer = match request.send().await {
        Ok(answer) => {
            let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
            serde_json::from_slice(payload).expect("the function answers with JSON")
        }
        Err(error) => failed(error.code(), &DisplayErrorContext(&error).to_string()),
    };
    let version = aws_sdk_lambda::meta::PKG_VERSION;
    println!("{}", json!({"version": version, "identity": identity, "answer": answer}));
}

fn failed(code: Option<&str>, whole: &str) -> Value {
    json!({"error": code.unwrap_or("no code"), "whole": whole})
}
