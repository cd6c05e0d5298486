//! Where instances come from: what `instance` and the driver ask of it.
//!
//! `process` starts them on this machine. A backend makes and ends instances and knows where each
//! takes leases; it never sees an invocation, and decides nothing.

use std::any::Any;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pilotlight_net::address::Opening;

use crate::catalog::Deployment;

/// What a backend promises.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An instance stays wanted until this is dropped.
pub type Reservation = Box<dyn Any + Send>;

/// Makes instances.
pub trait Backend: Debug + Send + Sync {
    /// Notes at once that the instance of this name is wanted; [`Backend::start`] follows.
    fn reserve(&self, deployment: &Deployment, instance: &str) -> Reservation;

    /// Has the instance of this name up, or says for a person why it cannot be. Dropping the
    /// promise gives the instance up.
    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Arc<str>>>;

    /// Whether no instances of the function are made at present: to ask again soon costs nothing.
    fn refuses(&self, _: &Deployment) -> bool {
        false
    }

    /// The load of a function, at each change of it.
    fn observe(&self, deployment: &Deployment, in_flight: usize, queued: usize);
}

/// An instance that is up. Dropping it gives it up.
pub trait Running: Send + Sync {
    /// Opens a connection to its supervisor, once the promise is polled.
    fn connect(&self) -> Opening;

    /// How long its code took to unpack, if it was there before and was claimed for the function.
    fn unpacked(&self) -> Option<Duration> {
        None
    }

    /// Waits for its end; says how it ended. May be asked again.
    fn wait(&mut self) -> Promise<'_, Arc<str>>;

    /// Ends it, with all that it runs, and waits for its last log line.
    fn end(self: Box<Self>) -> Promise<'static, ()>;
}
