//! The program's exit codes.
//!
//! Each subcommand returns one; `main` hands it to the shell. The help of each subcommand says what they mean there.

/// How a subcommand ended. 2 is also clap's code for a wrong command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    /// The function failed, or could not be prepared.
    Failure = 1,
    /// The manifests or the call are wrong, or nothing answers.
    Refused = 2,
    /// Interrupted a second time: 128 + SIGINT.
    Interrupted = 130,
}
