//! The connections of one listener: how many may be open, and which have to end.
//!
//! `server` asks for a place for each connection, and ends those that this module names. `core::intake::connection`
//! decides; this module has the table, looks at it at intervals, and counts. A connection that finds no place
//! waits in the kernel's queue while idle and stalled ones make room. Never reads a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pilotlight_core::intake::connection::{self, AnswerId, Overdue};
use pilotlight_core::intake::pace::CHECK_INTERVAL;
use pilotlight_net::framing::{Framing, Observer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::intake::{Intake, Listener, Refusal};

/// See the module.
#[derive(Debug)]
pub(crate) struct Connections {
    listener: Listener,
    intake: Intake,
    places: Arc<Semaphore>,
    /// Connections that have been accepted and have no place: at most one, as `server` accepts one at a time.
    waiting: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, (Connection, CancellationToken)>,
    next: u64,
}

/// The state of one connection. All clones are one.
pub(crate) type Connection = Arc<Watched>;

#[derive(Debug)]
pub(crate) struct Watched(Mutex<connection::Connection>);

/// The place of a connection, and what is told of its bytes. The place is free when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    connection: Connection,
    connections: Arc<Connections>,
    heads: u64,
    _permit: OwnedSemaphorePermit,
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, connection::Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request_began(&self) {
        self.state().request_began();
    }

    pub(crate) fn request_ended(&self) {
        self.state().request_ended(clock::now());
    }

    pub(crate) fn answer_waits(&self) -> AnswerId {
        self.state().answer_waits(clock::now())
    }

    pub(crate) fn answer_moved(&self, id: AnswerId, bytes: usize) {
        self.state().answer_moved(clock::now(), id, bytes);
    }

    pub(crate) fn answer_taken(&self, id: AnswerId) {
        self.state().answer_taken(id);
    }
}

impl Connections {
    /// Must be called in a tokio runtime. The looking ends when the last connection and `Connections` are gone.
    pub(crate) fn of(listener: Listener, intake: Intake) -> Arc<Self> {
        let limit = match listener {
            Listener::api => intake.limits.api_connections,
            Listener::parts => intake.limits.parts_connections,
            Listener::status => intake.limits.status_connections,
        };
        let connections = Arc::new(Connections {
            listener,
            intake,
            places: Arc::new(Semaphore::new(limit)),
            waiting: AtomicUsize::new(0),
            table: Mutex::default(),
        });
        let looking = Arc::downgrade(&connections);
        // Ends with what it looks at.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                match looking.upgrade() {
                    Some(connections) => connections.look(),
                    None => return,
                }
            }
        });
        connections
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. The connection has to end when the token is cancelled.
    pub(crate) async fn place(self: &Arc<Self>) -> (Place, CancellationToken) {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_place().await,
        };
        let connection = Arc::new(Watched(Mutex::new(connection::Connection::new(
            clock::now(),
        ))));
        let end = CancellationToken::new();
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        table.open.insert(id, (connection.clone(), end.clone()));
        self.intake.metrics.open(self.listener, table.open.len());
        let place = Place {
            id,
            connection,
            connections: self.clone(),
            heads: 0,
            _permit: permit,
        };
        (place, end)
    }

    async fn wait_for_place(&self) -> OwnedSemaphorePermit {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        self.intake.metrics.waited(self.listener);
        self.make_room();
        let permit = self.places.clone().acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Ends the connection that has been idle for the longest time.
    fn make_room(&self) {
        let table = self.table();
        let open = table.open.iter();
        let idle = open.filter(|(_, (_, end))| !end.is_cancelled());
        let idle =
            idle.filter_map(|(id, (connection, _))| Some((*id, connection.state().idle_since()?)));
        if let Some(id) = connection::gives_way(clock::now(), idle) {
            self.end(&table, id, Overdue::Idle);
        }
    }

    /// Ends what is overdue.
    fn look(&self) {
        let are_waiting = self.waiting.load(Ordering::Relaxed) > 0;
        let is_short = are_waiting || self.intake.is_short();
        let now = clock::now();
        let table = self.table();
        for (id, (connection, end)) in &table.open {
            if let Some(why) = connection.state().overdue(now, is_short)
                && !end.is_cancelled()
            {
                self.end(&table, *id, why);
            }
        }
        drop(table);
        if are_waiting {
            self.make_room();
        }
    }

    fn end(&self, table: &Table, id: u64, why: Overdue) {
        if let Some((_, end)) = table.open.get(&id) {
            end.cancel();
            self.intake.metrics.closed(self.listener, why);
        }
    }
}

impl Place {
    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
    }
}

impl Observer for Place {
    fn read(&mut self, framing: &Framing, has_both: bool) {
        if has_both {
            self.connections
                .intake
                .metrics
                .refused(Refusal::both_lengths);
        }
        let has_ended = std::mem::replace(&mut self.heads, framing.heads()) != framing.heads();
        if has_ended || framing.is_in_head() {
            let (now, mut state) = (clock::now(), self.connection.state());
            if has_ended {
                state.head_ended(now);
            }
            if framing.is_in_head() {
                state.head_began(now);
            }
        }
    }

    fn wrote(&mut self, bytes: usize, offered: usize) {
        let mut state = self.connection.state();
        state.wrote(clock::now(), bytes, bytes == offered);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        table.open.remove(&self.id);
        let open = table.open.len();
        self.connections
            .intake
            .metrics
            .open(self.connections.listener, open);
    }
}
