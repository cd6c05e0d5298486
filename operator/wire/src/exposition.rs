//! The two text formats in which Prometheus reads metrics, and which of them a scraper gets.
//!
//! The gateway's `http::status` and the controller's `health` ask. OpenMetrics has exemplars and units; the older format
//! is for scrapers that do not ask for OpenMetrics. Never collects a metric.
//!
//! Formats: <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use http::header::{ACCEPT, HeaderMap, HeaderValue};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// OpenMetrics for a scraper that accepts it, in whatever order it prefers.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).into_iter();
        let mut accepted = accepted.filter_map(|accept| accept.to_str().ok());
        match accepted.any(|accept| accept.split(',').any(is_open_metrics)) {
            true => Format::OpenMetrics,
            false => Format::Plain,
        }
    }

    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
        })
    }

    /// A text in this format. `text`: OpenMetrics without exemplars and without its end.
    pub fn of(self, text: String) -> String {
        match self {
            Format::OpenMetrics => text,
            Format::Plain => plain(&text),
        }
    }

    /// What stands after the last metric.
    pub fn end(self) -> &'static str {
        match self {
            Format::OpenMetrics => "# EOF\n",
            Format::Plain => "",
        }
    }
}

fn is_open_metrics(accepted: &str) -> bool {
    let mut parts = accepted.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let is_refused = parts.any(|part| {
        let weight = part
            .strip_prefix("q=")
            .and_then(|weight| weight.parse::<f32>().ok());
        weight.is_some_and(|weight| weight <= 0.0)
    });
    kind.eq_ignore_ascii_case("application/openmetrics-text") && !is_refused
}

/// The older format has no units, and calls a counter by the name of its samples.
fn plain(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if line.starts_with("# UNIT ") {
            continue;
        }
        if line.starts_with("# HELP ") {
            help = Some(line);
            continue;
        }
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            written.push_str(line);
            written.push('\n');
            continue;
        };
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "unknown" => ("", "untyped"),
            other => ("", other),
        };
        let help = help
            .take()
            .and_then(|line| line["# HELP ".len()..].split_once(' '));
        if let Some((_, help)) = help {
            written.push_str(&format!("# HELP {name}{suffix} {help}\n"));
        }
        written.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &'static str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Format::accepted(&headers)
    }

    #[test]
    fn a_scraper_gets_open_metrics_if_it_accepts_them() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [prometheus, "text/plain, application/OpenMetrics-Text"] {
            assert_eq!(accepted(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in ["*/*", "text/plain", "application/openmetrics-text;q=0", ""] {
            assert_eq!(accepted(accept), Format::Plain, "{accept}");
        }
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Plain);
    }

    #[test]
    fn the_older_format_says_the_same() {
        let text = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                    a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b Calls.\n# TYPE b counter\nb_total 2\n\
                    # TYPE c unknown\nc 3\n";
        let expected = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b_total Calls.\n# TYPE b_total counter\nb_total 2\n\
                        # TYPE c untyped\nc 3\n";
        assert_eq!(Format::Plain.of(text.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.of(text.to_owned()), text);
    }
}
