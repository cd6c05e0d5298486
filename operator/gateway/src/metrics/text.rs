//! Writes metrics as text, in either of the formats that Prometheus reads (`wire::exposition`).
//!
//! `functions` writes with it what the library cannot: exemplars, and labels that functions choose. It never collects.

use std::fmt::{Display, Write as _};

use pilotlight_wire::exposition::Format;

use crate::histogram::{Exemplar, Histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// What is written so far.
#[derive(Debug)]
pub(super) struct Text {
    format: Format,
    text: String,
    name: &'static str,
    kind: Kind,
}

impl Text {
    pub(super) fn new(format: Format) -> Self {
        Text {
            format,
            text: String::new(),
            name: "",
            kind: Kind::Gauge,
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Begins a metric. The samples that follow are of it. A name with a unit ends in the unit.
    pub(super) fn metric(&mut self, name: &'static str, kind: Kind, help: &str) {
        (self.name, self.kind) = (name, kind);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        let suffix = match (self.format, self.kind) {
            (Format::Plain, Kind::Counter) => "_total",
            _ => "",
        };
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}.");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {kind}");
        let units = ["seconds", "bytes", "ratio"].into_iter();
        let mut units = units.filter(|unit| name.ends_with(&format!("_{unit}")));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, units.next()) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    /// A sample of a counter or a gauge. `labels`: as they are written, escaped.
    pub(super) fn sample(&mut self, labels: &[&str], value: impl Display) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            _ => "",
        };
        self.line(suffix, labels, value);
        self.text.push('\n');
    }

    /// A sample of a summary without quantiles.
    pub(super) fn summary(&mut self, labels: &[&str], count: u64, sum: f64) {
        for (suffix, value) in [("_count", count.to_string()), ("_sum", number(sum))] {
            self.line(suffix, labels, value);
            self.text.push('\n');
        }
    }

    /// A histogram, unless it is empty: most functions have most phases never.
    pub(super) fn histogram(&mut self, labels: &str, histogram: &Histogram) {
        let counts = histogram.counts();
        let count: u64 = counts.iter().sum();
        if count == 0 {
            return;
        }
        let mut sum_of_counts = 0;
        for (place, count) in counts.iter().enumerate() {
            sum_of_counts += count;
            let bound = histogram.bounds().get(place);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
            self.line(
                "_bucket",
                &[labels, &format!("le=\"{bound}\"")],
                sum_of_counts,
            );
            if self.format == Format::OpenMetrics
                && let Some(exemplar) = histogram.example(place)
            {
                self.exemplar(&exemplar);
            }
            self.text.push('\n');
        }
        self.line("_count", &[labels], count);
        self.text.push('\n');
        self.line("_sum", &[labels], number(histogram.sum()));
        self.text.push('\n');
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let request_id = &exemplar.request_id;
        let _ = write!(self.text, " # {{request_id=\"{request_id}\"");
        if let Some(trace_id) = &exemplar.trace_id {
            let _ = write!(self.text, ",trace_id=\"{trace_id}\"");
        }
        let (value, at) = (number(exemplar.value), exemplar.at);
        let _ = write!(self.text, "}} {value} {at:.3}");
    }

    fn line(&mut self, suffix: &str, labels: &[&str], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut labels = labels.iter().filter(|label| !label.is_empty()).peekable();
        let has_labels = labels.peek().is_some();
        for (place, label) in labels.enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(label);
        }
        if has_labels {
            self.text.push('}');
        }
        let _ = write!(self.text, " {value}");
    }
}

/// A number as both formats have it.
pub(super) fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => format!("{value:?}"),
    }
}

/// A label whose value may be anything.
pub(super) fn label(name: &str, value: &str) -> String {
    let mut label = format!("{name}=\"");
    for character in value.chars() {
        match character {
            '\\' => label.push_str("\\\\"),
            '"' => label.push_str("\\\""),
            '\n' => label.push_str("\\n"),
            other => label.push(other),
        }
    }
    label.push('"');
    label
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn written(format: Format) -> String {
        let histogram = Histogram::of_ratios();
        histogram.observe_example(Duration::from_millis(300), Instant::now(), || {
            Some(Exemplar {
                request_id: "8f3c".into(),
                trace_id: Some("5759e988bd862e3fe1be46a994272793".to_owned()),
                value: 0.3,
                at: 1_574_109_732.004,
            })
        });
        let mut text = Text::new(format);
        text.metric("calls", Kind::Counter, "Calls");
        text.sample(&["a=\"1\"", "b=\"2\""], 3);
        text.metric("part_ratio", Kind::Histogram, "Parts");
        text.histogram("a=\"1\"", &histogram);
        text.histogram("a=\"2\"", &Histogram::of_ratios());
        text.metric("up", Kind::Gauge, "Up");
        text.sample(&[], 1);
        text.metric("sizes", Kind::Summary, "Sizes");
        text.summary(&[&label("name", "a\"b\\c\nd")], 2, 0.5);
        text.finish()
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let open = written(Format::OpenMetrics);
        let exemplar = " # {request_id=\"8f3c\",trace_id=\"5759e988bd862e3fe1be46a994272793\"} 0.3 1574109732.004";
        for line in [
            "# TYPE calls counter",
            "calls_total{a=\"1\",b=\"2\"} 3",
            "# UNIT part_ratio ratio",
            "part_ratio_bucket{a=\"1\",le=\"0.25\"} 0",
            &format!("part_ratio_bucket{{a=\"1\",le=\"0.5\"}} 1{exemplar}"),
            "part_ratio_bucket{a=\"1\",le=\"1.0\"} 1",
            "part_ratio_bucket{a=\"1\",le=\"+Inf\"} 1",
            "part_ratio_sum{a=\"1\"} 0.3",
            "up 1",
            "sizes_count{name=\"a\\\"b\\\\c\\nd\"} 2",
            "sizes_sum{name=\"a\\\"b\\\\c\\nd\"} 0.5",
        ] {
            assert!(
                open.lines().any(|written| written == line),
                "{line}\n{open}"
            );
        }
        assert!(
            !open.contains("a=\"2\""),
            "an empty histogram is left out\n{open}"
        );
        let plain = written(Format::Plain);
        let samples = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines
                .map(|line| line.split(" # ").next().expect("a part").to_owned())
                .collect()
        };
        assert_eq!(samples(&open), samples(&plain));
        assert!(
            plain.contains("# TYPE calls_total counter\n") && !plain.contains(" # {"),
            "{plain}"
        );
    }
}
