//! What destinations of functions are given in local mode: the Secrets and the keys of the developer.

use std::path::PathBuf;
use std::sync::Arc;

use pilotlight_events::destination::{AwsKeys, ReceiverSecret, Receivers};
use pilotlight_gateway::{Destinations, SecretFolders};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DestinationOptions {
    /// The Secrets that functions name in `secretRef` of their destinations: a folder for each, with a file for each key.
    #[arg(long, env = "PILOTLIGHT_SECRETS", value_name = "FOLDER")]
    secrets: Option<PathBuf>,
    /// Signs requests to the queues and buckets of destinations without a `secretRef`.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide = true, hide_env_values = true)]
    aws_access_key_id: Option<ReceiverSecret>,
    #[arg(
        long,
        env = "AWS_SECRET_ACCESS_KEY",
        hide = true,
        hide_env_values = true
    )]
    aws_secret_access_key: Option<ReceiverSecret>,
    #[arg(long, env = "AWS_SESSION_TOKEN", hide = true, hide_env_values = true)]
    aws_session_token: Option<ReceiverSecret>,
    #[arg(long, env = "AWS_REGION", hide = true)]
    aws_region: Option<String>,
}

impl DestinationOptions {
    /// `region`: that of the functions' ARNs, for those who have set none.
    pub(crate) fn open(&self, region: &str) -> Destinations {
        let keys = self
            .aws_access_key_id
            .clone()
            .zip(self.aws_secret_access_key.clone());
        let keys = keys.map(|(id, secret)| AwsKeys {
            id,
            secret,
            session_token: self.aws_session_token.clone(),
        });
        let given = self.aws_region.as_ref().filter(|region| !region.is_empty());
        Destinations::new(
            Arc::new(SecretFolders(self.secrets.clone())),
            Receivers::default(),
            given.map_or_else(|| region.to_owned(), String::clone),
            keys,
        )
    }
}
