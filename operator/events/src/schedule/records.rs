//! Where the records of schedules are kept: beside the events, so that whoever can send can also remember.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use pilotlight_core::ids::Namespace;

use super::firing::ScheduleRecord;
use crate::queue::QueueError;

/// Names a schedule for good: one that is deleted and made again under the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId {
    pub namespace: Namespace,
    /// Letters, digits and `-`.
    pub uid: String,
}

/// Durable records of schedules. They outlive whoever has stored them, for a day at least: no time counts for so long.
pub trait ScheduleRecords: Debug + Send + Sync {
    /// `None`: nothing is stored, or nothing that this version can read.
    fn read<'a>(
        &'a self,
        schedule: &'a ScheduleId,
    ) -> BoxFuture<'a, Result<Option<ScheduleRecord>, QueueError>>;

    /// Returns when the record is durable. If it fails, the record may be stored all the same.
    fn store<'a>(
        &'a self,
        schedule: &'a ScheduleId,
        record: ScheduleRecord,
    ) -> BoxFuture<'a, Result<(), QueueError>>;

    /// The schedule is gone.
    fn forget<'a>(&'a self, schedule: &'a ScheduleId) -> BoxFuture<'a, Result<(), QueueError>>;
}
