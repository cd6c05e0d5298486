"""What the chart renders: lint, golden files, and values that are refused."""

import json
import os
import re

import pytest
import yaml

from tests.chart.helm import alone, template
from tests.harness.paths import CHART, REPOSITORY

HERE = REPOSITORY / "tests/chart"
WARM_POOL = "pilotlight.dev/v1alpha1/WarmPool"
# The definitions have a test of their own.
RENDERED = {
    "default": ["--set=crds.install=false"],
    # On a cluster that knows WarmPools, as on every upgrade.
    "all": [f"--values={HERE}/all.values.yaml", f"--api-versions={WARM_POOL}", "--set=crds.install=false"],
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
    ("controller.replicas=-1", "controller.replicas", "minimum: got -1"),
    ("controller.replicas=6", "controller.replicas", "maximum: got 6, want 5"),
    ("controller.leases=true", "controller", "'leases' not allowed"),
    ("crds.install=maybe", "crds.install", "want boolean"),
    ("crds.keep=true", "crds", "'keep' not allowed"),
    ("functionNamespace=My_Functions", "functionNamespace", "not match"),
    ("account=123456789012", "account", "want string"),
    ("region=Frankfurt", "region", "not match"),
    ("logLevel=verbose", "logLevel", "must be one of"),
    ("image=pilotlight/pilotlight", "image", "not match"),
    ("image=", "image", "not match"),
    ("image.tag=1", "image", "want string"),
    ("imagePullPolicy=Sometimes", "imagePullPolicy", "must be one of"),
    ("imagePullSecrets[0]=login", "imagePullSecrets.0", "want object"),
    ("runtimeImages.Python=a:1", "runtimeImages", "'Python' not allowed"),
    ("runtimes.mine=", "runtimes.mine", "minLength"),
    (r"runtimeImages.python3\.11=a:1\,b", "runtimeImages.python3.11", "not match"),
    ("warmPools.Warm.size=1", "warmPools", "'Warm' not allowed"),
    ("warmPools.warm.size=1", "warmPools.warm", "missing property 'runtime'"),
    ("warmPools.warm.size=1001", "warmPools.warm.size", "maximum: got 1,001, want 1,000"),
    ("networkPolicy.enabled=1", "networkPolicy.enabled", "want boolean"),
    ("networkPolicy.callers[0].pod=a", "networkPolicy.callers.0", "'pod' not allowed"),
    ("serviceMonitor.interval=30", "serviceMonitor.interval", "want string"),
    ("networkPolicies.enabled=true", "", "'networkPolicies' not allowed"),
]


def test_lint_finds_nothing():
    linted = alone("lint", "--strict", CHART)
    assert linted.returncode == 0, linted.stdout + linted.stderr


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


def definitions(*options):
    made = template("--show-only=templates/crds.yaml", *options)
    assert made.returncode == 0, made.stderr
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(made.stdout) if one}


def test_the_definitions_are_objects_of_the_release_that_helm_never_deletes():
    made = definitions()
    for file in (REPOSITORY / "crds").iterdir():
        definition = yaml.safe_load(file.read_text())
        rendered = made.pop(definition["metadata"]["name"])
        assert rendered["spec"] == definition["spec"], file
        assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert rendered["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    assert made == {}


def test_a_release_that_does_not_own_the_definitions_leaves_them_out():
    made = template("--set=crds.install=false")
    assert made.returncode == 0 and "kind: CustomResourceDefinition" not in made.stdout, made.stderr


def test_pools_wait_for_their_definition_unless_the_cluster_or_somebody_else_has_it():
    pool = '--set-json=warmPools.python={"runtime": "python3.11", "size": 1}'
    for options, has_pool in [
        ([], False),
        ([f"--api-versions={WARM_POOL}"], True),
        (["--set=crds.install=false"], True),
    ]:
        made = template(pool, *options)
        assert made.returncode == 0, made.stderr
        assert ("\nkind: WarmPool\n" in made.stdout) == has_pool, options


def test_the_crd_is_the_projects():
    files = [
        sorted(file.name for file in folder.iterdir())
        for folder in (CHART / "files/crds", REPOSITORY / "crds")
    ]
    assert files[0] == files[1]
    for name in files[0]:
        assert (CHART / "files/crds" / name).read_text() == (REPOSITORY / "crds" / name).read_text(), (
            "make crds"
        )


def test_the_schema_accepts_the_names_that_the_crd_accepts():
    schema = json.loads((CHART / "values.schema.json").read_text())
    (pattern,) = schema["properties"]["runtimeImages"]["patternProperties"]
    assert f"self.matches('{pattern}')" in (CHART / "files/crds/function.yaml").read_text()


def test_a_users_own_runtime_reaches_the_controller():
    made = template("--set", "runtimes.mine=handler = 1")
    assert made.returncode == 0, made.stderr
    assert 'mine.toml: "handler = 1"' in made.stdout
    assert "--runtimes=/etc/pilotlight/runtimes" in made.stdout
    assert "--runtimes" not in template().stdout


def test_the_rights_are_on_the_lease_that_controllers_contend_for():
    source = (REPOSITORY / "operator/controller/src/leadership.rs").read_text()
    lease = re.search(r'LEASE: &str = "(.*)"', source)[1]
    rights = template("--show-only=templates/rbac.yaml").stdout
    assert f"resources: [leases]\n    resourceNames: [{lease}]\n" in rights


def test_instances_are_selected_and_reached_as_the_code_says():
    labels = (REPOSITORY / "operator/api/src/labels.rs").read_text()
    label = re.search(r'MANAGED_BY: &str = "(.*)"', labels)[1]
    manager = re.search(r'MANAGER: &str = "(.*)"', labels)[1]
    port = re.search(r"CONTROL_PORT: u16 = (\d+)", labels)[1]
    policy = template("--show-only=templates/networkpolicy.yaml").stdout
    assert (
        f"  podSelector:\n    matchLabels:\n      {label}: {manager}\n" in policy
        and f"- port: {port}\n" in policy
    )


@pytest.mark.parametrize("release", ["pilotlight", "pilotlight-functions", "functions", "r" * 53])
def test_no_two_objects_of_a_release_have_one_name(release):
    made = template("--set=crds.install=false", namespace="system", release=release)
    assert made.returncode == 0, made.stderr
    named = re.findall(r"^kind: (\w+)\nmetadata:\n  name: (.*)$", made.stdout, re.MULTILINE)
    assert len(named) == len(set(named)) == made.stdout.count("\nkind: "), named
    assert all(len(name) <= 63 for _, name in named), named
