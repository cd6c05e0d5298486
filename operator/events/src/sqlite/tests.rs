use std::fs;
use std::sync::Arc;

use pilotlight_core::events::retry::{EventEnd, EventTime, Progress};
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, event};
use crate::queue::{DEAD_LETTER_AGE, DEAD_LETTER_PART, EventQueue};

const BYTES: u64 = 1024 * 1024;
const NOW: EventTime = EventTime(1_800_000_000_000);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(folder: &TempDir) -> SqliteQueue {
    SqliteQueue::open(folder.path(), BYTES).expect("a queue")
}

/// Once the last clone is gone, the lock is free.
async fn reopened(folder: &TempDir) -> SqliteQueue {
    loop {
        match SqliteQueue::open(folder.path(), BYTES) {
            Ok(queue) => return queue,
            Err(OpenQueueError::InUse(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn it_does_what_every_queue_does() {
    use conformance::TestTime::Told;
    conformance::events_are_given_to_one_until_they_are_settled(&open(&folder()), Told).await;
    conformance::events_come_again_at_their_time(&open(&folder()), Told).await;
    conformance::the_first_are_those_that_wait_longest(&open(&folder()), Told).await;
    conformance::what_was_not_tried_is_given_out_again(&open(&folder()), Told).await;
    conformance::a_purge_removes_what_waits(&open(&folder()), Told).await;
    conformance::an_event_that_has_ended_comes_with_its_outcome(&open(&folder()), Told).await;
    conformance::dead_letters_are_kept_until_they_are_replayed(&open(&folder()), Told).await;
    let folder = folder();
    let open = async || Arc::new(reopened(&folder).await) as Arc<dyn EventQueue>;
    conformance::what_was_taken_is_taken_again(open, Told).await;
    let folder = self::folder();
    let open = async || Arc::new(reopened(&folder).await) as Arc<dyn EventQueue>;
    conformance::an_event_is_accepted_once(open, Told).await;
}

#[cfg(feature = "schedule")]
#[tokio::test]
async fn it_keeps_records_of_schedules_as_every_queue_does() {
    use crate::schedule::records::ScheduleRecords;
    let folder = folder();
    let open = async || Arc::new(reopened(&folder).await) as Arc<dyn ScheduleRecords>;
    let time = conformance::TestTime::Told;
    conformance::the_record_of_a_schedule_is_kept_until_it_is_forgotten(open, time).await;
}

#[tokio::test]
async fn those_that_can_be_tried_first_are_the_first() {
    let folder = folder();
    let queue = open(&folder);
    let later = |seconds| NOW.after(std::time::Duration::from_secs(seconds));
    for (id, at) in [("r1", 3), ("r2", 1), ("r3", 2)] {
        queue.accept(event("a", id, later(at))).await.expect("room");
    }
    let function = "local/a".parse().expect("a key");
    let taken = queue.take(&function, later(10), 2).await.expect("two");
    let ids: Vec<_> = taken
        .events
        .iter()
        .map(|(_, event)| &*event.head.request_id)
        .collect();
    assert_eq!((ids, taken.due), (vec!["r2", "r3"], Some(later(3))));
}

#[tokio::test]
async fn a_folder_has_one_queue_and_only_its_user_enters_it() {
    let folder = folder();
    let root = folder.path().join("events");
    let _queue = SqliteQueue::open(&root, BYTES).expect("a queue");
    let second = SqliteQueue::open(&root, BYTES).expect_err("it is in use");
    assert!(matches!(second, OpenQueueError::InUse(_)), "{second}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&root).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_has_room_again_after_an_end() {
    let folder = folder();
    let size = event("a", "r1", NOW).size() as u64;
    let queue = SqliteQueue::open(folder.path(), 2 * size).expect("a queue");
    for id in ["r1", "r2"] {
        queue.accept(event("a", id, NOW)).await.expect("room");
    }
    let refused = queue.accept(event("a", "r3", NOW)).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    let function = "local/a".parse().expect("a key");
    let taken = queue.take(&function, NOW, 1).await.expect("one").events;
    queue.settle(taken[0].0, Settled::Gone).await.expect("gone");
    queue.accept(event("a", "r3", NOW)).await.expect("room");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_set_aside_and_others_are_taken() {
    let folder = folder();
    let queue = open(&folder);
    for id in ["r1", "r2"] {
        queue.accept(event("a", id, NOW)).await.expect("room");
    }
    let broken: BoxFuture<'_, Result<usize, QueueError>> =
        queue.run(|file| file.execute("update events set head = '{}' where id = 1"));
    assert_eq!(broken.await, Ok(1));
    let function = "local/a".parse().expect("a key");
    let taken = queue.take(&function, NOW, 9).await.expect("one");
    assert_eq!(taken.events[0].1.head.request_id, "r2");
    assert_eq!((taken.events.len(), taken.due), (1, None));
    let kept = queue.run(|file| file.execute("delete from unreadable"));
    assert_eq!(kept.await, Ok(1));
}

#[tokio::test]
async fn many_at_once_are_committed_together_and_each_is_there() {
    let folder = folder();
    let queue = Arc::new(open(&folder));
    let accepted = (0..1000).map(|n| {
        let queue = queue.clone();
        async move { queue.accept(event("a", &format!("r{n}"), NOW)).await }
    });
    for accepted in futures_util::future::join_all(accepted).await {
        accepted.expect("room");
    }
    let waiting = queue.waiting().await.expect("counts");
    assert_eq!(waiting[0].count, 1000);
}

#[tokio::test]
async fn a_disk_that_is_full_refuses_all_that_waits_and_changes_nothing() {
    let folder = folder();
    let queue = open(&folder);
    queue.accept(event("a", "r1", NOW)).await.expect("room");
    let pages = queue.run(|file| file.execute("pragma max_page_count=1"));
    pages.await.expect("a bound");
    let mut large = event("a", "r2", NOW);
    large.payload = vec![b'1'; 512 * 1024].into();
    let refused = queue.accept(large).await;
    assert!(
        matches!(refused, Err(QueueError::Unavailable(_))),
        "{refused:?}"
    );
    let function = "local/a".parse().expect("a key");
    let taken = queue.take(&function, NOW, 9).await.expect("one").events;
    assert_eq!(taken.len(), 1);
    let due = NOW.after(std::time::Duration::from_secs(1));
    let progress = Progress::new(NOW);
    let again = Settled::Again { progress, due };
    queue.settle(taken[0].0, again).await.expect("settled");
}

/// Takes the event, and makes a dead letter of it that has ended at that time.
async fn bury(queue: &SqliteQueue, request_id: &str, at: EventTime) {
    let function = "local/a".parse().expect("a key");
    queue
        .accept(event("a", request_id, NOW))
        .await
        .expect("room");
    let taken = queue.take(&function, NOW, 1).await.expect("one").events;
    let outcome = EventOutcome {
        end: EventEnd::RetriesExhausted,
        at,
        attempts: 3,
        response: None,
    };
    let buried = queue.settle(taken[0].0, Settled::Dead(outcome)).await;
    buried.expect("it is stored");
}

#[tokio::test]
async fn the_newest_dead_letters_are_kept_that_there_is_room_for() {
    let folder = folder();
    let size = event("a", "r1", NOW).size() as u64;
    // Three and a half of them.
    let bytes = (size * 7 / 2) * DEAD_LETTER_PART;
    let queue = SqliteQueue::open(folder.path(), bytes).expect("a queue");
    let function = "local/a".parse().expect("a key");
    for (number, id) in ["r1", "r2", "r3", "r4", "r5"].into_iter().enumerate() {
        bury(&queue, id, EventTime(NOW.0 + number as u64)).await;
    }
    let dead = queue.dead_letters(&function).await.expect("counts");
    assert_eq!((dead.count, dead.oldest), (3, Some(EventTime(NOW.0 + 2))));
    // Two weeks after the one before the last.
    let age = DEAD_LETTER_AGE.as_millis() as u64;
    bury(&queue, "r6", EventTime(NOW.0 + 4 + age)).await;
    let dead = queue.dead_letters(&function).await.expect("counts");
    assert_eq!((dead.count, dead.oldest), (2, Some(EventTime(NOW.0 + 4))));
}

#[tokio::test]
async fn a_replay_stops_where_there_is_no_room_and_the_rest_stays() {
    let folder = folder();
    let queue = SqliteQueue::open(folder.path(), BYTES).expect("a queue");
    for id in ["r1", "r2", "r3"] {
        bury(&queue, id, NOW).await;
    }
    drop(queue);
    let size = event("a", "r1", NOW).size() as u64;
    // A smaller bound than before.
    let queue = loop {
        match SqliteQueue::open(folder.path(), 2 * size) {
            Err(OpenQueueError::InUse(_)) => tokio::task::yield_now().await,
            opened => break opened.expect("a queue"),
        }
    };
    let function = "local/a".parse().expect("a key");
    assert_eq!(queue.replay(&function, NOW).await, Ok(2));
    let dead = queue.dead_letters(&function).await.expect("counts");
    assert_eq!(dead.count, 1);
    let refused = queue.replay(&function, NOW).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
}

#[tokio::test]
async fn a_file_of_the_format_before_is_read() {
    let folder = folder();
    let queue = open(&folder);
    queue.accept(event("a", "r1", NOW)).await.expect("room");
    let older = queue.run(|file| {
        file.execute("drop table dead")?;
        file.execute("pragma user_version=1")
    });
    older.await.expect("it has the format before");
    drop(queue);
    let queue = reopened(&folder).await;
    bury(&queue, "r2", NOW).await;
    let function = "local/a".parse().expect("a key");
    let taken = queue.take(&function, NOW, 9).await.expect("one").events;
    let dead = queue.dead_letters(&function).await.expect("counts");
    // The first that was taken is the older one.
    assert_eq!((taken.len(), dead.count), (1, 1));
}
