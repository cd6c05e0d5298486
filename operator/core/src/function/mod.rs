//! The values a function is made of, each parsed once.
//!
//! Owns their ranges, defaults and refusals (contract §2, §7). `pilotlight-api` feeds them from
//! manifests through serde; `pool`, `instance`, the gateway and the supervisor take the types,
//! so nothing after the parse can fail on a value. Never reads a file and knows no YAML: the
//! reader in `pilotlight-api` adds the place and the field's name to the errors from here.

mod limit;
mod name;

pub use limit::{
    Concurrency, EphemeralStorageMiB, KeepAlive, MemoryMiB, OutOfRange, PoolSize, QueueLimit,
    Timeout, TolerationSeconds,
};
pub use name::{
    EnvName, EnvValue, FunctionName, Handler, InvalidEnvName, InvalidEnvValue, InvalidHandler,
    InvalidLabel, InvalidRuntime, Namespace, RESERVED_VARIABLES, Runtime, is_reserved_variable,
};
