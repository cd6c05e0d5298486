//! The logs of functions in this gateway: from the instances to a store, to readers and to live tails.
//!
//! ```text
//! process, cluster ─► feed ─► hub ─► backlog (core) ─► writer ─► Store
//!                              ├─► exports: a receiver of OTLP, beside the store
//!                              │         └─► read: what is stored, and what is not yet
//!                              └─► tail: readers that follow
//! ```

mod deletion;
mod exporting;
mod exports;
mod feed;
mod hub;
mod marks;
pub(crate) mod others;
mod records;
pub(crate) mod retention;
pub(crate) mod tail;
mod writer;

pub use exports::{ExportPlace, LogExports};
pub(crate) use feed::Feed;
pub use hub::Hub;
pub(crate) use hub::Reader;
pub(crate) use marks::{Source, Way};
pub use tail::{Followed, Tail};
