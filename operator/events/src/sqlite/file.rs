//! The file of the queue: its table, and what each operation does to it.
//!
//! Between [`EventFile::begin`] and [`EventFile::commit`] everything belongs to one transaction. If that fails, the memory of
//! taken events is as it was before. It never answers anybody itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::FunctionKey;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::event::{EventHead, EventOutcome, QueuedEvent};
use crate::queue::{
    DEAD_LETTER_AGE, DEAD_LETTER_PART, DUPLICATE_WINDOW, DeadLetters, FunctionEvents, QueueError,
    Settled, Taken, Ticket,
};

/// The version of the tables.
const FORMAT: i64 = 2;
/// Events whose head this version cannot read are set aside in a table of their own, and nothing is lost.
const TABLES: &str = "
    create table events(
        id integer primary key autoincrement,
        function text not null,
        due integer not null,
        accepted integer not null,
        size integer not null,
        head text not null,
        payload blob not null
    );
    create index by_due on events(function, due, id);
    create table unreadable(id integer primary key, head text not null, payload blob not null);
";
/// Since format 2.
const DEAD_TABLES: &str = "
    create table dead(
        id integer primary key autoincrement,
        function text not null,
        ended integer not null,
        size integer not null,
        head text not null,
        payload blob not null
    );
    create index dead_of on dead(function, id);
";

/// Tables that earlier versions have not made, and do without.
const LATER_TABLES: &str = "
    create table if not exists accepted(request_id text primary key, at integer not null) without rowid;
    create index if not exists by_acceptance on accepted(at);
    create table if not exists schedules(id text primary key, record text not null) without rowid;
";

/// See the module.
#[derive(Debug)]
pub(super) struct EventFile {
    connection: Connection,
    limit: u64,
    memory: Memory,
    /// What it was at the begin of the transaction.
    before: Memory,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    /// What all events take.
    bytes: u64,
    /// What all dead letters take.
    dead_bytes: u64,
    /// The events that somebody has, each with its function.
    taken: BTreeMap<i64, FunctionKey>,
    /// Those of them that were purged meanwhile, and are not tried again.
    purged: BTreeSet<i64>,
}

impl EventFile {
    pub(super) fn open(path: &Path, limit: u64) -> Result<Self, QueueError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch(
                "pragma journal_mode=wal; pragma synchronous=full; pragma trusted_schema=off;",
            )?;
            let format: i64 =
                connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let tables = match format {
                0 => Some(format!("{TABLES} {DEAD_TABLES}")),
                1 => Some(DEAD_TABLES.to_owned()),
                _ => None,
            };
            if let Some(tables) = tables {
                connection.execute_batch(&format!(
                    "begin immediate; {tables} pragma user_version={FORMAT}; commit;"
                ))?;
            }
            connection.execute_batch(&format!("begin immediate; {LATER_TABLES} commit;"))?;
            Ok((connection, format))
        };
        let (connection, format) = opened().map_err(unavailable)?;
        if !(0..=FORMAT).contains(&format) {
            return Err(QueueError::Unavailable(format!(
                "it has format {format}, which this version does not know"
            )));
        }
        let sum = |table: &str| {
            let sum = format!("select coalesce(sum(size), 0) from {table}");
            let bytes: i64 = connection.query_row(&sum, [], |row| row.get(0))?;
            Ok(bytes.unsigned_abs())
        };
        let memory = Memory {
            bytes: sum("events").map_err(unavailable)?,
            dead_bytes: sum("dead").map_err(unavailable)?,
            ..Memory::default()
        };
        Ok(EventFile {
            connection,
            limit,
            before: memory.clone(),
            memory,
        })
    }

    pub(super) fn begin(&mut self) -> Result<(), QueueError> {
        self.before.clone_from(&self.memory);
        let began = self.connection.execute_batch("begin immediate");
        began.map_err(unavailable)
    }

    pub(super) fn commit(&mut self) -> Result<(), QueueError> {
        let committed = self.connection.execute_batch("commit");
        committed.map_err(|error| {
            self.memory.clone_from(&self.before);
            // SQLite may have ended the transaction itself.
            let _ = self.connection.execute_batch("rollback");
            unavailable(error)
        })
    }

    /// Inserts the event, unless it was accepted before.
    pub(super) fn accept(&mut self, event: &QueuedEvent) -> Result<(), QueueError> {
        if self.is_known(event)? {
            return Ok(());
        }
        self.insert(event)?;
        let accepted = integer(event.head.progress.accepted);
        self.connection
            .prepare_cached("insert into accepted(request_id, at) values(?1, ?2)")
            .and_then(|mut insert| insert.execute(params![event.head.request_id, accepted]))
            .map_err(unavailable)?;
        Ok(())
    }

    fn insert(&mut self, event: &QueuedEvent) -> Result<(), QueueError> {
        let size = event.size() as u64;
        if self.memory.bytes + size > self.limit {
            let Memory { bytes, .. } = self.memory;
            let limit = self.limit;
            return Err(QueueError::Full(format!(
                "its events have {bytes} of {limit} bytes, and this one has {size}"
            )));
        }
        let head = serde_json::to_string(&event.head).expect("a head is plain data");
        let accepted = integer(event.head.progress.accepted);
        let mut insert = self
            .connection
            .prepare_cached(
                "insert into events(function, due, accepted, size, head, payload) values(?1, ?2, ?2, ?3, ?4, ?5)",
            )
            .map_err(unavailable)?;
        let function = event.head.target.function.to_string();
        insert
            .execute(params![
                function,
                accepted,
                size as i64,
                head,
                &*event.payload
            ])
            .map_err(unavailable)?;
        self.memory.bytes += size;
        Ok(())
    }

    /// Whether the event was accepted before. Forgets those of long ago.
    fn is_known(&self, event: &QueuedEvent) -> Result<bool, QueueError> {
        let EventTime(accepted) = event.head.progress.accepted;
        let window = DUPLICATE_WINDOW.as_millis() as u64;
        let old = integer(EventTime(accepted.saturating_sub(window)));
        self.connection
            .prepare_cached("delete from accepted where at < ?1")
            .and_then(|mut delete| delete.execute([old]))
            .map_err(unavailable)?;
        self.connection
            .prepare_cached("select 1 from accepted where request_id = ?1")
            .and_then(|mut select| select.exists([&event.head.request_id]))
            .map_err(unavailable)
    }

    pub(super) fn take(
        &mut self,
        function: &FunctionKey,
        now: EventTime,
        count: usize,
    ) -> Result<Taken, QueueError> {
        let mut taken = Taken::default();
        for (id, _) in self.free(function, Some(now), count)? {
            let row = self
                .connection
                .prepare_cached("select head, payload from events where id = ?1")
                .and_then(|mut select| {
                    select.query_row([id], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
                    })
                });
            let (head, payload) = row.map_err(unavailable)?;
            let Ok(head) = serde_json::from_str::<EventHead>(&head) else {
                self.set_aside(id)?;
                continue;
            };
            self.memory.taken.insert(id, function.clone());
            let payload = Bytes::from(payload);
            taken
                .events
                .push((Ticket(id.unsigned_abs()), QueuedEvent { head, payload }));
        }
        taken.due = self.due(function)?;
        Ok(taken)
    }

    pub(super) fn end(
        &mut self,
        ticket: Ticket,
        progress: Progress,
        outcome: EventOutcome,
    ) -> Result<(), QueueError> {
        let id = row_id(ticket);
        self.change(id, |head| {
            (head.progress, head.outcome) = (progress, Some(outcome));
        })
    }

    pub(super) fn settle(&mut self, ticket: Ticket, settled: Settled) -> Result<(), QueueError> {
        let id = row_id(ticket);
        match settled {
            Settled::Gone => self.delete(id)?,
            _ if self.memory.purged.contains(&id) => self.delete(id)?,
            Settled::Dead(outcome) => {
                let at = outcome.at;
                self.change(id, |head| head.outcome = Some(outcome))?;
                self.bury(id, at)?;
            }
            Settled::Untried => {}
            Settled::Again { progress, due } => {
                self.change(id, |head| head.progress = progress)?;
                self.connection
                    .prepare_cached("update events set due = ?2 where id = ?1")
                    .and_then(|mut update| update.execute(params![id, integer(due)]))
                    .map_err(unavailable)?;
            }
        }
        self.memory.taken.remove(&id);
        self.memory.purged.remove(&id);
        Ok(())
    }

    /// Changes the head of an event, if it is there, and its size by what the head says.
    fn change(&mut self, id: i64, change: impl FnOnce(&mut EventHead)) -> Result<(), QueueError> {
        let found = self
            .connection
            .prepare_cached("select head, size from events where id = ?1")
            .and_then(|mut select| {
                select.query_row([id], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })
            })
            .optional()
            .map_err(unavailable)?;
        let read = found.and_then(|(head, size)| {
            let head = serde_json::from_str::<EventHead>(&head).ok()?;
            Some((head, size.unsigned_abs()))
        });
        let Some((mut head, size)) = read else {
            return Ok(());
        };
        let before = head.size();
        change(&mut head);
        let changed = (size + head.size() as u64).saturating_sub(before as u64);
        let head = serde_json::to_string(&head).expect("a head is plain data");
        self.connection
            .prepare_cached("update events set head = ?2, size = ?3 where id = ?1")
            .and_then(|mut update| update.execute(params![id, head, changed as i64]))
            .map_err(unavailable)?;
        self.memory.bytes = (self.memory.bytes + changed).saturating_sub(size);
        Ok(())
    }

    /// Makes a dead letter of an event, and forgets those that are too old, or for which there is no room.
    fn bury(&mut self, id: i64, at: EventTime) -> Result<(), QueueError> {
        let size = self
            .connection
            .prepare_cached(
                "insert into dead(function, ended, size, head, payload)
                 select function, ?2, size, head, payload from events where id = ?1 returning size",
            )
            .and_then(|mut copy| {
                copy.query_row(params![id, integer(at)], |row| row.get::<_, i64>(0))
            })
            .optional()
            .map_err(unavailable)?;
        self.memory.dead_bytes += size.map_or(0, i64::unsigned_abs);
        self.delete(id)?;
        let age = DEAD_LETTER_AGE.as_millis() as u64;
        let oldest = EventTime(at.0.saturating_sub(age));
        while let Some((id, ended)) = self.first_dead()? {
            let has_room = self.memory.dead_bytes <= self.limit / DEAD_LETTER_PART;
            if has_room && ended >= oldest {
                break;
            }
            self.delete_dead(id)?;
        }
        Ok(())
    }

    /// The oldest dead letter.
    fn first_dead(&self) -> Result<Option<(i64, EventTime)>, QueueError> {
        let first = self
            .connection
            .prepare_cached("select id, ended from dead order by id limit 1")
            .and_then(|mut select| {
                select.query_row([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
            })
            .optional()
            .map_err(unavailable)?;
        Ok(first.map(|(id, ended)| (id, EventTime(ended.unsigned_abs()))))
    }

    pub(super) fn dead_letters(&self, function: &FunctionKey) -> Result<DeadLetters, QueueError> {
        let found = self
            .connection
            .prepare_cached("select count(*), min(ended) from dead where function = ?1")
            .and_then(|mut select| {
                select.query_row([function.to_string()], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
                })
            });
        let (count, oldest) = found.map_err(unavailable)?;
        Ok(DeadLetters {
            count: count.unsigned_abs(),
            oldest: oldest.map(|oldest| EventTime(oldest.unsigned_abs())),
        })
    }

    pub(super) fn replay(
        &mut self,
        function: &FunctionKey,
        now: EventTime,
    ) -> Result<u64, QueueError> {
        let mut replayed = 0;
        for id in self.dead_of(function)? {
            let row = self
                .connection
                .prepare_cached("select head, payload from dead where id = ?1")
                .and_then(|mut select| {
                    select.query_row([id], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
                    })
                });
            let (head, payload) = row.map_err(unavailable)?;
            // It stays: a later version may read it.
            let Ok(mut head) = serde_json::from_str::<EventHead>(&head) else {
                continue;
            };
            (head.progress, head.outcome) = (Progress::new(now), None);
            let payload = Bytes::from(payload);
            match self.insert(&QueuedEvent { head, payload }) {
                Err(QueueError::Full(_)) if replayed > 0 => break,
                inserted => inserted?,
            }
            self.delete_dead(id)?;
            replayed += 1;
        }
        Ok(replayed)
    }

    pub(super) fn purge_dead(&mut self, function: &FunctionKey) -> Result<u64, QueueError> {
        let all = self.dead_of(function)?;
        for id in &all {
            self.delete_dead(*id)?;
        }
        Ok(all.len() as u64)
    }

    /// The function's dead letters, the oldest first.
    fn dead_of(&self, function: &FunctionKey) -> Result<Vec<i64>, QueueError> {
        let mut select = self
            .connection
            .prepare_cached("select id from dead where function = ?1 order by id")
            .map_err(unavailable)?;
        let rows = select.query_map([function.to_string()], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(unavailable)
    }

    fn delete_dead(&mut self, id: i64) -> Result<(), QueueError> {
        let size = self.remove(id, "delete from dead where id = ?1 returning size")?;
        self.memory.dead_bytes = self.memory.dead_bytes.saturating_sub(size);
        Ok(())
    }

    pub(super) fn waiting(&mut self) -> Result<Vec<FunctionEvents>, QueueError> {
        let sums =
            "select function, count(*), sum(size), min(accepted) from events group by function";
        let mut rows = Vec::new();
        {
            let mut select = self.connection.prepare_cached(sums).map_err(unavailable)?;
            let read = select.query_map([], |row| {
                let function: String = row.get(0)?;
                let numbers: [i64; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
                Ok((function, numbers.map(i64::unsigned_abs)))
            });
            for row in read.map_err(unavailable)? {
                rows.push(row.map_err(unavailable)?);
            }
        }
        let mut waiting = Vec::with_capacity(rows.len());
        for (function, [count, bytes, oldest]) in rows {
            // This module has written it.
            let Ok(function) = function.parse::<FunctionKey>() else {
                continue;
            };
            waiting.push(FunctionEvents {
                due: self.due(&function)?,
                oldest: Some(EventTime(oldest)),
                count,
                bytes: Some(bytes),
                function,
            });
        }
        Ok(waiting)
    }

    pub(super) fn purge(&mut self, function: &FunctionKey) -> Result<u64, QueueError> {
        let free = self.free(function, None, usize::MAX)?;
        for (id, _) in &free {
            self.delete(*id)?;
        }
        let Memory { taken, purged, .. } = &mut self.memory;
        let of_it = taken.iter().filter(|(_, taken)| *taken == function);
        purged.extend(of_it.map(|(id, _)| *id));
        Ok(free.len() as u64)
    }

    /// Events of the function that nobody has, each with the time from which on it can be tried, in the order of their turns.
    /// `now`: only those that can be tried by then.
    fn free(
        &self,
        function: &FunctionKey,
        now: Option<EventTime>,
        count: usize,
    ) -> Result<Vec<(i64, EventTime)>, QueueError> {
        let due = now.map_or(i64::MAX, integer);
        let mut select = self
            .connection
            .prepare_cached(
                "select id, due from events where function = ?1 and due <= ?2 order by due, id",
            )
            .map_err(unavailable)?;
        let mut rows = select
            .query(params![function.to_string(), due])
            .map_err(unavailable)?;
        let mut free = Vec::new();
        while free.len() < count
            && let Some(row) = rows.next().map_err(unavailable)?
        {
            let id = row.get(0).map_err(unavailable)?;
            if !self.memory.taken.contains_key(&id) {
                let due: i64 = row.get(1).map_err(unavailable)?;
                free.push((id, EventTime(due.unsigned_abs())));
            }
        }
        Ok(free)
    }

    /// When the first event of the function that nobody has can be tried.
    fn due(&self, function: &FunctionKey) -> Result<Option<EventTime>, QueueError> {
        let first = self.free(function, None, 1)?.pop();
        Ok(first.map(|(_, due)| due))
    }

    fn delete(&mut self, id: i64) -> Result<(), QueueError> {
        let size = self.remove(id, "delete from events where id = ?1 returning size")?;
        self.memory.bytes = self.memory.bytes.saturating_sub(size);
        Ok(())
    }

    /// Removes a row, and returns its size: 0 if it is not there.
    fn remove(&self, id: i64, delete: &str) -> Result<u64, QueueError> {
        let size = self
            .connection
            .prepare_cached(delete)
            .and_then(|mut delete| delete.query_row([id], |row| row.get::<_, i64>(0)))
            .optional()
            .map_err(unavailable)?;
        Ok(size.map_or(0, i64::unsigned_abs))
    }

    /// What is stored about a schedule.
    #[cfg(feature = "schedule")]
    pub(super) fn schedule(&self, id: &str) -> Result<Option<String>, QueueError> {
        self.connection
            .prepare_cached("select record from schedules where id = ?1")
            .and_then(|mut select| select.query_row([id], |row| row.get(0)).optional())
            .map_err(unavailable)
    }

    /// `None`: nothing any more.
    #[cfg(feature = "schedule")]
    pub(super) fn set_schedule(&self, id: &str, record: Option<&str>) -> Result<(), QueueError> {
        let set = match record {
            Some(record) => self
                .connection
                .prepare_cached("insert or replace into schedules(id, record) values(?1, ?2)")
                .and_then(|mut set| set.execute([id, record])),
            None => self
                .connection
                .prepare_cached("delete from schedules where id = ?1")
                .and_then(|mut delete| delete.execute([id])),
        };
        set.map(drop).map_err(unavailable)
    }

    #[cfg(test)]
    pub(super) fn execute(&mut self, sql: &str) -> Result<usize, QueueError> {
        if sql.starts_with("pragma") {
            return self
                .connection
                .execute_batch(sql)
                .map(|()| 0)
                .map_err(unavailable);
        }
        self.connection.execute(sql, []).map_err(unavailable)
    }

    fn set_aside(&mut self, id: i64) -> Result<(), QueueError> {
        let copy = "insert into unreadable select id, head, payload from events where id = ?1";
        self.connection.execute(copy, [id]).map_err(unavailable)?;
        self.delete(id)
    }
}

fn row_id(ticket: Ticket) -> i64 {
    i64::try_from(ticket.0).unwrap_or(i64::MAX)
}

fn integer(time: EventTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn unavailable(error: rusqlite::Error) -> QueueError {
    QueueError::Unavailable(error.to_string())
}
