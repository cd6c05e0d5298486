//! What happens inside one instance: one runtime process, one lease, one event at a time (rule 1).
//!
//! `event` has the events that the supervisor reports and the actions that it carries out; `machine`
//! decides what follows from an event. `failure` has the error types and messages, `launch` how the runtime
//! process is started, `log_rate` how much of its output is logged, `memory` who enforces its memory limit, `node_share` what it takes of its node, `parts` whether its code
//! arrives as it was named, `phases` the parts of a cold start, `prestart` and `following` the life of an instance of a warm pool, `shebang` the first line of a script.
//! Nothing here sees a payload. The gateway's side of the same lease is `crate::invoke::pool`.

mod event;
pub mod failure;
pub mod following;
pub mod launch;
pub mod log_rate;
mod machine;
pub mod memory;
pub mod node_share;
pub mod parts;
pub mod phases;
pub mod prestart;
pub mod shebang;

pub use event::{
    Action, Condition, Event, INIT_LIMIT, LogLine, Outcome, Refusal, RequestId, SHUTDOWN_GRACE,
    Status,
};
pub use machine::Machine;
