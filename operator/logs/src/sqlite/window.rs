//! One file of a function's log: its tables, what is written to it, and what a page reads from it.
//!
//! A file has the records of one range of time (`folder` says which). SQL only preselects records: the index over the texts
//! says which ones may contain a text, and [`Query::admits`] decides. The index is made for many records at once, and the
//! ones after them are read. It never opens a second file.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pilotlight_core::ids::{FunctionKey, Qualifier};
use pilotlight_wire::log_record::LogSource;
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OpenFlags, Params, Row, params};

use super::fault::Fault;
use crate::entry::{Entry, Position};
use crate::level::Level;
use crate::query::{Order, Query, Selection};
use crate::store::InstanceLog;

/// How long a statement waits for another program that has locked the file.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
/// What the journal of a file keeps on the disk after it was merged, in bytes.
const JOURNAL_BYTES: u32 = 4 * 1024 * 1024;
/// The version of the tables. A file with another one is damaged, as far as this version is concerned.
const FORMAT: i64 = 2;
/// The version in which all texts are in the index, and no table says how many. It can be read, and a writer brings it to
/// the present one.
const ALL_INDEXED: i64 = 1;
/// So many records get into the index over texts together. This takes a third of the time that it takes for each batch,
/// and as many records are read soon enough.
const INDEXED_TOGETHER: i64 = if cfg!(test) { 100 } else { 60_000 };
/// The shortest text that the index over texts can find, in characters.
const TRIGRAM: usize = 3;
/// How many trigrams of a text are looked up. They only preselect, so the first ones are enough.
const TRIGRAMS: usize = 16;
/// If more records than this may contain the text, they are read in the order of time instead, until the page is full.
const FEW: i64 = 10_000;

/// The records of one time and one instance follow each other in `by_time`, which also refuses what comes twice. `severe`
/// finds the few records of level WARN and above among many.
///
/// `words` has no copy of the texts and no places of the words in them, which makes it a third as large. It has the records
/// whose ids are at most that in `indexed`.
const TABLES: &str = "
    create table instances(id integer primary key, name text not null unique, qualifier text not null);
    create table requests(id integer primary key, name text not null unique);
    create table records(
        id integer primary key,
        time integer not null,
        instance integer not null,
        sequence integer not null,
        source integer not null,
        level integer,
        request integer,
        text text not null
    );
    create unique index by_time on records(time, instance, sequence);
    create index by_request on records(request) where request is not null;
    create index severe on records(time) where level >= 3;
    create virtual table words using fts5(
        text, content='', detail=none, columnsize=0, tokenize=\"trigram case_sensitive 1\"
    );
    create table indexed(last integer not null);
    insert into indexed values(0);
";
const COUNT_INDEXED: &str = "
    create table indexed(last integer not null);
    insert into indexed select coalesce(max(id), 0) from records;
";
const COLUMNS: &str = "r.time, i.name, i.qualifier, r.sequence, r.source, r.level, q.name, r.text";

/// How much one page may read.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Budget {
    fn spend(&mut self, record: &Entry) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(record.size());
    }

    pub(super) fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Window {
    connection: Connection,
    /// Whether all texts are in the index ([`ALL_INDEXED`]).
    all_indexed: bool,
}

impl Window {
    /// Opens the file to write to it, and makes it if there is none.
    pub(super) fn create(path: &Path) -> Result<Self, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_LIMIT)?;
        // A commit is in the file's cache when it returns, so it survives this process. Only the end of the machine can
        // take the last commits with it, and never damages the file.
        connection.execute_batch(&format!(
            "pragma journal_mode=wal; pragma synchronous=normal; \
             pragma journal_size_limit={JOURNAL_BYTES}; pragma trusted_schema=off;"
        ))?;
        let transaction = connection.transaction()?;
        let format: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match format {
            0 => transaction.execute_batch(TABLES)?,
            ALL_INDEXED => transaction.execute_batch(COUNT_INDEXED)?,
            FORMAT => {}
            other => return Err(Fault::format(other)),
        }
        if format != FORMAT {
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        transaction.commit()?;
        Ok(Window {
            connection,
            all_indexed: false,
        })
    }

    /// Opens the file to read it. `None`: it is gone.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Fault> {
        // The journal of a writer that was killed is merged at the first read, which writes.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(path, flags) {
            Err(_) if !path.exists() => return Ok(None),
            opened => opened?,
        };
        connection.busy_timeout(BUSY_LIMIT)?;
        connection.execute_batch("pragma query_only=on; pragma trusted_schema=off;")?;
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match format {
            // Its writer was killed before the first commit.
            0 => Ok(None),
            ALL_INDEXED | FORMAT => Ok(Some(Window {
                connection,
                all_indexed: format == ALL_INDEXED,
            })),
            other => Err(Fault::format(other)),
        }
    }

    /// Stores the records in one transaction. Those that are there already stay as they are.
    pub(super) fn write(&mut self, records: &[&Entry]) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        let last = {
            let mut instances = Names::new(
                &transaction,
                "insert into instances(name, qualifier) values(?1, ?2) on conflict do nothing",
                "select id from instances where name = ?1",
            )?;
            let mut requests = Names::new(
                &transaction,
                "insert into requests(name) values(?1) on conflict do nothing",
                "select id from requests where name = ?1",
            )?;
            let mut add = transaction.prepare_cached(
                "insert into records(time, instance, sequence, source, level, request, text) \
                 values(?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict do nothing",
            )?;
            for record in records {
                let qualifier = record.qualifier.as_str();
                let instance =
                    instances.id(&record.instance, params![record.instance, qualifier])?;
                let request = match &record.request_id {
                    Some(id) => Some(requests.id(id, params![id])?),
                    None => None,
                };
                add.execute(params![
                    record.time.as_microsecond(),
                    instance,
                    // Numbers beyond half of the range become negative, and come back as they were.
                    record.sequence.cast_signed(),
                    record.source as i64,
                    record.level.map(|level| level as i64),
                    request,
                    record.text,
                ])?;
            }
            // No record is ever removed, so ids have no gaps.
            let last = "select coalesce(max(id), 0) from records";
            transaction
                .prepare_cached(last)?
                .query_row([], |row| row.get::<_, i64>(0))?
        };
        transaction.commit()?;
        if last - self.indexed()? >= INDEXED_TOGETHER {
            self.index()?;
        }
        Ok(())
    }

    /// The id of the last record whose text is in the index.
    fn indexed(&self) -> Result<i64, Fault> {
        let mut select = self.connection.prepare_cached("select last from indexed")?;
        Ok(select.query_row([], |row| row.get(0))?)
    }

    /// Brings the texts of all records into the index.
    pub(super) fn index(&mut self) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(
            "insert into words(rowid, text) \
                 select id, text from records where id > (select last from indexed); \
             update indexed set last = (select coalesce(max(id), 0) from records);",
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// The times of the oldest and the newest record, in microseconds.
    pub(super) fn span(&self) -> Result<Option<(i64, i64)>, Fault> {
        let read = |row: &Row<'_>| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?));
        Ok(self.connection.query_row(
            "select (select min(time) from records), (select max(time) from records)",
            [],
            read,
        )?)
    }

    /// Adds what the file has of the page to `found`, up to one record more than the page's limit. Returns the position
    /// of the last record that was read.
    pub(super) fn read(
        &self,
        query: &Query,
        budget: &mut Budget,
        found: &mut Vec<Entry>,
    ) -> Result<Option<Position>, Fault> {
        let (sql, values) = self.statement(query)?;
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let mut last = None;
        while !budget.is_spent()
            && found.len() <= query.limit
            && let Some(row) = rows.next()?
        {
            let record = entry(&query.function, row)?;
            budget.spend(&record);
            last = Some(record.position());
            if query.admits(&record) {
                found.push(record);
            }
        }
        Ok(last)
    }

    /// The statement that reads all records of the page, and perhaps others.
    fn statement(&self, query: &Query) -> Result<(String, Vec<Value>), Fault> {
        let Selection {
            instance,
            request_id,
            source,
            since,
            until,
            level,
            contains,
            ..
        } = &query.selection;
        let mut values = Vec::new();
        let mut value = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        let mut conditions = Vec::new();
        let records = match (request_id, level, words(contains)) {
            (Some(id), _, _) => {
                let id = value(Value::Text(id.clone()));
                // `=` and not `is`, which finds nulls as well and so uses no index without them.
                let wanted = format!("r.request = (select id from requests where name = {id})");
                conditions.push(wanted);
                "records r".to_owned()
            }
            (None, _, Some(words)) if self.are_few(&words)? => {
                let words = value(Value::Text(words));
                let mut ids = format!("select rowid as id from words where words match {words}");
                if !self.all_indexed {
                    let found = contains.iter().map(|text| {
                        let text = value(Value::Text(text.clone()));
                        format!(" and instr(text, {text}) > 0")
                    });
                    let found = found.collect::<String>();
                    // One statement sees one state of the file, so no record is in both parts.
                    ids +=
                        " union all select id from records where id > (select last from indexed)";
                    ids += &found;
                }
                format!("({ids}) w cross join records r on r.id = w.id")
            }
            // The first condition is that of the index.
            (None, Some(level), _) if *level >= Level::Warn => {
                conditions.push("r.level >= 3".to_owned());
                "records r indexed by severe".to_owned()
            }
            _ => "records r indexed by by_time".to_owned(),
        };
        if let Some(level) = level {
            conditions.push(format!("r.level >= {}", *level as i64));
        }
        if let Some(source) = source {
            conditions.push(format!("r.source = {}", *source as i64));
        }
        if let Some(name) = instance {
            let name = value(Value::Text(name.clone()));
            conditions.push(format!(
                "r.instance = (select id from instances where name = {name})"
            ));
        }
        // Records have microseconds and conditions nanoseconds, so the bounds are rounded outwards.
        if let Some(since) = since {
            conditions.push(format!("r.time >= {}", since.as_microsecond() - 1));
        }
        if let Some(until) = until {
            conditions.push(format!("r.time <= {}", until.as_microsecond() + 1));
        }
        let (follows, direction) = match query.order {
            Order::OldestFirst => (">", "asc"),
            Order::NewestFirst => ("<", "desc"),
        };
        if let Some(after) = &query.after {
            let time = after.time.as_microsecond();
            let name = value(Value::Text(after.instance.clone()));
            let sequence = after.sequence.cast_signed();
            // The first condition is for the index.
            conditions.push(format!(
                "r.time {follows}= {time} \
                 and (r.time, i.name, r.sequence) {follows} ({time}, {name}, {sequence})"
            ));
        }
        let conditions = match conditions.is_empty() {
            true => String::new(),
            false => format!("where {}", conditions.join(" and ")),
        };
        let sql = format!(
            "select {COLUMNS} from {records} cross join instances i on i.id = r.instance \
             left join requests q on q.id = r.request {conditions} \
             order by r.time {direction}, i.name {direction}, r.sequence {direction}"
        );
        Ok((sql, values))
    }

    /// Whether the index says that few records have all of the words.
    fn are_few(&self, words: &str) -> Result<bool, Fault> {
        let count: i64 = self.connection.query_row(
            "select count(*) from (select 1 from words where words match ?1 limit ?2)",
            params![words, FEW + 1],
            |row| row.get(0),
        )?;
        Ok(count <= FEW)
    }

    /// The instances that have records in the file.
    pub(super) fn instances(&self) -> Result<Vec<InstanceLog>, Fault> {
        let mut statement = self.connection.prepare(
            "select i.name, i.qualifier, min(r.time), max(r.time) \
             from records r indexed by by_time cross join instances i on i.id = r.instance \
             group by r.instance",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })?;
        rows.map(|row| {
            let (instance, qualifier, first, last) = row?;
            Ok(InstanceLog {
                instance,
                qualifier: self::qualifier(&qualifier)?,
                first: time(first)?,
                last: time(last)?,
            })
        })
        .collect()
    }
}

/// The ids of names in a table, for one batch: the records of one call have the same names, and mostly come together.
struct Names<'a> {
    known: HashMap<String, i64>,
    /// The one that was asked for last.
    last: Option<(String, i64)>,
    add: CachedStatement<'a>,
    select: CachedStatement<'a>,
}

impl<'a> Names<'a> {
    fn new(connection: &'a Connection, add: &str, select: &str) -> rusqlite::Result<Self> {
        Ok(Names {
            known: HashMap::new(),
            last: None,
            add: connection.prepare_cached(add)?,
            select: connection.prepare_cached(select)?,
        })
    }

    /// `row`: what is added if the table does not have the name.
    fn id(&mut self, name: &str, row: impl Params) -> rusqlite::Result<i64> {
        if let Some((last, id)) = &self.last
            && last == name
        {
            return Ok(*id);
        }
        let id = match self.known.get(name) {
            Some(id) => *id,
            None => {
                // Most calls are new, and all their records come together.
                let id = match self.add.insert(row) {
                    Err(rusqlite::Error::StatementChangedRows(0)) => {
                        self.select.query_row([name], |row| row.get(0))?
                    }
                    added => added?,
                };
                self.known.insert(name.to_owned(), id);
                id
            }
        };
        self.last = Some((name.to_owned(), id));
        Ok(id)
    }
}

/// What the index over texts is asked for. `None`: it knows nothing about such texts.
fn words(contains: &[String]) -> Option<String> {
    let mut words = Vec::new();
    for text in contains {
        // The index leaves out NUL characters.
        let characters: Vec<char> = text.chars().filter(|c| *c != '\0').collect();
        let trigrams = characters.windows(TRIGRAM).take(TRIGRAMS);
        words.extend(trigrams.map(|trigram| {
            let trigram: String = trigram.iter().collect();
            format!("\"{}\"", trigram.replace('"', "\"\""))
        }));
    }
    (!words.is_empty()).then(|| words.join(" "))
}

fn entry(function: &FunctionKey, row: &Row<'_>) -> Result<Entry, Fault> {
    let source = match row.get::<_, i64>(4)? {
        0 => LogSource::Stdout,
        1 => LogSource::Stderr,
        _ => LogSource::Platform,
    };
    let level = row.get::<_, Option<u16>>(5)?;
    Ok(Entry {
        time: time(row.get(0)?)?,
        namespace: function.namespace.clone(),
        function: function.name.clone(),
        qualifier: qualifier(row.get_ref(2)?.as_str().unwrap_or_default())?,
        instance: row.get(1)?,
        sequence: row.get::<_, i64>(3)?.cast_unsigned(),
        source,
        level: level.and_then(|level| Level::ALL.get(usize::from(level)).copied()),
        request_id: row.get(6)?,
        text: row.get(7)?,
    })
}

fn time(micros: i64) -> Result<Timestamp, Fault> {
    let time = Timestamp::from_microsecond(micros);
    time.map_err(|_| Fault::Damaged(format!("{micros} is no time")))
}

fn qualifier(text: &str) -> Result<Qualifier, Fault> {
    let qualifier = text.parse();
    qualifier.map_err(|_| Fault::Damaged(format!("`{text}` is no qualifier")))
}
