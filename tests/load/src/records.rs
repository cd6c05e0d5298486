//! Records in files. Each line is written at once; reading ignores an incomplete last line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::record::Record;

/// A file to which any task may append lines.
#[derive(Debug)]
pub struct RecordFile(File);

impl RecordFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(RecordFile(
            file.with_context(|| path.display().to_string())?,
        ))
    }

    pub fn write(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        (&self.0).write_all(&line)
    }
}

/// The records of a folder's `*.jsonl`.
pub fn read(folder: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut files = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    for path in files {
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if !line.is_empty() {
                let record = serde_json::from_slice(line);
                let place = || format!("{}:{}", path.display(), number + 1);
                records.push(record.with_context(place)?);
            }
        }
    }
    Ok(records)
}
