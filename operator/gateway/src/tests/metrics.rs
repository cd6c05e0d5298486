//! What `/metrics` says of functions, and that docs/metrics.md says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use tokio::time;

use super::stage::{Stage, function, invocation, named, on_stage, settled};
use crate::config::Config;

const HELLO: &str = "namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"";

/// The samples with this name and all these labels, added up.
fn sum(text: &str, name: &str, labels: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (found, rest) = rest.split_once("} ")?;
        let has = |label| found.split(',').any(|one| one == label);
        labels.split(',').all(has).then_some(())?;
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    lines.by_ref().sum()
}

async fn metrics(stage: &Stage) -> String {
    stage.status("/metrics").await.text()
}

#[tokio::test(start_paused = true)]
async fn each_way_in_which_a_call_ends_is_counted_with_its_reason() {
    on_stage(async {
        let mut stage =
            Stage::of(function("timeout: 5, concurrency: {reserved: 1, queue: 1}")).await;
        let first = stage.call("1");
        settled().await;
        let (second, third) = (stage.call("2"), stage.call("3"));
        settled().await;
        time::sleep(Duration::from_secs(2)).await;
        let text = metrics(&stage).await;
        assert_eq!(sum(&text, "pilotlight_queued", HELLO), 2.0);
        let age = sum(&text, "pilotlight_queue_age_seconds", HELLO);
        assert!((2.0..3.0).contains(&age), "{age}");
        assert_eq!(third.answer().await.status, 429);

        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        first.answer().await;
        let event = instance.event().await;
        instance.posts(&event, "error", "{}").await;
        instance.asks();
        second.answer().await;
        // Nobody answers: the supervisor ends it.
        let late = stage.call("4");
        instance.event().await;
        late.answer().await;
        settled().await;
        let text = metrics(&stage).await;
        for (name, label, value) in [
            ("pilotlight_invocations_total", "outcome=\"success\"", 1.0),
            (
                "pilotlight_invocations_total",
                "outcome=\"function_error\"",
                2.0,
            ),
            ("pilotlight_invocations_total", "outcome=\"throttled\"", 1.0),
            (
                "pilotlight_function_errors_total",
                "reason=\"handler\"",
                1.0,
            ),
            (
                "pilotlight_function_errors_total",
                "reason=\"timeout\"",
                1.0,
            ),
            (
                "pilotlight_function_errors_total",
                "reason=\"out_of_memory\"",
                0.0,
            ),
            ("pilotlight_cold_starts_total", "qualifier=\"$LATEST\"", 1.0),
            (
                "pilotlight_instances_started_total",
                "qualifier=\"$LATEST\"",
                1.0,
            ),
            ("pilotlight_concurrency_limit", "qualifier=\"$LATEST\"", 1.0),
            ("pilotlight_queue_limit", "qualifier=\"$LATEST\"", 1.0),
            (
                "pilotlight_memory_limit_bytes",
                "qualifier=\"$LATEST\"",
                134_217_728.0,
            ),
            ("pilotlight_queued", "qualifier=\"$LATEST\"", 0.0),
            ("pilotlight_queue_age_seconds", "qualifier=\"$LATEST\"", 0.0),
            // The call that was throttled got no instance.
            (
                "pilotlight_lease_duration_seconds_count",
                "qualifier=\"$LATEST\"",
                3.0,
            ),
            (
                "pilotlight_invocation_duration_seconds_count",
                "qualifier=\"$LATEST\"",
                4.0,
            ),
            (
                "pilotlight_init_duration_seconds_count",
                "qualifier=\"$LATEST\"",
                1.0,
            ),
        ] {
            let found = sum(&text, name, &format!("{HELLO},{label}"));
            assert_eq!(found, value, "{name} {label}\n{text}");
        }
        let waited = sum(&text, "pilotlight_queue_wait_seconds_sum", HELLO);
        assert!((4.0..6.0).contains(&waited), "two waited for 2 s: {waited}");
        let ran = sum(&text, "pilotlight_lease_duration_seconds_sum", HELLO);
        assert!((5.0..6.0).contains(&ran), "one ran for 5 s: {ran}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_instance_is_counted_by_what_it_means() {
    on_stage(async {
        let mut stage = Stage::of(function("keepAlive: 60")).await;
        let failing = stage.call("1");
        stage.start().await.fails("no room");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        failing.answer().await;
        time::sleep(Duration::from_secs(120)).await;
        settled().await;
        let text = metrics(&stage).await;
        for (reason, count) in [("not_started", 1.0), ("stopped", 1.0), ("lost", 0.0)] {
            let label = format!("{HELLO},reason=\"{reason}\"");
            let found = sum(&text, "pilotlight_instances_ended_total", &label);
            assert_eq!(found, count, "{reason}\n{text}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_scraper_of_open_metrics_gets_the_request_id_of_an_example() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0f1b758a73ce5eaa;Sampled=1";
        let request = invocation("hello").header("x-amzn-trace-id", trace);
        let caller = stage.send(request.body(Body::from("1")));
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        let answer = caller.answer().await;
        let id = answer.header("x-amzn-requestid").to_owned();
        let request = Request::get("/metrics").header("accept", "application/openmetrics-text");
        let scraped = stage.scrape(request.body(Body::empty())).answer().await;
        assert!(
            scraped
                .header("content-type")
                .starts_with("application/openmetrics-text")
        );
        let text = scraped.text();
        let example =
            format!(" # {{request_id=\"{id}\",trace_id=\"5759e988bd862e3fe1be46a994272793\"}} ");
        let mut buckets = text
            .lines()
            .filter(|line| line.starts_with("pilotlight_invocation_duration_seconds_bucket"));
        assert!(buckets.any(|line| line.contains(&example)), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let plain = metrics(&stage).await;
        assert!(!plain.contains(&id) && !plain.contains("# EOF"), "{plain}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn functions_beyond_the_bound_share_their_series() {
    on_stage(async {
        let config = Config {
            own_series: 1,
            ..Config::default()
        };
        let mut stage = Stage::new(config, None);
        stage
            .gateway
            .deploy(vec![function(""), named("other", "")])
            .await;
        for name in ["hello", "other"] {
            let caller = stage.send(invocation(name).body(Body::from("1")));
            let mut instance = stage.instance().await;
            let event = instance.event().await;
            instance.answers(&event, "1").await;
            caller.answer().await;
            settled().await;
            metrics(&stage).await;
        }
        let shared = "function=\"(other)\",outcome=\"success\"";
        let text = metrics(&stage).await;
        let own = format!("{HELLO},outcome=\"success\"");
        assert_eq!(
            sum(&text, "pilotlight_invocations_total", &own),
            1.0,
            "{text}"
        );
        assert_eq!(
            sum(&text, "pilotlight_invocations_total", shared),
            1.0,
            "{text}"
        );
        assert!(!text.contains("function=\"other\""), "{text}");
        // What a deleted function has counted stays, or the sum would decrease.
        stage.gateway.deploy(vec![function("")]).await;
        settled().await;
        let text = metrics(&stage).await;
        assert_eq!(
            sum(&text, "pilotlight_invocations_total", shared),
            1.0,
            "{text}"
        );
        assert_eq!(
            stage
                .metric("pilotlight_functions_without_own_series")
                .await,
            0.0
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_functions_log_adds_metrics_and_its_memory() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let record = serde_json::json!({
            "_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "shop", "Dimensions": [["page"]],
                "Metrics": [{"Name": "orders", "Unit": "Count"}, {"Name": "absent"}]}]},
            "page": "a\"b", "orders": [2, 3],
        });
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints(&record.to_string());
        // A function that prints what the platform says is not believed.
        instance.prints("REPORT RequestId: 1\tDuration: 1.00 ms\tMax Memory Used: 128 MB\t");
        instance.answers(&event, "1").await;
        caller.answer().await;
        settled().await;
        stage.get("/pilotlight/v1/functions/hello/logs").await;
        let text = metrics(&stage).await;
        let labels = "metric_namespace=\"shop\",metric=\"orders\",unit=\"Count\",dimension_page=\"a\\\"b\"";
        for line in [
            format!("pilotlight_function_metric_count{{{HELLO},{labels}}} 2"),
            format!("pilotlight_function_metric_sum{{{HELLO},{labels}}} 5.0"),
            format!("pilotlight_function_metric_last{{{HELLO},{labels}}} 3.0"),
            format!("pilotlight_function_metrics_dropped_total{{{HELLO},reason=\"malformed\"}} 1"),
            "pilotlight_function_metric_series 1".to_owned(),
            format!("pilotlight_memory_used_ratio_count{{{HELLO}}} 1"),
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        let used = sum(&text, "pilotlight_memory_used_ratio_sum", HELLO);
        assert!(used < 1.0, "of the platform's REPORT alone: {used}");
    })
    .await;
}

/// What a text in OpenMetrics says of each metric: its type, and the labels of its samples.
fn described(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            current = match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            };
            found.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let (false, Some((labels, _))) = (
            line.starts_with('#'),
            line.split_once('{')
                .and_then(|(_, rest)| rest.split_once("} ")),
        ) {
            let names = labels
                .split("\",")
                .filter_map(|label| label.split('=').next());
            let names = names.filter(|name| *name != "le").map(|name| {
                match name.starts_with("dimension_") {
                    true => "dimension_NAME".to_owned(),
                    false => name.to_owned(),
                }
            });
            if let Some((_, labels)) = found.get_mut(&current) {
                labels.extend(names);
            }
        }
    }
    found
}

/// The table of docs/metrics.md below this heading, in the same form.
fn documented(heading: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("docs/metrics.md");
    let part = page
        .split("\n## ")
        .find(|part| part.starts_with(heading))
        .expect("a heading");
    let rows = part
        .lines()
        .filter(|line| line.starts_with("| `pilotlight"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[4].split('`').skip(1).step_by(2);
        let labels = labels.flat_map(|label| match label {
            "FUNCTION" => vec!["namespace", "function", "qualifier"],
            other => vec![other],
        });
        let name = cells[1].trim_matches('`').to_owned();
        (
            name,
            (cells[2].to_owned(), labels.map(str::to_owned).collect()),
        )
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn the_page_about_metrics_has_each_metric_with_its_type_and_labels() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let record = serde_json::json!({
            "_aws": {"CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [["d"]], "Metrics": [{"Name": "m"}]}]},
            "d": "1", "m": 1,
        });
        let caller = stage.call("1");
        // A call that finds its instance ready at the same moment is no cold start.
        settled().await;
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints(&record.to_string());
        instance.answers(&event, "1").await;
        caller.answer().await;
        settled().await;
        stage.get("/pilotlight/v1/functions/hello/logs").await;
        stage.gateway.metrics().every_metric();
        let request = Request::get("/metrics").header("accept", "application/openmetrics-text");
        let text = stage.scrape(request.body(Body::empty())).answer().await.text();
        assert_eq!(described(&text), documented("Gateways"), "{text}");
    })
    .await;
}
