"""A Prometheus of the tests, from the Debian package: it scrapes one address and evaluates the chart's alerts."""

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import yaml

from tests.harness.patience import PATIENCE, until
from tests.monitoring.queries import ALERTS


class Prometheus:
    """Ready once constructed. `folder`: for its configuration and data; `targets`: `host:port` each."""

    def __init__(self, folder, targets):
        rules = yaml.safe_load(ALERTS.read_text())
        for group in rules["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                # An alert fires as soon as its condition holds: `promtool` tests how long it has to.
                rule.pop("for", None)
        (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
        scrape = {
            "job_name": "pilotlight",
            "honor_labels": True,
            "static_configs": [{"targets": targets}],
        }
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        until(self.is_ready, self.tail)

    def is_ready(self):
        assert self.process.poll() is None, self.tail()
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=PATIENCE) as answer:
                return answer.status == 200
        except OSError:
            return False

    def tail(self):
        self.log.seek(0)
        return self.log.read()[-4000:]

    def get(self, path, **parameters):
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, query):
        """The samples that a query has now: labels and value."""
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=query)["result"]]

    def has(self, query):
        return bool(self.get("query", query=query)["result"])

    def firing(self):
        alerts = self.get("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.tail()
        self.log.close()
