//! How the runtime process of a function is started, on a laptop or in an image.
//!
//! Made from a runtime's description by local mode and by `pilotlight-runtimes`; `pilotlight-api`
//! composes an instance's configuration with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::function::Handler;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The entry point: the function's own, or the runtime's default.
    pub handler: Handler,
    /// The working directory: where the function's code lies.
    pub task_root: PathBuf,
    /// What the runtime adds to the environment (search paths, its own name).
    pub environment: BTreeMap<String, String>,
}
