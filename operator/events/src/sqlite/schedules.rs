//! The records of schedules, in the same file as the events.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::SqliteQueue;
use crate::queue::QueueError;
use crate::schedule::firing::ScheduleRecord;
use crate::schedule::records::{ScheduleId, ScheduleRecords};

impl ScheduleRecords for SqliteQueue {
    fn read<'a>(
        &'a self,
        schedule: &'a ScheduleId,
    ) -> BoxFuture<'a, Result<Option<ScheduleRecord>, QueueError>> {
        let key = key(schedule);
        let read = self.run(move |file| file.schedule(&key));
        let read = read.map(|text| Ok(text?.and_then(|text| serde_json::from_str(&text).ok())));
        read.boxed()
    }

    fn store<'a>(
        &'a self,
        schedule: &'a ScheduleId,
        record: ScheduleRecord,
    ) -> BoxFuture<'a, Result<(), QueueError>> {
        let key = key(schedule);
        let text = serde_json::to_string(&record).expect("a record is plain data");
        self.run(move |file| file.set_schedule(&key, Some(&text)))
    }

    fn forget<'a>(&'a self, schedule: &'a ScheduleId) -> BoxFuture<'a, Result<(), QueueError>> {
        let key = key(schedule);
        self.run(move |file| file.set_schedule(&key, None))
    }
}

fn key(schedule: &ScheduleId) -> String {
    format!("{}/{}", schedule.namespace, schedule.uid)
}
