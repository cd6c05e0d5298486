//! Sends what is known of an event that has ended to the destination of its function.
//!
//! ```text
//! ended ─► Outgoing ─► Receivers::send ─┬── http: a CloudEvent
//!                                       ├── nats: a message on a subject
//!                                       ├── sqs:  a message of a queue
//!                                       └── s3:   an object of a bucket
//! ```
//!
//! The authors of Functions name the servers, so each connection goes to an address that a rule allows
//! (`pilotlight_net::guarded`). A delivery has a bound for its time and for the answer. It is tried once: whoever has the
//! event tries again. Reads no Secret: receivers come with their credentials.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod login;
mod nats;
mod outgoing;
mod receiver;
mod s3;
mod secret;
mod sqs;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use pilotlight_net::guarded::{AddressGuard, GuardedClient};

pub use self::login::{InvalidLogin, NatsLogin};
pub use self::outgoing::{Outgoing, Undelivered};
pub use self::receiver::{AwsKeys, HttpReceiver, NatsReceiver, Receiver, S3Receiver, SqsReceiver};
pub use self::secret::ReceiverSecret;

/// How long one delivery may take, connecting included.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Sends to receivers, and keeps connections to them for a while. Cheap to clone; all clones share the connections.
#[derive(Clone, Debug)]
pub struct Receivers {
    web: GuardedClient,
    nats: Arc<nats::Connections>,
}

impl Receivers {
    pub fn new(guard: AddressGuard) -> Self {
        Receivers {
            web: GuardedClient::new(guard.clone()),
            nats: Arc::new(nats::Connections::new(guard)),
        }
    }

    /// Returns when the receiver has taken it.
    ///
    /// # Errors
    /// The receiver has not taken it, or whether it has is not known.
    pub async fn send(&self, receiver: &Receiver, outgoing: &Outgoing) -> Result<(), Undelivered> {
        let sending = async {
            match receiver {
                Receiver::Http(to) => http::send(&self.web, to, outgoing).await,
                Receiver::Nats(to) => self.nats.send(to, outgoing).await,
                Receiver::Sqs(to) => sqs::send(&self.web, to, outgoing).await,
                Receiver::S3(to) => s3::send(&self.web, to, outgoing).await,
            }
        };
        match tokio::time::timeout(DELIVERY_TIMEOUT, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(Undelivered::Later(format!(
                "{receiver} gave no answer within {} s",
                DELIVERY_TIMEOUT.as_secs()
            ))),
        }
    }
}

impl Default for Receivers {
    /// Sends to any address.
    fn default() -> Self {
        Self::new(AddressGuard::open())
    }
}

#[cfg(test)]
mod tests;
