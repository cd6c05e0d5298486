//! The durations in the sources, and the rows of docs/timeouts.md.
//!
//! A duration is a constant of the type `Duration` (or a tuple of them) or a field that is given a literal. Pure;
//! fed by `tree`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

/// A constant or field: its name, and the durations in its value as docs write them (`250 ms`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub name: String,
    pub values: Vec<String>,
}

/// A row of a table: name, file and default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub path: String,
    pub value: String,
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// The source without its tests.
fn shipped(source: &str) -> &str {
    let tests = pattern(r"(?m)^#\[cfg\(test\)\]\s+mod [a-z_]+ \{");
    tests
        .find(source)
        .map_or(source, |found| &source[..found.start()])
}

/// The durations of a source file, and the lines with a literal that has no name.
pub fn of_source(source: &str) -> (Vec<Found>, Vec<String>) {
    static NAMED: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?s)(?:const ([A-Z_]+): [^=;]*Duration[^=;]* = ([^;]*);|\b([a-z_]+): (Duration::from_[a-z]+\([0-9_]+\)))",
        )
    });
    static LITERAL: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"Duration::from_([a-z]+)\(([0-9_]+)\)"));
    let source = shipped(source);
    let mut found = Vec::new();
    for named in NAMED.captures_iter(source) {
        let group = |one, other| named.get(one).or_else(|| named.get(other));
        let name = group(1, 3).expect("one of them").as_str().to_owned();
        let value = group(2, 4).expect("one of them").as_str();
        let values = LITERAL.captures_iter(value);
        let values = values.map(|literal| as_written(&literal[1], &literal[2]));
        found.push(Found {
            name,
            values: values.collect(),
        });
    }
    let rest = NAMED.replace_all(source, "");
    let nameless = rest.lines().filter(|line| LITERAL.is_match(line));
    (found, nameless.map(|line| line.trim().to_owned()).collect())
}

fn as_written(unit: &str, number: &str) -> String {
    let unit = match unit {
        "secs" => "s",
        "millis" => "ms",
        "micros" => "µs",
        other => other,
    };
    format!("{} {unit}", number.replace('_', ""))
}

/// The rows whose first two cells are a name and a path between backticks.
pub fn rows(markdown: &str) -> Vec<Row> {
    let row = pattern(r"(?m)^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \|");
    let rows = row.captures_iter(markdown);
    rows.map(|row| Row {
        name: row[1].to_owned(),
        path: row[2].to_owned(),
        value: row[3].to_owned(),
    })
    .collect()
}

/// A sentence for each name of a file that has a second row.
pub fn doubles(rows: &[Row]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for row in rows {
        if !seen.insert((&row.path, &row.name)) {
            faults.push(format!("{} in {} has two rows", row.name, row.path));
        }
    }
    faults
}

impl Row {
    /// Whether the cell has each of the values, as a word.
    pub fn says(&self, values: &[String]) -> bool {
        let cell = format!(" {} ", self.value.replace([',', '.'], " "));
        values
            .iter()
            .all(|value| cell.contains(&format!(" {value} ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_fields_are_found_and_literals_without_a_name_as_well() {
        let source = "const A: Duration = Duration::from_secs(3);\n\
                      const B: (Duration, u32) = (Duration::from_millis(2_500), 3);\n\
                      Config { wait: Duration::from_secs(9) }\n\
                      sleep(Duration::from_millis(7));\n\
                      after(Duration::from_secs(seconds));\n\
                      #[cfg(test)]\nmod tests {\n const C: Duration = Duration::from_secs(1);\n}\n";
        let (found, nameless) = of_source(source);
        let found: Vec<_> = found
            .iter()
            .map(|one| (&*one.name, &*one.values[0]))
            .collect();
        assert_eq!(found, [("A", "3 s"), ("B", "2500 ms"), ("wait", "9 s")]);
        assert_eq!(nameless, ["sleep(Duration::from_millis(7));"]);
    }

    #[test]
    fn a_row_says_its_values_or_not() {
        let rows = rows(
            "| name | file |\n|---|---|\n| `A` | `a/b.rs` | 5 s, then 3 times | x | fixed |\n",
        );
        let values = |text: &str| [text.to_owned()];
        assert_eq!(rows.len(), 1);
        assert!(rows[0].says(&values("5 s")));
        assert!(!rows[0].says(&values("15 s")) && !rows[0].says(&values("3 s")));
    }

    #[test]
    fn a_name_has_one_row_for_each_file() {
        let rows = rows("| `A` | `a.rs` | 5 s |\n| `A` | `b.rs` | 5 s |\n| `A` | `a.rs` | 6 s |\n");
        assert_eq!(rows.len(), 3);
        assert_eq!(doubles(&rows[..2]), [] as [String; 0]);
        assert_eq!(doubles(&rows), ["A in a.rs has two rows"]);
    }
}
