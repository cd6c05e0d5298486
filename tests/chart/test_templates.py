"""What the chart is made into: lint, golden files, and values that are refused."""

import json
import os
import re

import pytest

from helm import CHART, REPOSITORY, good, template

HERE = REPOSITORY / "tests/chart"
RENDERED = {
    "default": [],
    "all": [f"--values={HERE}/all.values.yaml"],
}

REFUSED = [
    # values, where, what is wrong
    ("gateway.replicas=0", "gateway.replicas", "minimum: got 0, want 1"),
    ("gateway.replica=1", "gateway", "'replica' not allowed"),
    ("gateway.concurrency=0", "gateway.concurrency", "minimum: got 0, want 1"),
    ("gateway.concurrency=65536", "gateway.concurrency", "maximum: got 65,536, want 65,535"),
    ("gateway.service.type=ExternalName", "gateway.service.type", "must be one of"),
    ("gateway.service.port=http", "gateway.service.port", "want integer"),
    ("gateway.resources.limit.memory=1Gi", "gateway.resources", "'limit' not allowed"),
    ("gateway.resources.limits.memory=1 GB", "gateway.resources.limits.memory", "not match"),
    ("controller.healthPort=-1", "controller.healthPort", "minimum: got -1"),
    ("controller.leases=yes", "controller.leases", "want boolean"),
    ("controller.replicas=2", "controller", "'replicas' not allowed"),
    ("functionNamespace=My_Functions", "functionNamespace", "not match"),
    ("account=123456789012", "account", "want string"),
    ("region=Frankfurt", "region", "not match"),
    ("logLevel=verbose", "logLevel", "must be one of"),
    ("image=pilotlight/pilotlight", "image", "not match"),
    ("image=", "image", "not match"),
    ("image.tag=1", "image", "want string"),
    ("imagePullPolicy=Sometimes", "imagePullPolicy", "must be one of"),
    ("imagePullSecrets[0]=login", "imagePullSecrets.0", "want object"),
    ("runtimeImages.python2=a:1", "runtimeImages", "'python2' not allowed"),
    (r"runtimeImages.python3\.11=a:1\,b", "runtimeImages.python3.11", "not match"),
    ("networkPolicy.enabled=1", "networkPolicy.enabled", "want boolean"),
    ("networkPolicy.callers[0].pod=a", "networkPolicy.callers.0", "'pod' not allowed"),
    ("serviceMonitor.interval=30", "serviceMonitor.interval", "want string"),
    ("networkPolicies.enabled=true", "", "'networkPolicies' not allowed"),
]


def test_lint_has_no_complaint():
    good("helm", "lint", "--strict", CHART)


@pytest.mark.parametrize("name", RENDERED)
def test_the_objects_are_the_golden_files(name):
    made = template(*RENDERED[name])
    assert made.returncode == 0, made.stderr
    golden = HERE / f"golden/{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(made.stdout)
    assert made.stdout == golden.read_text(), "if this is meant, run with GOLDEN=write"


@pytest.mark.parametrize("setting, where, wrong", REFUSED)
def test_a_bad_value_is_refused_with_its_name(setting, where, wrong):
    made = template("--set", setting)
    assert made.returncode != 0, made.stdout
    pointer = "/" + where.replace("python3.11", "python3~11").replace(".", "/").replace("~", ".")
    told = [line for line in made.stderr.splitlines() if f"'{pointer if where else ''}'" in line]
    assert any(wrong in line for line in told), made.stderr


def test_the_test_needs_an_image_with_curl():
    made = template("--set", "runtimeImages.custom=null")
    assert made.returncode != 0 and "test.image" in made.stderr, made.stderr
    assert template("--set", "runtimeImages.custom=null", "--set", "test.image=a:1").returncode == 0


def test_the_crd_is_the_projects():
    files = [sorted(file.name for file in folder.iterdir()) for folder in (CHART / "crds", REPOSITORY / "crds")]
    assert files[0] == files[1]
    for name in files[0]:
        assert (CHART / "crds" / name).read_text() == (REPOSITORY / "crds" / name).read_text(), "make crds"


def test_the_schema_knows_the_runtimes_of_the_crd():
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "crds/function.yaml").read_text()
    listed = re.search(r"\n( +)runtime:\n(?:\1 .*\n)*?\1  enum:\n((?:\1  - .*\n)+)", text)
    runtimes = {line.strip(" -") for line in listed[2].splitlines()}
    assert set(schema["properties"]["runtimeImages"]["properties"]) == runtimes


def test_instances_are_selected_and_reached_as_the_code_says():
    labels = (REPOSITORY / "operator/api/src/labels.rs").read_text()
    function = re.search(r'FUNCTION: &str = "(.*)"', labels)[1]
    port = re.search(r"CONTROL_PORT: u16 = (\d+)", labels)[1]
    policy = template("--show-only=templates/networkpolicy.yaml").stdout
    assert f"key: {function}\n" in policy and f"- port: {port}\n" in policy


@pytest.mark.parametrize("release", ["pilotlight", "pilotlight-functions", "functions", "r" * 53])
def test_no_two_objects_of_a_release_have_one_name(release):
    made = template(namespace="system", release=release)
    assert made.returncode == 0, made.stderr
    named = re.findall(r"^kind: (\w+)\nmetadata:\n  name: (.*)$", made.stdout, re.MULTILINE)
    assert len(named) == len(set(named)) == made.stdout.count("\nkind: "), named
    assert all(len(name) <= 63 for _, name in named), named
