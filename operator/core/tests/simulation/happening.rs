//! What can happen in a simulated world, and with a runtime process in it.
//!
//! `world` keeps happenings in its agenda, in the order of time, and hands each to the part that it concerns.
//! A status travels as an epoch and a code, since happenings need an order.

use pilotlight_core::instance::Condition;
use pilotlight_core::invoke::pool::InstanceId;

use crate::answers::Answer;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    Arrival,
    ForeignLease,
    SupervisorCrash,
    /// A function stops its supervisor.
    SupervisorStop,
    Replace,
    /// Other settings, which need no new instances.
    Configure,
    Delete,
    /// Another gateway becomes the owner of the function, and later this one again.
    HandOver,
    TakeOver,
    PoolWake,
    /// A supervisor is up.
    Boot(InstanceId),
    /// A supervisor could not be started.
    StartFails(InstanceId),
    /// The creator of instances refuses.
    StartRefused(InstanceId),
    MachineWake(InstanceId),
    LeaseArrives(InstanceId, u64),
    StopArrives(InstanceId),
    /// The runtime process of this number takes its next step.
    Runtime(InstanceId, u32, Step),
    /// The gateway is connected to the supervisor.
    UpArrives(InstanceId),
    StatusArrives(InstanceId, u64, u8),
    AnswerArrives(InstanceId, u64, Answer, u64, u8),
    NotStartedArrives(InstanceId, Option<(u64, u8)>),
    /// The gateway notices that the instance is gone.
    GoneArrives(InstanceId),
    /// The gateway has closed its connections to the instance.
    Released(InstanceId),
}

/// The next step of a runtime process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Next,
    InitError,
    Response,
    HugeResponse,
    /// The head of a streamed response.
    Begin,
    /// The end of a streamed response.
    End,
    /// The connection breaks within a streamed response.
    Abort,
    Error,
    Exit(i32),
    Signalled(i32),
    ExceedMemory,
    KilledForMemory,
    NotStarted,
}

pub(crate) fn condition(code: u8) -> Condition {
    [Condition::Starting, Condition::Ready, Condition::Draining][code as usize]
}

pub(crate) fn code(condition: Condition) -> u8 {
    match condition {
        Condition::Starting => 0,
        Condition::Ready => 1,
        Condition::Draining => 2,
    }
}
