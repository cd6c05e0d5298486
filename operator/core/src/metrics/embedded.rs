//! Metrics that a function writes into its log: the embedded metric format (EMF).
//!
//! A record of the log that is a JSON object with a member `_aws` names metrics, their units and dimensions, and has
//! their values beside it. [`read`] understands one record; [`Embedded`] adds up what the records of all functions say,
//! within bounds: the bytes come from functions, which nobody trusts. The gateway's `metrics` feeds it and writes the
//! sums. It never looks at a record that is not embedded, and the record stays in the log as it is.
//!
//! A directive may have several sets of dimensions. CloudWatch then keeps the metric once for each set; here it is kept
//! once, with the union of all sets as its labels, because Prometheus adds up over any label when it is asked. So no sum
//! counts an observation twice. The time stamp of a record is not used: an observation counts when it is read.
//!
//! Format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest record that is read, in bytes. Larger ones do not exist: the supervisor splits them.
pub const RECORD_LIMIT: usize = 256 * 1024;
/// Metrics of one record.
pub const METRICS_LIMIT: usize = 100;
/// Values of one metric in one record.
pub const VALUES_LIMIT: usize = 100;
/// Dimensions of one metric, over all its sets.
pub const DIMENSIONS_LIMIT: usize = 10;
/// The length of a namespace, a metric's name, a dimension's name or a dimension's value, in bytes.
pub const NAME_LIMIT: usize = 256;
/// Sums of one function: distinct namespaces, metrics, units and dimensions with their values.
pub const SERIES_LIMIT: usize = 100;
/// Sums of all functions of one gateway.
pub const GATEWAY_SERIES_LIMIT: usize = 10_000;
/// A sum that nothing was added to for this long makes room for a new one of the same function.
pub const STALE_AFTER: Duration = Duration::from_secs(3600);
/// CloudWatch's bound for a value, either way: 2^360.
const VALUE_LIMIT: f64 = 2.348_542_582_773_833_4e108;

/// CloudWatch's units.
const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// Why a metric of a record is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The record is not what the format says: a member is missing or of another type, or a unit is unknown.
    Malformed,
    /// A bound of one record is exceeded.
    TooLarge,
    /// The function, or the gateway, has as many sums as it may have.
    TooManySeries,
}

impl Dropped {
    pub const ALL: [Dropped; 3] = [
        Dropped::Malformed,
        Dropped::TooLarge,
        Dropped::TooManySeries,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::Malformed => "malformed",
            Dropped::TooLarge => "too_large",
            Dropped::TooManySeries => "too_many_series",
        }
    }
}

/// What one sum is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The namespace of CloudWatch, which the function chooses.
    pub namespace: String,
    pub metric: String,
    /// One of CloudWatch's.
    pub unit: &'static str,
    /// Values by the names of labels: letters, digits and underscores.
    pub dimensions: BTreeMap<String, String>,
}

/// All values of a metric so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    pub count: u64,
    pub sum: f64,
    pub last: f64,
    at: Instant,
}

/// What one record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddedValues {
    pub values: BTreeMap<Key, Vec<f64>>,
    /// One for each metric that is not counted, or for the record as a whole.
    pub dropped: Vec<Dropped>,
}

/// The sums of all functions of a gateway. `K` names a function.
#[derive(Debug)]
pub struct Embedded<K> {
    functions: BTreeMap<K, BTreeMap<Key, Sum>>,
    /// How many sums there are.
    total: usize,
}

/// Whether a text of a function's log may be an embedded record. It costs less than to read it.
pub fn may_be(text: &str) -> bool {
    text.trim_start().starts_with('{') && text.contains("\"_aws\"")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: String,
    #[serde(default)]
    dimensions: Vec<Vec<String>>,
    metrics: Vec<Definition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: String,
    unit: Option<String>,
}

/// `None` if the text is a JSON object without metrics, or no JSON object: then it is an ordinary record of the log.
pub fn read(text: &str) -> Option<EmbeddedValues> {
    if !may_be(text) {
        return None;
    }
    let whole = |dropped| {
        Some(EmbeddedValues {
            values: BTreeMap::new(),
            dropped: vec![dropped],
        })
    };
    if text.len() > RECORD_LIMIT {
        return whole(Dropped::TooLarge);
    }
    let root: Map<String, Value> = serde_json::from_str(text).ok()?;
    // Another member may contain the text `"_aws"`; then this one is absent.
    let directives = root.get("_aws")?.get("CloudWatchMetrics")?;
    let Ok(directives) = Vec::<Directive>::deserialize(directives) else {
        return whole(Dropped::Malformed);
    };
    let mut reading = EmbeddedValues::default();
    let mut metrics = 0;
    for directive in directives {
        let dimensions = dimensions(&root, &directive);
        for definition in directive.metrics {
            metrics += 1;
            if metrics > METRICS_LIMIT {
                reading.dropped.push(Dropped::TooLarge);
                return Some(reading);
            }
            let key = dimensions
                .clone()
                .and_then(|dimensions| key(&directive.namespace, &definition, dimensions));
            let values = key.and_then(|key| Ok((key, values(root.get(&definition.name))?)));
            match values {
                // Of two directives with equal labels the first one counts.
                Ok((key, values)) => drop(reading.values.entry(key).or_insert(values)),
                Err(dropped) => reading.dropped.push(dropped),
            }
        }
    }
    Some(reading)
}

fn named(text: &str) -> Result<&str, Dropped> {
    match text.len() {
        0 => Err(Dropped::Malformed),
        length if length > NAME_LIMIT => Err(Dropped::TooLarge),
        _ => Ok(text),
    }
}

fn key(
    namespace: &str,
    definition: &Definition,
    dimensions: BTreeMap<String, String>,
) -> Result<Key, Dropped> {
    let unit = definition.unit.as_deref().unwrap_or("None");
    let mut units = UNITS.into_iter();
    Ok(Key {
        namespace: named(namespace)?.to_owned(),
        metric: named(&definition.name)?.to_owned(),
        unit: units
            .find(|known| *known == unit)
            .ok_or(Dropped::Malformed)?,
        dimensions,
    })
}

/// The union of a directive's sets, with the values that the record has for them.
fn dimensions(
    root: &Map<String, Value>,
    directive: &Directive,
) -> Result<BTreeMap<String, String>, Dropped> {
    let mut labels = BTreeMap::new();
    for name in directive.dimensions.iter().flatten() {
        let Some(Value::String(value)) = root.get(name) else {
            return Err(Dropped::Malformed);
        };
        if value.len() > NAME_LIMIT {
            return Err(Dropped::TooLarge);
        }
        let label: String = named(name)?
            .chars()
            .map(|character| match character {
                'a'..='z' | 'A'..='Z' | '0'..='9' => character,
                _ => '_',
            })
            .collect();
        // Two names that become one label tell nothing apart: `a-b` and `a.b`. The same name in two sets is one.
        if labels
            .insert(label, value.clone())
            .is_some_and(|other| other != *value)
        {
            return Err(Dropped::Malformed);
        }
        if labels.len() > DIMENSIONS_LIMIT {
            return Err(Dropped::TooLarge);
        }
    }
    Ok(labels)
}

fn values(value: Option<&Value>) -> Result<Vec<f64>, Dropped> {
    let values = match value {
        Some(Value::Array(values)) if values.len() > VALUES_LIMIT => {
            return Err(Dropped::TooLarge);
        }
        Some(Value::Array(values)) => values.iter().map(Value::as_f64).collect(),
        Some(value) => value.as_f64().map(|value| vec![value]),
        None => None,
    };
    let is_in_range = |values: &Vec<f64>| values.iter().all(|value| value.abs() <= VALUE_LIMIT);
    values.filter(is_in_range).ok_or(Dropped::Malformed)
}

impl<K> Default for Embedded<K> {
    fn default() -> Self {
        Embedded {
            functions: BTreeMap::new(),
            total: 0,
        }
    }
}

impl<K: Ord + Clone> Embedded<K> {
    /// Adds what a record of this function says. Returns why what is not counted.
    pub fn add(&mut self, now: Instant, function: &K, reading: EmbeddedValues) -> Vec<Dropped> {
        let EmbeddedValues {
            values,
            mut dropped,
        } = reading;
        for (key, values) in values {
            let Some(last) = values.last().copied() else {
                continue;
            };
            if !self.has_room(now, function, &key) {
                dropped.push(Dropped::TooManySeries);
                continue;
            }
            let sums = self.functions.entry(function.clone()).or_default();
            let sum = sums.entry(key).or_insert_with(|| {
                self.total += 1;
                Sum {
                    count: 0,
                    sum: 0.0,
                    last,
                    at: now,
                }
            });
            sum.count += values.len() as u64;
            sum.sum += values.iter().sum::<f64>();
            (sum.last, sum.at) = (last, now);
        }
        dropped
    }

    /// Whether the sum exists, or a new one may.
    fn has_room(&mut self, now: Instant, function: &K, key: &Key) -> bool {
        let Some(sums) = self.functions.get_mut(function) else {
            return self.total < GATEWAY_SERIES_LIMIT;
        };
        if sums.contains_key(key)
            || (sums.len() < SERIES_LIMIT && self.total < GATEWAY_SERIES_LIMIT)
        {
            return true;
        }
        let oldest = sums.iter().min_by_key(|(_, sum)| sum.at);
        let oldest = oldest.filter(|(_, sum)| now.saturating_duration_since(sum.at) >= STALE_AFTER);
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
            return false;
        };
        sums.remove(&oldest);
        self.total -= 1;
        true
    }

    /// The function was deleted.
    pub fn remove(&mut self, function: &K) {
        let sums = self.functions.remove(function);
        self.total -= sums.map_or(0, |sums| sums.len());
    }

    pub fn of(&self, function: &K) -> impl Iterator<Item = (&Key, &Sum)> {
        self.functions.get(function).into_iter().flatten()
    }

    /// How many sums there are.
    pub fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests;
