"""The queries of the dashboard and of the alerts name metrics that exist, and each alert is tested."""

import subprocess

import yaml

from tests.monitoring.alerts import CASES
from tests.monitoring.queries import ALERTS, METRIC, alerts, documented, panels, variables


def test_every_metric_in_a_query_is_in_the_page_about_metrics():
    known = documented()
    queries = {title: " ".join(queries) for title, queries in panels().items()}
    queries |= {name: rule["expr"] for name, rule in alerts().items()}
    queries |= {f"variable {label}": metric for metric, label in variables()}
    # `pilotlight_function_metric` is no series itself.
    unknown = {
        title: missing for title, text in queries.items() if (missing := set(METRIC.findall(text)) - known)
    }
    assert unknown == {}


def test_prometheus_accepts_the_rules():
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True)


def test_each_alert_has_a_case():
    assert {case.alert for case in CASES} == set(alerts())


def test_each_alert_has_a_severity_and_says_what_to_do():
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), name
        assert rule["annotations"]["summary"].endswith(".") and rule["annotations"]["description"], name


def promtool_test(series, alert, expected):
    """One group of `promtool test rules`. `expected`: whether the alert fires, by time."""
    checks = [
        {
            "expr": f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
            "eval_time": time,
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if fires else [],
        }
        for time, fires in expected.items()
    ]
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": checks,
    }


def test_each_alert_fires_when_it_should_and_not_before(tmp_path):
    tests = []
    for case in CASES:
        tests.append(promtool_test(case.series, case.alert, {case.quiet: False, case.fires: True}))
        tests.append(
            promtool_test(case.milder, case.alert, {case.quiet: False, case.fires: False, "90m": False})
        )
    file = tmp_path / "alerts.test.yaml"
    rules = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(rules))
    tested = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
