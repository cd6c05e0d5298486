//! The logs of local mode: in files of the project, within a limit of age and one of size.
//!
//! Owns the options. If the files cannot be used, the functions run all the same, and the logs end with the process.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pilotlight_core::function::LogRetention;
use pilotlight_gateway::Hub;
use pilotlight_logs::sqlite::{FileLimits, SqliteStore};

use super::print;
use crate::log_folder::LogFolder;

/// How much of each function's log is kept where there are no files, in bytes.
const MEMORY_BYTES: usize = 8 * 1024 * 1024;
/// How much of all functions' logs waits for the files at most, in bytes.
const BACKLOG_BYTES: usize = 16 * 1024 * 1024;
/// How long the end waits until the files have the last records.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct LogFiles {
    #[command(flatten)]
    folder: LogFolder,
    /// How many days logs are kept, unless a function's `logging.retention` says otherwise: 1 to 3653.
    #[arg(
        long,
        env = "PILOTLIGHT_LOG_RETENTION",
        default_value = "7",
        value_name = "DAYS"
    )]
    log_retention: LogRetention,
    /// What the logs of all functions may take on the disk, in MiB; the oldest ones go first.
    #[arg(
        long,
        env = "PILOTLIGHT_LOG_SIZE",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(4..=1024 * 1024),
        value_name = "MIB"
    )]
    log_size: u64,
}

impl LogFiles {
    pub(super) fn folder(&self) -> &LogFolder {
        &self.folder
    }

    /// The files, or memory if they cannot be used. It must be called in a tokio runtime.
    pub(super) fn open(&self) -> Hub {
        match self.store() {
            Ok(store) => Hub::new(Arc::new(store), BACKLOG_BYTES),
            Err(error) => {
                print::note(&format!(
                    "warning: {error:#}; the logs of this run are kept in memory, and end with it"
                ));
                Hub::in_memory(MEMORY_BYTES)
            }
        }
    }

    fn store(&self) -> anyhow::Result<SqliteStore> {
        let retention = SignedDuration::try_from(self.log_retention.duration())?;
        let limits = FileLimits {
            bytes: self.log_size * 1024 * 1024,
            retention,
            clock: Timestamp::now,
        };
        Ok(SqliteStore::open(&self.folder.path()?, limits)?)
    }
}
