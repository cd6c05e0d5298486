//! The failures of invocations and inits: the documented error types and messages (contract §3).
//!
//! `machine` decides which failure it is; the supervisor writes it into the answer's JSON body and into
//! the REPORT line. A body that the runtime itself posted is never changed here.

use std::fmt;
use std::time::Duration;

/// The largest synchronous request or response: 6 MiB + 100 bytes (contract §1).
pub const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024 + 100;

/// Why an invocation ended without the handler's own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The function's timeout passed.
    Timeout(Duration),
    /// The runtime process exited by itself.
    Exit(Exit),
    /// The instance used more memory than the function has; the kernel or the supervisor killed it.
    OutOfMemory,
    /// The program could not be started. The supervisor knows the reason ([`invalid_entrypoint`]).
    InvalidEntrypoint,
    /// The response is larger than [`PAYLOAD_LIMIT`].
    ResponseTooLarge,
    /// The runtime posted an error during init; the caller gets its body unchanged.
    Init,
}

/// Which failure it was, without its details: for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Timeout,
    Exit,
    OutOfMemory,
    Entrypoint,
    ResponseSize,
    Init,
}

impl FailureKind {
    pub const ALL: [FailureKind; 6] = [
        FailureKind::Timeout,
        FailureKind::Exit,
        FailureKind::OutOfMemory,
        FailureKind::Entrypoint,
        FailureKind::ResponseSize,
        FailureKind::Init,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Timeout => "timeout",
            FailureKind::Exit => "exit",
            FailureKind::OutOfMemory => "out_of_memory",
            FailureKind::Entrypoint => "entrypoint",
            FailureKind::ResponseSize => "response_size",
            FailureKind::Init => "init",
        }
    }

    /// `None` for a kind of a newer release.
    pub fn read(text: &str) -> Option<Self> {
        let mut all = FailureKind::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "signal: {name}"),
                None => write!(f, "signal: signal {signal}"),
            },
        }
    }
}

/// The names of signals on the original platform.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return None,
    })
}

impl Failure {
    pub fn kind(&self) -> FailureKind {
        match self {
            Failure::Timeout(_) => FailureKind::Timeout,
            Failure::Exit(_) => FailureKind::Exit,
            Failure::OutOfMemory => FailureKind::OutOfMemory,
            Failure::InvalidEntrypoint => FailureKind::Entrypoint,
            Failure::ResponseTooLarge => FailureKind::ResponseSize,
            Failure::Init => FailureKind::Init,
        }
    }

    /// `errorType` of the answer's body.
    pub fn error_type(&self) -> &'static str {
        match self {
            Failure::Timeout(_) => "Sandbox.Timedout",
            Failure::Exit(_) | Failure::OutOfMemory => "Runtime.ExitError",
            Failure::InvalidEntrypoint => "Runtime.InvalidEntrypoint",
            Failure::ResponseTooLarge => "Function.ResponseSizeTooLarge",
            Failure::Init => "Runtime.InitError",
        }
    }

    /// `errorMessage` of the answer's body.
    pub fn message(&self, request_id: &str) -> String {
        let exited = "Error: Runtime exited";
        match self {
            Failure::Timeout(after) => format!(
                "RequestId: {request_id} Error: Task timed out after {:.2} seconds",
                after.as_secs_f64()
            ),
            Failure::Exit(exit) if exit.is_success() => {
                format!("RequestId: {request_id} {exited} without providing a reason")
            }
            Failure::Exit(exit) => format!("RequestId: {request_id} {exited} with error: {exit}"),
            Failure::OutOfMemory => {
                format!(
                    "RequestId: {request_id} {exited} with error: {}",
                    Exit::Signal(9)
                )
            }
            Failure::InvalidEntrypoint => {
                invalid_entrypoint(request_id, "the program cannot be started")
            }
            Failure::ResponseTooLarge => format!(
                "Response payload size exceeded maximum allowed payload size ({PAYLOAD_LIMIT} bytes)."
            ),
            Failure::Init => format!("RequestId: {request_id} Error: Init failed"),
        }
    }

    /// Whether its message says nothing of what the function did: a function that hides its errors may tell it.
    pub fn is_of_the_platform(&self) -> bool {
        matches!(self, Failure::Timeout(_) | Failure::ResponseTooLarge)
    }

    /// The error type in the REPORT line.
    pub fn report_type(&self) -> &'static str {
        match self {
            Failure::OutOfMemory => "Runtime.OutOfMemory",
            other => other.error_type(),
        }
    }
}

/// `errorMessage` for a program that could not be started. `reason`: the failed step and the kernel's error
/// text, such as `fork/exec /var/task/bootstrap: exec format error`.
pub fn invalid_entrypoint(request_id: &str, reason: &str) -> String {
    format!("RequestId: {request_id} Error: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_documented_ones() {
        let cases = [
            (
                Failure::Timeout(Duration::from_secs(1)),
                "RequestId: r Error: Task timed out after 1.00 seconds",
            ),
            (
                Failure::Exit(Exit::Code(0)),
                "RequestId: r Error: Runtime exited without providing a reason",
            ),
            (
                Failure::Exit(Exit::Code(127)),
                "RequestId: r Error: Runtime exited with error: exit status 127",
            ),
            (
                Failure::Exit(Exit::Signal(11)),
                "RequestId: r Error: Runtime exited with error: signal: segmentation fault",
            ),
            (
                Failure::OutOfMemory,
                "RequestId: r Error: Runtime exited with error: signal: killed",
            ),
            (
                Failure::ResponseTooLarge,
                "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            ),
        ];
        for (failure, message) in cases {
            assert_eq!(failure.message("r"), message);
        }
    }
}
