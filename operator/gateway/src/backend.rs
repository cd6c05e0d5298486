//! The interface to the part that makes instances, as `instance` and the driver use it.
//!
//! `process` starts instances as processes on this machine, `cluster::backend` as pods. A backend makes and ends
//! instances and connects to their supervisors. It never sees an invocation, and decides nothing.

use std::any::Any;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use pilotlight_core::ids::PoolId;
use pilotlight_core::reason::Reason;
use pilotlight_net::address::Opening;

use crate::catalog::Deployment;
use crate::logs::Way;

/// A boxed future, which the trait needs to be used as an object.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The backend keeps an instance wanted until this is dropped.
pub type Reservation = Box<dyn Any + Send>;

/// Makes instances.
pub trait Backend: Debug + Send + Sync {
    /// Records that the instance of this name is wanted. It does not wait; [`Backend::start`] follows.
    fn reserve(&self, deployment: &Deployment, instance: &str) -> Reservation;

    /// Starts the instance of this name and waits until it is up. An instance of this name that already lives is
    /// adopted. Dropping the future gives the instance up.
    ///
    /// # Errors
    /// The reason why the instance cannot start.
    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Reason>>;

    /// Whether no instances of the function are made at present. A retry soon costs nothing then.
    fn refuses(&self, _: &Deployment) -> bool {
        false
    }

    /// The driver reports the load of a function whenever it may have changed.
    fn observe(&self, deployment: &Deployment, in_flight: usize, queued: usize);

    /// How many events of asynchronous calls of a function have not ended, for its status.
    fn observe_events(&self, _pool: &PoolId, _events: usize) {}
}

/// An instance that is up. Dropping this gives the instance up.
pub trait Running: Send + Sync {
    /// Opens a connection to its supervisor. Nothing happens before the returned future is polled.
    fn connect(&self) -> Opening;

    /// How to connect to it later on, if it hands its log records over on the status stream. `None`: they come another way.
    fn records(&self) -> Option<Way> {
        None
    }

    /// How long the gateway waited for the code that it brought to the instance.
    fn fetched(&self) -> Option<Duration> {
        None
    }

    /// How long the supervisor took to unpack the code, if the instance was claimed for the function.
    fn unpacked(&self) -> Option<Duration> {
        None
    }

    /// Waits until the instance has ended, and returns how it ended. May be called again.
    fn wait(&mut self) -> Promise<'_, Reason>;

    /// Ends the instance and everything that runs in it. Waits for its last log line if this gateway keeps its log.
    fn end(self: Box<Self>) -> Promise<'static, ()>;

    /// Ends the instance without grace: it does not obey.
    fn kill(self: Box<Self>) -> Promise<'static, ()> {
        self.end()
    }
}
