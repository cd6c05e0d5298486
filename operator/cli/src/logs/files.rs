//! The files of local mode, for `pilotlight logs` when no gateway runs.
//!
//! Reads beside a `pilotlight local` as well, and changes nothing. What that process has not written yet is not there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::parameters::Reading;
use pilotlight_logs::query::Order;
use pilotlight_logs::sqlite::SqliteStore;

use super::show::Shown;
use crate::local::NAMESPACE;

/// Whether there are files of a function.
pub(super) fn are_there(folder: &Path, function: &str) -> bool {
    folder.join(NAMESPACE).join(function).is_dir()
}

pub(super) fn print(
    folder: &Path,
    name: &str,
    parameters: &[(&'static str, String)],
    shown: &mut Shown,
) -> Result<()> {
    let function: FunctionKey = format!("{NAMESPACE}/{name}")
        .parse()
        .with_context(|| format!("`{name}` is not the name of a function"))?;
    ensure!(
        are_there(folder, name),
        "{} has no log of {name}: `pilotlight local` writes it in the directory in which it is started; pass --logs DIR",
        folder.display(),
    );
    let parameters = parameters
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    let mut reading = Reading::of(function, parameters)?;
    let store = SqliteStore::reader(folder);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.context("no runtime to read the files")?;
    let wanted = reading.query.limit;
    let mut records = Vec::new();
    loop {
        let page = runtime.block_on(reading.page(&store))?;
        reading.query.after = page.next;
        let is_last = reading.query.after.is_none();
        match reading.is_one_page {
            // A page of the store may have fewer, and be followed by others.
            true => records.extend(page.records),
            false => {
                for record in &page.records {
                    shown.print(record)?;
                }
            }
        }
        if is_last || reading.is_one_page && records.len() >= wanted {
            break;
        }
    }
    if reading.invocations.admits_all() {
        records.truncate(wanted);
    }
    if reading.query.order == Order::NewestFirst {
        records.reverse();
    }
    for record in &records {
        shown.print(record)?;
    }
    Ok(())
}
