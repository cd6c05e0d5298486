//! What people write: the `Function` manifest, and what is wrong with one and where.
//!
//! ```text
//! file ─ document ─► YAML ─ function, code, pod ─► Function ─► controller, or local mode
//!                      └──── error ──────────────► file:line:column: field: what to do
//! ```
//!
//! A `Function` is valid once parsed: its values are the newtypes of `pilotlight-core`. No
//! behaviour, no kube, and no file is opened here: callers bring the text.

mod code;
mod function;
pub mod instance_config;
pub mod labels;
mod manifest;
mod pod;
#[cfg(feature = "cluster")]
pub mod resource;
#[cfg(feature = "cluster")]
mod schema;
mod text;
mod warm_pool;
#[cfg(feature = "cluster")]
mod warm_pool_schema;

pub use code::{
    Archive, ArchiveUrl, Code, CodePath, ConfigMapName, ImageRef, InvalidCode, Layers, Sha256,
    SourceFiles, SourceName,
};
pub use function::{
    ApiVersion, ConcurrencySpec, Description, DescriptionTooLong, ErrorDetail, Function,
    FunctionSpec, Kind, Logging, Metadata,
};
pub use manifest::{Manifest, ManifestError, duplicates, read};
pub use pilotlight_wire::config::LogFormat;
pub use pod::{
    EnvironmentSource, InvalidPod, LabelKey, LabelValue, ObjectName, ObjectRef, PodSettings,
    TaintEffect, Toleration, TolerationFields, TolerationOperator,
};
pub use warm_pool::{Class, WarmPoolSpec};
