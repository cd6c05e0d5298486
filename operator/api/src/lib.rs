//! The manifests that people write and the resources of the API server, and what is wrong with one and where.
//!
//! ```text
//! file ─ manifest/document ─► YAML ─ function, code, pod ─► Function ─► local mode
//!                               └──── manifest/error ─────► file:line:column: field: what to do
//! API server ─ resource (function, warm_pool, schedule, status) ─► controller, gateways: pod_state, revision
//! ```
//!
//! A `Function` is valid once parsed: its values are the newtypes of `pilotlight-core`. This crate has no
//! client and opens no file: callers bring the text or the object.

mod class;
mod code;
mod defaults;
mod destination;
#[cfg(feature = "cluster")]
mod destination_schema;
mod function;
pub mod identity;
pub mod instance_config;
pub mod labels;
mod manifest;
mod pod;
#[cfg(feature = "cluster")]
pub mod pod_state;
#[cfg(feature = "cluster")]
pub mod resource;
#[cfg(feature = "cluster")]
pub mod revision;
mod schedule;
#[cfg(feature = "cluster")]
mod schedule_schema;
#[cfg(feature = "cluster")]
mod schema;
#[cfg(feature = "cluster")]
mod schema_parts;
#[cfg(feature = "cluster")]
pub mod status;
mod text;
mod warm_pool;
#[cfg(feature = "cluster")]
mod warm_pool_schema;

pub use class::class_labels;
#[cfg(feature = "cluster")]
pub use class::{class_annotation, class_of_pod};
pub use code::{
    Archive, ArchiveUrl, Code, CodePath, ConfigMapName, ImageRef, InvalidCode, Layers, Sha256,
    SourceFiles, SourceName,
};
pub use destination::{
    BucketName, Destination, DestinationRegion, HttpDestination, HttpUrl, InvalidDestination,
    KeyPrefix, NatsDestination, NatsSubject, NatsUrl, QueueUrl, S3Destination, S3Endpoint,
    SqsDestination,
};
pub use function::{
    ApiVersion, AsyncSpec, ConcurrencySpec, Description, DescriptionTooLong, ErrorDetail, Function,
    FunctionSpec, Kind, LogLevel, Logging, Metadata, OPT, RecursiveLoop, TASK,
};
pub use manifest::{
    Documents, Manifest, ManifestError, ScheduleManifest, duplicates, read, read_all,
};
pub use pilotlight_wire::config::{BetweenEvents, LogFormat};
pub use pod::{
    EnvironmentSource, InvalidPod, LabelKey, LabelValue, ObjectName, ObjectRef, PodSettings,
    TaintEffect, Toleration, TolerationFields, TolerationOperator,
};
pub use schedule::{
    InvalidSchedule, Schedule, ScheduleAsyncSpec, ScheduleInput, ScheduleKind, ScheduleSpec,
    ScheduleText, ScheduleTime, TimeZoneName,
};
pub use warm_pool::WarmPoolSpec;
