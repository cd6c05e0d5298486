//! The one writer of a folder of logs: which file a record belongs to, when a new one begins, and which ones go.
//!
//! It keeps few files open. It never reads records for anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pilotlight_core::ids::FunctionKey;

use super::fault::Fault;
use super::folder::{Folder, Sized};
use super::limits::FileLimits;
use super::window::Window;
use crate::entry::Entry;
use crate::store::StoreError;

/// A file has the records of at most one day, in microseconds.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// A folder has about this many files when it is full, so that little goes at once.
const PARTS: u64 = 16;
/// The sizes at which a new file begins, whatever the limit of the folder says, in bytes.
const PART_MIN: u64 = 256 * 1024;
const PART_MAX: u64 = 64 * 1024 * 1024;
/// How many records are written in one transaction.
const TRANSACTION: usize = 2000;
/// How many files are open.
const OPEN: usize = 32;
/// At the latest after this time a write looks for files that have become too old.
const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug)]
pub(super) struct Writer {
    folder: Folder,
    limits: FileLimits,
    /// The starts of the files of the functions that were written to.
    starts: HashMap<FunctionKey, BTreeSet<i64>>,
    /// The one that was used last is at the end.
    open: Vec<Open>,
    swept: Timestamp,
    /// What was written since then, roughly, in bytes.
    unswept: u64,
}

#[derive(Debug)]
struct Open {
    function: FunctionKey,
    start: i64,
    /// The time of the newest record.
    last: Option<i64>,
    window: Window,
}

impl Writer {
    pub(super) fn new(folder: Folder, limits: FileLimits) -> Result<Self, StoreError> {
        let mut writer = Writer {
            folder,
            limits,
            starts: HashMap::new(),
            open: Vec::new(),
            swept: (limits.clock)(),
            unswept: 0,
        };
        writer.sweep()?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, records: &[Arc<Entry>]) -> Result<(), StoreError> {
        let mut by_function: BTreeMap<FunctionKey, Vec<&Entry>> = BTreeMap::new();
        for record in records {
            by_function.entry(record.key()).or_default().push(record);
        }
        for (function, mut records) in by_function {
            // A stable order keeps the sequence of an instance.
            records.sort_by_key(|record| record.time);
            self.write_sorted(&function, &records)?;
        }
        let size = |record: &Arc<Entry>| record.size() as u64;
        self.unswept += records.iter().map(size).sum::<u64>();
        let age = (self.limits.clock)().duration_since(self.swept);
        if self.unswept >= self.part() / 2 || age.abs() >= SWEEP_INTERVAL {
            self.sweep()?;
        }
        Ok(())
    }

    fn write_sorted(
        &mut self,
        function: &FunctionKey,
        mut records: &[&Entry],
    ) -> Result<(), StoreError> {
        let mut is_new = false;
        let part = self.part();
        while let Some(first) = records.first() {
            let time = first.time.as_microsecond();
            let start = self.place(function, time)?;
            let next = self.next(function, start)?;
            let end = next.unwrap_or(i64::MAX).min(day(start).saturating_add(DAY));
            let opened = self.open(function, start);
            let opened = match opened {
                Ok(opened) => opened,
                Err(fault) => {
                    self.recover(function, start, fault, &mut is_new)?;
                    continue;
                }
            };
            let last = opened.last.unwrap_or(i64::MIN);
            // Those that the file has already, or that are older than its newest record, belong there in any case.
            let belongs =
                |record: &&&Entry| record.time.as_microsecond() < end.max(last.saturating_add(1));
            // One transaction brings no more than a part: else a writer that is behind would make files so large that
            // the folder keeps one or none.
            let mut bytes = 0;
            let is_part = |record: &&&Entry| {
                bytes += record.size() as u64;
                bytes <= part
            };
            let fit = records.iter().take(TRANSACTION).take_while(belongs);
            let fit = fit.take_while(is_part).count();
            let (chunk, rest) = records.split_at(fit.max(1));
            match opened.window.write(chunk) {
                Ok(()) => {
                    let newest = chunk.last().map(|record| record.time.as_microsecond());
                    opened.last = opened.last.max(newest);
                    records = rest;
                    is_new = false;
                }
                Err(fault) => self.recover(function, start, fault, &mut is_new)?,
            }
        }
        Ok(())
    }

    /// Sets a damaged file aside, so that a new one begins, once. Fails for any other reason.
    fn recover(
        &mut self,
        function: &FunctionKey,
        start: i64,
        fault: Fault,
        is_new: &mut bool,
    ) -> Result<(), StoreError> {
        match fault {
            Fault::Damaged(why) if !*is_new => {
                self.set_aside(function, start, &why)?;
                *is_new = true;
                Ok(())
            }
            fault => Err(fault.of(&self.folder.path(function, start))),
        }
    }

    pub(super) fn set_aside(
        &mut self,
        function: &FunctionKey,
        start: i64,
        why: &str,
    ) -> Result<(), StoreError> {
        self.close(function, start);
        let aside = self
            .folder
            .set_aside(function, start)
            .map_err(unavailable)?;
        if let Some(starts) = self.starts.get_mut(function) {
            starts.remove(&start);
        }
        tracing::warn!(
            file = %aside.display(),
            why,
            "a file of logs is damaged and was set aside; its records are lost to readers"
        );
        Ok(())
    }

    /// The start of the file that a record of this time belongs to.
    fn place(&mut self, function: &FunctionKey, time: i64) -> Result<i64, StoreError> {
        let starts = self.starts(function)?;
        let Some(&start) = starts.range(..=time).next_back() else {
            // It must not reach into the day of a later file, and the first file has its whole day.
            let start = day(time);
            starts.insert(start);
            return Ok(start);
        };
        // A damaged file is replaced when it is written to.
        let last = match self.open(function, start) {
            Ok(opened) => opened.last,
            Err(_) => return Ok(start),
        };
        let is_full = self.folder.bytes(function, start) >= self.part();
        let begins_new = last.is_some_and(|last| time > last)
            && (is_full || time >= day(start).saturating_add(DAY));
        if !begins_new {
            return Ok(start);
        }
        // Nothing will come that makes the file's index complete.
        if let Ok(opened) = self.open(function, start)
            && let Err(fault) = opened.window.index()
        {
            let path = self.folder.path(function, start);
            return Err(fault.of(&path));
        }
        // The journal goes with the connection. It is as large as the file, and would count as long as that is open.
        self.close(function, start);
        let new = match is_full && time < day(start).saturating_add(DAY) {
            true => time,
            false => day(time),
        };
        self.starts(function)?.insert(new);
        Ok(new)
    }

    fn next(&mut self, function: &FunctionKey, start: i64) -> Result<Option<i64>, StoreError> {
        let starts = self.starts(function)?;
        Ok(starts.range((Excluded(start), Unbounded)).next().copied())
    }

    fn starts(&mut self, function: &FunctionKey) -> Result<&mut BTreeSet<i64>, StoreError> {
        if !self.starts.contains_key(function) {
            self.folder.make(function).map_err(unavailable)?;
            let starts = self.folder.starts(function).map_err(unavailable)?;
            self.starts.insert(function.clone(), starts);
        }
        Ok(self.starts.entry(function.clone()).or_default())
    }

    fn open(&mut self, function: &FunctionKey, start: i64) -> Result<&mut Open, Fault> {
        let is_it = |open: &Open| open.start == start && open.function == *function;
        let opened = match self.open.iter().position(is_it) {
            Some(at) => self.open.remove(at),
            None => {
                let window = Window::create(&self.folder.path(function, start))?;
                let span = window.span()?;
                if self.open.len() >= OPEN {
                    self.open.remove(0);
                }
                Open {
                    function: function.clone(),
                    start,
                    last: span.map(|(_, last)| last),
                    window,
                }
            }
        };
        self.open.push(opened);
        Ok(self.open.last_mut().expect("one was pushed"))
    }

    fn close(&mut self, function: &FunctionKey, start: i64) {
        self.open
            .retain(|open| open.start != start || open.function != *function);
    }

    fn remove(&mut self, function: &FunctionKey, start: i64) -> Result<(), StoreError> {
        self.close(function, start);
        self.folder.remove(function, start).map_err(unavailable)?;
        if let Some(starts) = self.starts.get_mut(function) {
            starts.remove(&start);
        }
        Ok(())
    }

    /// How large a file becomes before the next one begins, in bytes.
    fn part(&self) -> u64 {
        (self.limits.bytes / PARTS).clamp(PART_MIN, PART_MAX)
    }

    /// Removes what is too old, and then the oldest files until the others fit.
    fn sweep(&mut self) -> Result<(), StoreError> {
        let now = (self.limits.clock)();
        (self.swept, self.unswept) = (now, 0);
        let mut files: Vec<Sized> = Vec::new();
        for function in self.folder.functions().map_err(unavailable)? {
            let retention = self.folder.retention(&function);
            let retention = retention.unwrap_or(self.limits.retention);
            let oldest = oldest(now, retention);
            let mut sizes = self.folder.sizes(&function).map_err(unavailable)?;
            sizes.sort_unstable();
            for at in 0..sizes.len() {
                let file = &sizes[at];
                let end = sizes.get(at + 1).map(|next| next.start);
                match self.is_older(file, end, oldest) {
                    true => self.remove(&function, file.start)?,
                    false => files.push(file.clone()),
                }
            }
        }
        files.sort_unstable();
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if bytes <= self.limits.bytes {
                break;
            }
            self.remove(&file.function, file.start)?;
            bytes -= file.bytes;
        }
        Ok(())
    }

    /// Whether all records of a file are from before `oldest`.
    fn is_older(&mut self, file: &Sized, end: Option<i64>, oldest: i64) -> bool {
        if file.start >= oldest {
            return false;
        }
        if end.is_some_and(|end| end <= oldest) {
            return true;
        }
        // The file may have records up to the end of its day, or up to the next one. One that cannot be read goes when
        // its day has passed.
        match self.open(&file.function, file.start) {
            Ok(opened) => opened.last.is_none_or(|last| last < oldest),
            Err(_) => day(file.start).saturating_add(DAY) <= oldest,
        }
    }

    pub(super) fn delete(&mut self, function: &FunctionKey) -> Result<(), StoreError> {
        for file in self.folder.sizes(function).map_err(unavailable)? {
            self.remove(function, file.start)?;
        }
        Ok(())
    }

    pub(super) fn set_retention(
        &mut self,
        function: &FunctionKey,
        retention: Option<SignedDuration>,
    ) -> Result<(), StoreError> {
        let set = self.folder.set_retention(function, retention);
        set.map_err(unavailable)?;
        self.sweep()
    }
}

/// The first time that is still kept, in microseconds.
pub(super) fn oldest(now: Timestamp, retention: SignedDuration) -> i64 {
    let oldest = now.checked_sub(retention).unwrap_or(Timestamp::MIN);
    oldest.as_microsecond()
}

/// The begin of the day, in UTC.
fn day(time: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(DAY))
}

pub(super) fn unavailable(error: io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
