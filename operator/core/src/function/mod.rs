//! The values in a function's manifest, each parsed once into a type.
//!
//! Owns their ranges, defaults and error texts (contract §2, §7). `pilotlight-api` parses them from
//! manifests through serde; the pool, the instance, the gateway and the supervisor use the types, so that
//! no later code can fail on a value. Never reads a file and knows no YAML: the reader in
//! `pilotlight-api` adds the position and the field's name to the errors from here.

mod limit;
mod name;

pub use limit::{
    Concurrency, EphemeralStorageMiB, EventRetries, Jitter, KeepAlive, LogRetention, MaxEventAge,
    MemoryMiB, OutOfRange, PoolSize, QueueLimit, Timeout, TolerationSeconds,
};
pub(crate) use name::check_label;
pub use name::{
    EnvName, EnvValue, FunctionName, Handler, InvalidEnvName, InvalidEnvValue, InvalidHandler,
    InvalidLabel, InvalidRuntime, RESERVED_VARIABLES, Runtime, is_reserved_variable,
};
