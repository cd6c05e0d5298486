//! The records of schedules, in the stream that also has how far events have come.
//!
//! One message for each schedule. The server removes it a day after it was stored.

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::JetStreamQueue;
use crate::queue::QueueError;
use crate::schedule::firing::ScheduleRecord;
use crate::schedule::records::{ScheduleId, ScheduleRecords};

impl ScheduleRecords for JetStreamQueue {
    fn read<'a>(
        &'a self,
        schedule: &'a ScheduleId,
    ) -> BoxFuture<'a, Result<Option<ScheduleRecord>, QueueError>> {
        let read = async move {
            let server = &self.shared.server;
            server.need_streams(&schedule.namespace).await?;
            let session = server.link.session().await?;
            let stream = server.prefix.progress_stream(&schedule.namespace);
            let subject = server.prefix.schedule(&schedule.namespace, &schedule.uid);
            let found = self
                .shared
                .message(&session, &stream, |ask| ask.last_by_subject(subject));
            let found = found.await;
            if found.is_err() {
                // The stream may be gone.
                server.doubt_streams(&schedule.namespace).await;
            }
            Ok(found?.and_then(|(_, text)| serde_json::from_slice(&text).ok()))
        };
        self.in_time(read).boxed()
    }

    fn store<'a>(
        &'a self,
        schedule: &'a ScheduleId,
        record: ScheduleRecord,
    ) -> BoxFuture<'a, Result<(), QueueError>> {
        let text = serde_json::to_vec(&record).expect("a record is plain data");
        self.in_time(self.put(schedule, text.into())).boxed()
    }

    fn forget<'a>(&'a self, schedule: &'a ScheduleId) -> BoxFuture<'a, Result<(), QueueError>> {
        let forgotten = async move {
            let server = &self.shared.server;
            let stream = server.prefix.progress_stream(&schedule.namespace);
            let subject = server.prefix.schedule(&schedule.namespace, &schedule.uid);
            server.purge(&stream, &subject).await.map(drop)
        };
        self.in_time(forgotten).boxed()
    }
}

impl JetStreamQueue {
    async fn put(&self, schedule: &ScheduleId, text: Bytes) -> Result<(), QueueError> {
        let server = &self.shared.server;
        let ScheduleId { namespace, uid } = schedule;
        let mut is_again = false;
        loop {
            server.need_streams(namespace).await?;
            let session = server.link.session().await?;
            let message = PublishMessage::build()
                .payload(text.clone())
                .expected_stream(server.prefix.progress_stream(namespace));
            let subject = server.prefix.schedule(namespace, uid);
            let sent = session.jetstream.send_publish(subject, message).await;
            let stored = match sent {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            match stored {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound && !is_again => {
                    server.lost_streams(namespace).await;
                    is_again = true;
                }
                Err(error) => {
                    let what = "the record of a schedule";
                    return Err(server.link.unavailable(what, &error));
                }
            }
        }
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, QueueError>> + Send,
    ) -> Result<T, QueueError> {
        let limit = self.shared.timing.request * 3 / 2;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(QueueError::Unavailable(format!(
                "the NATS server has not answered within {limit:?}"
            )))
        })
    }
}
