"""What the dashboard and the alerts ask Prometheus, read from the files of the chart."""

import json
import re

import yaml

from tests.harness.paths import CHART, REPOSITORY

ALERTS = CHART / "files/alerts.yaml"
DASHBOARD = CHART / "files/dashboard.json"
# What Grafana puts in the place of its variables: everything, and the last half minute.
VARIABLES = {"$namespace": ".*", "$function": ".*", "$__rate_interval": "30s"}
METRIC = re.compile(r"pilotlight_\w+")
SELECTOR = re.compile(r"pilotlight_\w+(?:\{[^}]*\})?")
# Metrics of controllers and of a Secret with a certificate: there are none in local mode.
IN_CLUSTERS = ("pilotlight_controller_", "pilotlight_tls_certificate_")


def alerts():
    """The rules by name."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels():
    """The queries of each panel, by its title, as Grafana sends them."""
    dashboard = json.loads(DASHBOARD.read_text())
    return {
        panel["title"]: [filled(target["expr"]) for target in panel["targets"]]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }


def variables():
    """The metrics and labels whose values the dashboard's variables list."""
    dashboard = json.loads(DASHBOARD.read_text())
    definitions = (one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query")
    return [re.fullmatch(r"label_values\((.+), (\w+)\)", filled(one)).groups() for one in definitions]


def filled(query):
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def is_in_clusters(query):
    return any(metric.startswith(IN_CLUSTERS) for metric in METRIC.findall(query))


def documented():
    """The names of all series that docs/metrics.md has."""
    rows = re.findall(
        r"^\| `(pilotlight_\w+)` \| (\w+) \|", (REPOSITORY / "docs/metrics.md").read_text(), re.MULTILINE
    )
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
    return {name + suffix for name, kind in rows for suffix in suffixes.get(kind, ("",))}
