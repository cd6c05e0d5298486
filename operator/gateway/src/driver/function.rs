//! One function's pool at the driver, with the invocations that wait and the handles of its instances.
//!
//! Carries out the actions of the pool: starts the tasks of instances (`instance`), sends them orders, and
//! gives callers the outcome of rejected invocations. The driver calls it; it makes no decisions and never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pilotlight_core::ids::InstanceName;
use pilotlight_core::instance::{Condition, Status};
use pilotlight_core::invoke::budget::Budget;
use pilotlight_core::invoke::pool::{self, InstanceId, Pool, Rejection};
use pilotlight_core::invoke::queue::InvocationId;
use pilotlight_core::reason::Reason;
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::field::display;

use crate::backend::Backend;
use crate::catalog::{Deployment, PoolKey};
use crate::clock;
use crate::instance::{self, Ends};
use crate::intake::Intake;
use crate::invoker::outcome::{Circumstances, of_rejection};
use crate::logs::Hub;
use crate::message::{self, Message, Order, Pending};
use crate::metrics::FunctionMetrics;

pub(super) struct Function {
    pub(super) deployment: Arc<Deployment>,
    pub(super) pool: Pool,
    pub(super) budget: Budget,
    pub(super) pending: HashMap<InvocationId, Pending>,
    instances: HashMap<InstanceId, Handle>,
    pub(super) metrics: Arc<FunctionMetrics>,
    /// The time of this function's entry in `Driver::timers`.
    pub(super) timer: Option<Instant>,
}

struct Handle {
    name: InstanceName,
    orders: mpsc::Sender<Order>,
    /// Ends the task whatever it waits for. A call that it has is lost.
    given_up: CancellationToken,
    /// Present until the instance gets its first invocation.
    fresh: Option<Fresh>,
}

/// An instance that this gateway started and that has had no invocation yet.
struct Fresh {
    begun: Instant,
    ready: Option<Instant>,
}

/// The tasks of the instances. Each returns the reason why its instance ended.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) running: JoinSet<Reason>,
    pub(super) names: HashMap<task::Id, (PoolKey, InstanceId)>,
}

/// The parts of the gateway that every instance's task gets.
pub(super) struct TaskContext {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) intake: Intake,
    pub(super) logs: Option<Hub>,
    /// Sends the reports of the tasks to the driver.
    pub(super) sender: mpsc::Sender<Message>,
    /// Cancelled at the end of the grace period. Then all tasks end without waiting for their instances.
    pub(super) force: CancellationToken,
}

impl Function {
    pub(super) fn new(
        deployment: Arc<Deployment>,
        pool: Pool,
        budget: Budget,
        metrics: Arc<FunctionMetrics>,
    ) -> Self {
        Function {
            deployment,
            pool,
            budget,
            pending: HashMap::new(),
            instances: HashMap::new(),
            metrics,
            timer: None,
        }
    }

    /// Carries out an action of the pool.
    pub(super) fn carry_out(
        &mut self,
        key: PoolKey,
        action: pool::Action,
        is_stopping: bool,
        context: &TaskContext,
        tasks: &mut Tasks,
    ) {
        match action {
            pool::Action::Start { instance } => {
                let name = uuid::Uuid::new_v4().simple().to_string().into();
                let fresh = Fresh {
                    begun: clock::now(),
                    ready: None,
                };
                self.metrics.instance_started();
                self.run(key, instance, (name, Some(fresh)), context, tasks);
            }
            pool::Action::Stop { instance } => self.order(instance, Order::Drain),
            pool::Action::Release { instance } => self.order(instance, Order::Release),
            pool::Action::GiveUp { instance } => self.give_up(instance),
            pool::Action::Dispatch {
                invocation,
                instance,
            } => self.dispatch(invocation, instance),
            pool::Action::Reject {
                invocation,
                rejection,
            } => self.reject(invocation, rejection, is_stopping),
        }
    }

    fn reject(&mut self, invocation: InvocationId, rejection: Rejection, is_stopping: bool) {
        let circumstances = Circumstances {
            is_reserved: self.deployment.spec.concurrency.reserved.is_some(),
            is_stopping,
        };
        if let Some(pending) = self.pending.remove(&invocation) {
            match of_rejection(rejection, circumstances) {
                Some(outcome) => pending.end(outcome),
                None => pending.return_unstarted(),
            }
        }
    }

    /// Removes an instance whose task has ended.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.instances.remove(&instance);
    }

    /// Starts the task of an instance. If an instance of this name is already alive, the backend connects to it.
    fn run(
        &mut self,
        pool: PoolKey,
        instance: InstanceId,
        (name, fresh): (InstanceName, Option<Fresh>),
        context: &TaskContext,
        tasks: &mut Tasks,
    ) {
        let link = instance::Link {
            pool,
            instance,
            name: name.clone(),
            driver: context.sender.clone(),
            intake: context.intake.clone(),
            logs: context.logs.clone(),
        };
        let (orders, inbox) = mpsc::channel(message::ORDERS_LIMIT);
        let TaskContext { backend, force, .. } = context;
        let (backend, given_up) = (backend.clone(), force.child_token());
        let reservation = backend.reserve(&self.deployment, name.as_str());
        let wanted = (name.clone(), reservation);
        let ends = Ends {
            given_up: given_up.clone(),
            force: force.clone(),
        };
        let run = instance::run(link, wanted, self.deployment.clone(), backend, inbox, ends);
        let task = tasks.running.spawn(run);
        tasks.names.insert(task.id(), (pool, instance));
        self.instances.insert(
            instance,
            Handle {
                name,
                orders,
                given_up,
                fresh,
            },
        );
    }

    /// Adopts an instance that is already alive. If it still runs an invocation of this gateway, the pool keeps it.
    pub(super) fn adopt(
        &mut self,
        key: PoolKey,
        name: InstanceName,
        now: Instant,
        context: &TaskContext,
        tasks: &mut Tasks,
    ) {
        let mut known = self
            .instances
            .iter()
            .filter(|(_, known)| known.name == name);
        if known.any(|(instance, _)| self.pool.keep(now, *instance)) {
            return;
        }
        let instance = self.pool.adopt(now);
        self.run(key, instance, (name, None), context, tasks);
    }

    pub(super) fn note_ready(&mut self, instance: InstanceId, status: Status) {
        if let Some(handle) = self.instances.get_mut(&instance)
            && let Some(fresh) = &mut handle.fresh
            && status.condition == Condition::Ready
        {
            fresh.ready.get_or_insert_with(clock::now);
        }
    }

    fn order(&self, instance: InstanceId, order: Order) {
        if let Some(handle) = self.instances.get(&instance) {
            // If the instance has ended by itself, it needs no order.
            let _ = handle.orders.try_send(order);
        }
    }

    fn give_up(&self, instance: InstanceId) {
        if let Some(handle) = self.instances.get(&instance) {
            let (function, name) = (&self.deployment.pool, &handle.name);
            tracing::warn!(%function, instance = %name, "an instance is overdue and is given up");
            handle.given_up.cancel();
        }
    }

    fn dispatch(&mut self, invocation: InvocationId, instance: InstanceId) {
        let Some(mut pending) = self.pending.remove(&invocation) else {
            return;
        };
        let Some(handle) = self.instances.get_mut(&instance) else {
            return;
        };
        pending.span.record("instance", display(&handle.name));
        let fresh = handle.fresh.take();
        // If the instance was ready before the call arrived, this is no cold start: the instance was provisioned,
        // or started for another call.
        if let Some(Fresh { begun, ready }) = fresh
            && ready.is_none_or(|ready| pending.invocation.arrived < ready)
        {
            let arrived = pending.invocation.arrived;
            pending.cold = Some(begun.saturating_duration_since(arrived));
            self.metrics.cold_start();
        }
        if let Err(error) = handle.orders.try_send(Order::Run(pending)) {
            // The task has ended, and the driver is about to handle its end. The invocation never started.
            if let Order::Run(pending) = error.into_inner() {
                self.pending.insert(invocation, pending);
                let event = pool::Event::NotStarted {
                    instance,
                    status: None,
                };
                self.pool.handle(clock::now(), event);
            }
        }
    }
}
