//! `POST /claim`: a [`Claim`] as a line of JSON, then the code as a tar; 409 if another was first.
//!
//! The gateway's `cluster/claim` writes it, the supervisor's `claim` reads it.

use serde::{Deserialize, Serialize};

use crate::config::InstanceConfig;

pub const CLAIM_PATH: &str = "/claim";

/// What an unclaimed instance becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name that it has from now on.
    pub instance: String,
    /// `None` for one that was started with its configuration, and lacks the code alone.
    pub config: Option<InstanceConfig>,
}

/// In the answer to a claim that came too late: the instance that it has become.
pub const INSTANCE: &str = "pilotlight-instance";
