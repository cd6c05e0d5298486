//! What the conformance table asks of a function, in Rust.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, process};

use lambda_runtime::{Context, Error, LambdaEvent, run, service_fn};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::{Value, json};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// What cannot be written: a value like many of people's own types.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it has no form"))
    }
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Answer {
    Value(Value),
    Unwritable(Unwritable),
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    assert!(env::var("BROKEN").is_err(), "no table is configured");
    let started = since_epoch().as_nanos().to_string();
    let handle = |event: LambdaEvent<Value>| answer(event.payload, event.context, started.clone());
    run(service_fn(handle)).await
}

async fn answer(event: Value, context: Context, started: String) -> Result<Answer, Error> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    let value = match event["do"].as_str() {
        Some("context") => {
            let remaining = Duration::from_millis(context.deadline).saturating_sub(since_epoch());
            let function = &context.env_config;
            let custom = context.client_context.as_ref().map(|client| &client.custom);
            json!({
                "requestId": context.request_id,
                "functionName": function.function_name,
                "functionVersion": function.version,
                "arn": context.invoked_function_arn,
                "memory": function.memory.to_string(),
                "logGroup": function.log_group,
                "logStream": function.log_stream,
                "remaining": u64::try_from(remaining.as_millis())?,
                "custom": custom.filter(|custom| !custom.is_empty()),
            })
        }
        Some("surroundings") => {
            let file = env::temp_dir().join("note");
            fs::write(&file, "kept")?;
            json!({
                "variables": env::vars().collect::<BTreeMap<_, _>>(),
                "directory": env::current_dir()?,
                "kept": fs::read_to_string(&file)?,
            })
        }
        Some("count") => json!({ "calls": calls, "started": started }),
        Some("wait") => {
            let seconds = event["seconds"].as_f64().unwrap_or_default();
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            json!({ "started": started })
        }
        Some("print") => {
            println!("{}", event["text"].as_str().unwrap_or_default());
            Value::Null
        }
        Some("unserialisable") => return Ok(Answer::Unwritable(Unwritable)),
        Some("raise") => return Err("no such order: grün".into()),
        Some("size") => "x".repeat(number("bytes").try_into()?).into(),
        Some("exit") => process::exit(number("status").try_into()?),
        Some("memory") => {
            let block = || vec![1_u8; 1 << 20];
            let held: Vec<_> = (0..number("mebibytes")).map(|_| block()).collect();
            tokio::time::sleep(Duration::from_secs(900)).await;
            std::hint::black_box(&held).len().into()
        }
        _ => event,
    };
    Ok(Answer::Value(value))
}
