//! A Markdown table that can be read on a terminal.
//!
//! The first columns hold names, aligned left; the others figures, aligned right. `report` fills it.

use std::fmt;

/// A heading and rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table {
    names: usize,
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// `names`: how many columns hold names.
    pub(crate) fn new<const COLUMNS: usize>(names: usize, heading: [&str; COLUMNS]) -> Self {
        Table {
            names,
            heading: heading.map(str::to_owned).into(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        debug_assert_eq!(
            COLUMNS,
            self.heading.len(),
            "a row has the heading's columns"
        );
        self.rows.push(cells.into());
    }

    fn width(&self, column: usize) -> usize {
        let cells = [&self.heading]
            .into_iter()
            .chain(&self.rows)
            .map(|row| row.get(column));
        cells
            .flatten()
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<_> = (0..self.heading.len())
            .map(|column| self.width(column))
            .collect();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column < self.names {
                    true => write!(f, "| {cell:<width$} ")?,
                    false => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.heading)?;
        for (column, width) in widths.iter().enumerate() {
            match column < self.names {
                true => write!(f, "|{}", "-".repeat(width + 2))?,
                false => write!(f, "|{}:", "-".repeat(width + 1))?,
            }
        }
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(1, ["system", "ms"]);
        table.row(["a".to_owned(), "12.345".to_owned()]);
        let expected = "\
| system |     ms |
|--------|-------:|
| a      | 12.345 |
";
        assert_eq!(table.to_string(), expected);
    }
}
