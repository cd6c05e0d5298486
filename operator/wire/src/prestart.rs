//! What a process that was started before its function was known reads from its standard input.
//!
//! The supervisor's `prestart` writes it, each runtime's own `prestart` reads it.
//! `core::prestart` decides whether such a process is used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::InstanceConfig;

/// What a prestarted process becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// The program and its arguments, as they would have been started.
    pub command: Vec<String>,
    pub task_root: PathBuf,
    /// The whole environment, in order.
    pub environment: Vec<(String, String)>,
}

impl Begin {
    /// `config`: with its environment complete.
    pub fn of(config: &InstanceConfig) -> Self {
        let environment = config.environment.iter();
        Begin {
            command: config.command.clone(),
            task_root: config.task_root.clone(),
            environment: environment
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}
