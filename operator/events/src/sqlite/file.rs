//! The file of the queue: its table, and what each operation does to it.
//!
//! Between [`EventFile::begin`] and [`EventFile::commit`] everything belongs to one transaction. If that fails, the memory of
//! taken events is as it was before. It never answers anybody itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::FunctionKey;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::event::{EventHead, QueuedEvent};
use crate::queue::{FunctionEvents, QueueError, Settled, Taken, Ticket};

/// The version of the tables.
const FORMAT: i64 = 1;
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
            if format == 0 {
                connection.execute_batch(&format!(
                    "begin immediate; {TABLES} pragma user_version={FORMAT}; commit;"
                ))?;
            }
            let sum = "select coalesce(sum(size), 0) from events";
            let bytes: i64 = connection.query_row(sum, [], |row| row.get(0))?;
            Ok((connection, format, bytes))
        };
        let (connection, format, bytes) = opened().map_err(unavailable)?;
        if ![0, FORMAT].contains(&format) {
            return Err(QueueError::Unavailable(format!(
                "it has format {format}, which this version does not know"
            )));
        }
        let memory = Memory {
            bytes: bytes.unsigned_abs(),
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

    pub(super) fn insert(&mut self, event: &QueuedEvent) -> Result<(), QueueError> {
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

    pub(super) fn settle(&mut self, ticket: Ticket, settled: Settled) -> Result<(), QueueError> {
        let id = i64::try_from(ticket.0).unwrap_or(i64::MAX);
        match settled {
            Settled::Gone => self.delete(id)?,
            _ if self.memory.purged.contains(&id) => self.delete(id)?,
            Settled::Untried => {}
            Settled::Again { progress, due } => {
                let head = self
                    .connection
                    .prepare_cached("select head from events where id = ?1")
                    .and_then(|mut select| select.query_row([id], |row| row.get::<_, String>(0)))
                    .optional()
                    .map_err(unavailable)?;
                let head = head.and_then(|head| serde_json::from_str::<EventHead>(&head).ok());
                if let Some(mut head) = head {
                    head.progress = progress;
                    let head = serde_json::to_string(&head).expect("a head is plain data");
                    self.connection
                        .prepare_cached("update events set head = ?2, due = ?3 where id = ?1")
                        .and_then(|mut update| update.execute(params![id, head, integer(due)]))
                        .map_err(unavailable)?;
                }
            }
        }
        self.memory.taken.remove(&id);
        self.memory.purged.remove(&id);
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
        let size = self
            .connection
            .prepare_cached("delete from events where id = ?1 returning size")
            .and_then(|mut delete| delete.query_row([id], |row| row.get::<_, i64>(0)))
            .optional()
            .map_err(unavailable)?;
        let size = size.map_or(0, i64::unsigned_abs);
        self.memory.bytes = self.memory.bytes.saturating_sub(size);
        Ok(())
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

fn integer(time: EventTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn unavailable(error: rusqlite::Error) -> QueueError {
    QueueError::Unavailable(error.to_string())
}
