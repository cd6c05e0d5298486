//! Has the worker read what the runtime process prints between other events.
//!
//! A task for each runtime process waits until its pipe is readable, and has the worker read a bounded part
//! in each turn. While the log's reader lags behind, the bytes stay in the pipe, and the process blocks when
//! that is full. `output` does the reading; `log` says whether there is room.

use std::rc::Rc;

use tokio::net::unix::pipe::Receiver;

use super::WeakShared;
use crate::log::Log;
use crate::output::Drained;

/// Bytes for one turn: a process that never stops printing delays no other task for longer, and the log's
/// reader keeps up.
const TURN_LIMIT: usize = 64 * 1024;

pub(super) async fn read_until_end(pipe: Rc<Receiver>, log: Log, worker: WeakShared) {
    while pipe.readable().await.is_ok() {
        loop {
            log.has_room().await;
            let Some(worker) = worker.upgrade() else {
                return;
            };
            let drained = worker.borrow_mut().on_output(TURN_LIMIT);
            match drained {
                Drained::More => tokio::task::yield_now().await,
                Drained::Empty => break,
                Drained::End => return,
            }
        }
    }
}
