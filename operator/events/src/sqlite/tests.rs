use std::fs;
use std::sync::Arc;

use pilotlight_core::events::retry::{EventTime, Progress};
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, event};
use crate::queue::EventQueue;

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
    let folder = folder();
    let open = async || Arc::new(reopened(&folder).await) as Arc<dyn EventQueue>;
    conformance::what_was_taken_is_taken_again(open, Told).await;
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
