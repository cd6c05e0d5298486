//! The message that a prestarted runtime process reads from its standard input when its instance is claimed.
//!
//! The supervisor's `prestart` writes it, each runtime's own `prestart` reads it.
//! `core::instance::prestart` decides whether such a process is used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::InstanceConfig;

/// The program that a prestarted process runs from now on.
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
    /// `config` has the complete environment.
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
