//! The events of asynchronous calls in local mode: in a file of the project, within a limit of size.
//!
//! Owns the options. If the file cannot be used, functions run all the same, and asynchronous calls are refused: nobody
//! could say that their events are not lost.

use std::path::PathBuf;
use std::sync::Arc;

use pilotlight_events::sqlite::SqliteQueue;
use pilotlight_gateway::{Config, EventsConfig, time_of_day};

use super::print;
use crate::log_folder::LogFolder;

#[derive(Debug, clap::Args)]
pub(crate) struct EventFiles {
    /// The folder of this project's events, which wait there for their functions [default: one for the current directory, in
    /// pilotlight/events of the user's state directory].
    #[arg(long, env = "PILOTLIGHT_EVENTS", value_name = "DIR")]
    events: Option<PathBuf>,
    /// What the events of all functions may take on the disk, in MiB; further ones are refused.
    #[arg(
        long,
        env = "PILOTLIGHT_EVENT_SIZE",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(2..=1024 * 1024),
        value_name = "MIB"
    )]
    event_size: u64,
}

impl EventFiles {
    /// `state`: knows the user's state directory.
    pub(super) fn open_into(&self, config: &mut Config, state: &LogFolder) {
        let opened = || -> anyhow::Result<SqliteQueue> {
            let folder = match &self.events {
                Some(folder) => folder.clone(),
                None => state.of_project("events")?,
            };
            Ok(SqliteQueue::open(&folder, self.event_size * 1024 * 1024)?)
        };
        match opened() {
            Ok(queue) => {
                let queue = Arc::new(queue);
                config.schedules = Some(queue.clone());
                config.events = Some(EventsConfig {
                    queue,
                    clock: time_of_day,
                });
            }
            Err(error) => print::note(&format!(
                "warning: {error:#}; asynchronous calls are refused, and schedules send nothing: pass --events with another folder"
            )),
        }
    }
}
