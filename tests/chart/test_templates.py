"""What the chart renders: lint, golden files, and values that are refused."""

import json
import os
import re

import pytest
import yaml

from tests.chart.helm import NO_DEFAULTS, alone, template
from tests.harness.paths import CHART, REPOSITORY

HERE = REPOSITORY / "tests/chart"
WARM_POOL = "pilotlight.dev/v1alpha1/WarmPool"
OPERATOR = "monitoring.coreos.com/v1"
# The definitions have a test of their own.
RENDERED = {
    "default": ["--set=crds.install=false"],
    # On a cluster that knows WarmPools, as on every upgrade.
    "all": [
        f"--values={HERE}/all.values.yaml",
        f"--api-versions={WARM_POOL}",
        f"--api-versions={OPERATOR}",
        "--set=crds.install=false",
    ],
}

REFUSED = [
    # values, where, what is wrong
    ("gateway.replicas=0", "gateway.replicas", "minimum: got 0, want 1"),
    ("gateway.replica=1", "gateway", "'replica' not allowed"),
    ("gateway.fetch.proxy=proxy:3128", "gateway.fetch.proxy", "not match"),
    ("gateway.fetch.secrets[0]=", "gateway.fetch.secrets.0", "not match"),
    ("gateway.destinationSecrets[0]=Mine", "gateway.destinationSecrets.0", "not match"),
    ("gateway.fetch.concurrent=0", "gateway.fetch.concurrent", "minimum: got 0, want 1"),
    ("logs.otlp.endpoint=collector:4318", "logs.otlp.endpoint", "not match"),
    ("logs.otlp.endpoint=http://a/v1/logs?key=1", "logs.otlp.endpoint", "not match"),
    ("logs.otlp.headersSecret=Mine", "logs.otlp.headersSecret", "not match"),
    ("logs.otlp.headersSecret=mine", "logs.otlp.endpoint", "minLength: got 0, want 1"),
    ("logs.otlp.headers=a", "logs.otlp", "'headers' not allowed"),
    ("tracing.endpoint=collector:4318", "tracing.endpoint", "not match"),
    ("tracing.sampling.ratio=2", "tracing.sampling.ratio", "maximum: got 2, want 1"),
    ("tracing.sampling.ratio=1.5", "tracing.sampling.ratio", "not match"),
    ("tracing.sampling.slowMs=-1", "tracing.sampling.slowMs", "minimum: got -1, want 0"),
    ("tracing.sample.ratio=1", "tracing", "'sample' not allowed"),
    ("gateway.cacheSize=1Gi", "gateway.cacheSize", "not match"),
    ("gateway.concurrency=0", "gateway.concurrency", "minimum: got 0, want 1"),
    ("gateway.concurrency=65536", "gateway.concurrency", "maximum: got 65,536, want 65,535"),
    ("gateway.service.type=ExternalName", "gateway.service.type", "must be one of"),
    ("gateway.service.port=http", "gateway.service.port", "want integer"),
    ("gateway.service.tlsPort=0", "gateway.service.tlsPort", "minimum: got 0, want 1"),
    ("gateway.tls.mode=permissive", "gateway.tls.mode", "must be one of"),
    ("gateway.tls.secretName=Mine", "gateway.tls.secretName", "not match"),
    ("gateway.tls.hosts[0]=https://a", "gateway.tls.hosts.0", "not match"),
    ("gateway.tls.issuer=a", "gateway.tls", "'issuer' not allowed"),
    ("gateway.resources.limit.memory=1Gi", "gateway.resources", "'limit' not allowed"),
    ("gateway.resources.limits.memory=1 GB", "gateway.resources.limits.memory", "not match"),
    ("controller.replicas=-1", "controller.replicas", "minimum: got -1"),
    ("controller.replicas=6", "controller.replicas", "maximum: got 6, want 5"),
    ("controller.leases=true", "controller", "'leases' not allowed"),
    ("crds.install=maybe", "crds.install", "want boolean"),
    ("crds.keep=true", "crds", "'keep' not allowed"),
    ("createFunctionNamespace=1", "createFunctionNamespace", "want boolean"),
    ("functionNamespace=My_Functions", "functionNamespace", "not match"),
    ("authors.policy=Audit", "authors.policy", "must be one of"),
    ("authors.allow.image[0]=*", "authors.allow", "'image' not allowed"),
    ("authors.allow.images[0]=a b", "authors.allow.images.0", "not match"),
    ("authors.allow.images[0]=", "authors.allow.images.0", "minLength"),
    ("authors.allow.nodeSelectors[0]=pool", "authors.allow.nodeSelectors.0", "not match"),
    ("authors.allow.tolerations[0]=gpu:Never", "authors.allow.tolerations.0", "not match"),
    ("authors.allow.runtimeClasses[0]=g_visor", "authors.allow.runtimeClasses.0", "not match"),
    ("account=123456789012", "account", "want string"),
    ("region=Frankfurt", "region", "not match"),
    ("logLevel=verbose", "logLevel", "must be one of"),
    ("image=pilotlight/pilotlight", "image", "not match"),
    ("imageDigest=sha256:1", "imageDigest", "not match"),
    ("imagePullPolicy=Sometimes", "imagePullPolicy", "must be one of"),
    ("imagePullSecrets[0]=login", "imagePullSecrets.0", "want object"),
    ("runtimeImages.Python=a:1", "runtimeImages", "'Python' not allowed"),
    ("runtimes.mine=", "runtimes.mine", "minLength"),
    (r"runtimeImages.python3\.11=a:1\,b", "runtimeImages.python3.11", "not match"),
    ("warmPools.Warm.size=1", "warmPools", "'Warm' not allowed"),
    ("warmPools.warm.size=1", "warmPools.warm", "missing property 'runtime'"),
    ("warmPools.warm.size=1001", "warmPools.warm.size", "maximum: got 1,001, want 1,000"),
    ("warmPools.warm.serviceAccount=Orders", "warmPools.warm.serviceAccount", "not match"),
    ("defaultWarmPools.size=-1", "defaultWarmPools.size", "minimum: got -1, want 0"),
    ("defaultWarmPools.python=1", "defaultWarmPools", "'python' not allowed"),
    ("functions.cpu.limit=all", "functions.cpu.limit", "not match"),
    ("functions.cpu.limit=0.05", "functions.cpu.limit", "not match"),
    ("functions.cpu.limit=0", "functions.cpu.limit", "minimum: got 0, want 0.1"),
    ("functions.cpu.limit=", "functions.cpu.limit", "not match"),
    ("functions.cpu.limits=2", "functions.cpu", "'limits' not allowed"),
    ("functions.logStorage=64Mi", "functions.logStorage", "want integer"),
    ("functions.runtimeClassName=g_visor", "functions.runtimeClassName", "not match"),
    ("warmPools.warm.runtimeClassName=g_visor", "warmPools.warm.runtimeClassName", "not match"),
    ("functions.livenessProbe=1", "functions.livenessProbe", "want boolean"),
    ("functions.logRate=63", "functions.logRate", "minimum: got 63, want 64"),
    ("functions.logRate=1Mi", "functions.logRate", "want integer"),
    ("functions.userNamespaces=1", "functions.userNamespaces", "want boolean"),
    ("functions.egress.deny[0]=169.254.169.254", "functions.egress.deny.0", "not match"),
    ("functions.egress.apiserver[0]=192.0.2.10/32", "functions.egress", "'apiserver' not allowed"),
    ("networkPolicy.enabled=1", "networkPolicy.enabled", "want boolean"),
    ("networkPolicy.callers[0].pod=a", "networkPolicy.callers.0", "'pod' not allowed"),
    ("serviceMonitor.interval=30", "serviceMonitor.interval", "want string"),
    ("monitoring.alerts=all", "monitoring.alerts", "want boolean"),
    ("monitoring.rules=true", "monitoring", "'rules' not allowed"),
    ("gateway.ownSeries=-1", "gateway.ownSeries", "minimum: got -1, want 0"),
    ("networkPolicies.enabled=true", "", "'networkPolicies' not allowed"),
    ("events.queue.url=nats://me:pw@nats", "events.queue.url", "does not match"),
    ("events.queue.url=http://nats", "events.queue.url", "does not match"),
    ("events.queue.prefix=a.b", "events.queue.prefix", "does not match"),
    ("events.queue.replicas=0", "events.queue.replicas", "minimum: got 0, want 1"),
    ("logs.store.url=http://me:pw@logs", "logs.store.url", "does not match"),
    ("logs.store.retention=30m", "logs.store.retention", "does not match"),
    ("logs.store.tenant=a", "logs.store.tenant", "does not match"),
]


def test_lint_finds_nothing():
    linted = alone("lint", "--strict", CHART, *NO_DEFAULTS)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("name", RENDERED)
def test_the_objects_are_the_golden_files(name):
    made = template(*RENDERED[name], images=NO_DEFAULTS if name == "default" else [])
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
    image, _ = NO_DEFAULTS
    made = template(images=[image])
    assert made.returncode != 0 and "test.image" in made.stderr, made.stderr
    assert template("--set", "test.image=a:1", images=[image]).returncode == 0


def test_the_image_has_to_be_set_because_a_default_could_be_anybodys():
    made = template("--set", "image=")
    assert made.returncode != 0 and "image: set it to Pilotlight's image" in made.stderr, made.stderr


@pytest.mark.parametrize(
    "image", ["host:5000/a/pilotlight:0.1.0", "host:5000/a/pilotlight@sha256:" + "1" * 64]
)
def test_a_digest_takes_the_place_of_the_tag(image):
    digest = "sha256:" + "2" * 64
    made = template("--set", f"image={image}", "--set", f"imageDigest={digest}")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(f'image: "host:5000/a/pilotlight@{digest}"') == 2


def monitoring(*options):
    """The kinds of what `serviceMonitor` and `monitoring` add, and the objects."""
    made = template(
        "--set=serviceMonitor.enabled=true,monitoring.alerts=true,monitoring.dashboard=true", *options
    )
    assert made.returncode == 0, made.stderr
    objects = [one for one in yaml.safe_load_all(made.stdout) if one]
    return [
        one
        for one in objects
        if one["apiVersion"] == OPERATOR
        or one["metadata"]["name"] in ("pilotlight-alerts", "pilotlight-dashboard")
    ]


def test_without_the_prometheus_operator_there_are_config_maps_alone():
    assert [one["kind"] for one in monitoring()] == ["ConfigMap", "ConfigMap"]
    kinds = sorted(one["kind"] for one in monitoring(f"--api-versions={OPERATOR}"))
    assert kinds == ["ConfigMap", "ConfigMap", "PrometheusRule", "ServiceMonitor", "ServiceMonitor"]


def test_alerts_and_dashboard_are_the_files_of_the_chart():
    files = CHART / "files"
    alerts = yaml.safe_load((files / "alerts.yaml").read_text())
    rules, dashboards = 0, 0
    for one in monitoring(f"--api-versions={OPERATOR}"):
        data = one.get("data", {})
        if one["kind"] == "PrometheusRule":
            assert one["spec"] == alerts
        elif "alerts.yaml" in data:
            rules += 1
            assert yaml.safe_load(data["alerts.yaml"]) == alerts
        elif "pilotlight.json" in data:
            dashboards += 1
            assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
            assert json.loads(data["pilotlight.json"]) == json.loads((files / "dashboard.json").read_text())
    assert (rules, dashboards) == (1, 1)


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


def roles(*options):
    made = template("--show-only=templates/roles.yaml", *options)
    assert made.returncode == 0, made.stderr
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(made.stdout) if one}


def granted(role):
    """`VERB RESOURCE` for each right."""
    return {
        f"{verb} {resource}"
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


def test_the_roles_grant_each_right_that_gateways_ask_for():
    source = (REPOSITORY / "operator/core/src/access/right.rs").read_text()
    verbs = set(re.findall(r'Verb::\w+ => "(\w+)"', source))
    subresources = set(re.findall(r'Resource::\w+ => Some\("(\w+)"\)', source))
    # These are asked for of logs alone.
    changes = {"update", "delete"}
    asked = {f"{verb} functions" for verb in verbs - changes} | {
        f"get functions/{one}" for one in subresources
    }
    asked |= {f"{verb} functions/logs" for verb in verbs & changes}
    made = roles()
    assert asked == {
        "invoke functions",
        "get functions",
        "list functions",
        "get functions/environment",
        "get functions/logs",
        "update functions/logs",
        "delete functions/logs",
    }
    assert asked <= granted(made["pilotlight-edit"])
    assert granted(made["pilotlight-invoke"]) == {"invoke functions"}
    # Who only reads neither runs code nor sees values.
    assert asked & granted(made["pilotlight-view"]) == {
        "get functions",
        "list functions",
        "get functions/logs",
    }
    assert {right.split()[0] for right in granted(made["pilotlight-view"])} == {"get", "list", "watch"}


def test_the_usual_roles_take_pilotlights_in_and_helm_never_deletes_them():
    into = {}
    for name, role in roles().items():
        labels = role["metadata"]["labels"]
        into[name] = {
            label.rpartition("-")[2]
            for label, value in labels.items()
            if "/aggregate-to-" in label and value == "true"
        }
        assert role["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert into == {
        "pilotlight-view": {"view", "edit", "admin"},
        "pilotlight-invoke": {"edit", "admin"},
        "pilotlight-edit": {"edit", "admin"},
    }
    # They belong to the cluster, as the definitions.
    assert "/aggregate-to-" not in template("--set=crds.install=false").stdout


def namespaces(*options):
    """The namespaces that the chart makes, and the one that the parts serve."""
    made = template(*options)
    assert made.returncode == 0, made.stderr
    objects = [one for one in yaml.safe_load_all(made.stdout) if one]
    [served] = set(re.findall(r"--namespace=(\S+)", made.stdout))
    made = [one["metadata"] for one in objects if one["kind"] == "Namespace"]
    # Access keys have a namespace too.
    ours = [one for one in made if one["labels"]["app.kubernetes.io/component"] == "functions"]
    return {one["name"]: one for one in ours}, served


def test_functions_have_a_namespace_of_their_own_that_helm_never_deletes():
    made, served = namespaces()
    assert served == "system-functions"
    [metadata] = made.values()
    assert metadata["name"] == served
    assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert namespaces("--set=functionNamespace=shop")[1] == "shop"
    assert list(namespaces("--set=functionNamespace=shop")[0]) == ["shop"]


@pytest.mark.parametrize(
    "options", [["--set=functionNamespace=system"], ["--set=createFunctionNamespace=false"]]
)
def test_the_chart_makes_no_namespace_that_is_the_releases_or_somebody_elses(options):
    assert namespaces(*options)[0] == {}


def test_the_namespace_of_the_longest_name_has_a_name_too():
    made = template(namespace="n" * 63)
    assert made.returncode == 0, made.stderr
    assert f"--namespace={'n' * 53}-functions" in made.stdout


def test_the_values_of_an_earlier_release_make_a_namespace_too():
    """`--reuse-values` brings values without `createFunctionNamespace`."""
    assert namespaces("--set=createFunctionNamespace=null") == namespaces()


def test_the_values_of_an_earlier_release_ask_callers_too():
    """`--reuse-values` brings values without `auth`."""
    assert template("--set=auth=null").stdout == template().stdout


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


def test_a_small_pool_for_each_runtime_is_the_default_and_a_value_switches_it_off():
    assert "--default-pool-size=1\n" in template().stdout
    assert "--default-pool-size=0\n" in template("--set=defaultWarmPools.size=0").stdout
    # Values of an earlier release (`--reuse-values`) do not have it.
    assert "--default-pool-size" not in template("--set-json=defaultWarmPools=null").stdout


def test_an_object_of_the_release_owns_the_default_pools():
    source = (REPOSITORY / "operator/controller/src/reconcile/apply.rs").read_text()
    owner = re.search(r'POOLS_OWNER: &str = "(.*)"', source)[1]
    rights = template("--show-only=templates/rbac.yaml").stdout
    assert f"resources: [rolebindings]\n    resourceNames: [{owner}]\n" in rights
    made = [one for one in yaml.safe_load_all(rights) if one]
    assert ("RoleBinding", owner) in {(one["kind"], one["metadata"]["name"]) for one in made}


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


def policies(*options):
    made = template("--show-only=templates/networkpolicy.yaml", *options)
    assert made.returncode == 0, made.stderr
    return {one["metadata"]["name"]: one["spec"] for one in yaml.safe_load_all(made.stdout) if one}


def test_pods_with_a_service_account_are_selected_as_the_code_labels_them():
    source = (REPOSITORY / "operator/api/src/labels.rs").read_text()
    label, value = (re.search(rf'{name}: &str = "(.*)"', source)[1] for name in ("SERVICE_ACCOUNT", "OWN"))
    made = policies('--set-json=functions.egress.apiServer=["192.0.2.10/32"]')
    [everywhere, dns] = made["pilotlight-functions"]["egress"]
    excepted = [peer["ipBlock"]["except"] for peer in everywhere["to"] if "ipBlock" in peer]
    assert excepted == [["169.254.0.0/16", "192.0.2.10/32"], ["fd00:ec2::254/128"]]
    assert "to" not in dns and {port["port"] for port in dns["ports"]} == {53}
    added = made["pilotlight-functions-api-server"]
    assert added["podSelector"]["matchLabels"][label] == value
    assert added["egress"] == [{"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]}]


def test_without_ranges_functions_may_connect_anywhere():
    made = policies('--set-json=functions.egress={"deny": [], "apiServer": []}')
    assert not any("egress" in spec for spec in made.values())


@pytest.mark.parametrize("release", ["pilotlight", "pilotlight-functions", "functions", "r" * 53])
def test_no_two_objects_of_a_release_have_one_name(release):
    made = template("--set=crds.install=false", namespace="system", release=release)
    assert made.returncode == 0, made.stderr
    named = re.findall(r"^kind: (\w+)\nmetadata:\n  name: (.*)$", made.stdout, re.MULTILINE)
    assert len(named) == len(set(named)) == made.stdout.count("\nkind: "), named
    assert all(len(name) <= 63 for _, name in named), named


def component(name, *options):
    """The arguments of a Deployment's container, and the ports of the gateways' Service."""
    rendered = template("--set=crds.install=false", *options)
    assert rendered.returncode == 0, rendered.stderr
    named = {
        (each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered.stdout) if each
    }
    container = named["Deployment", f"pilotlight-{name}"]["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["port"] for port in named["Service", "pilotlight-gateway"]["spec"]["ports"]}
    return container["args"], ports


def test_the_controller_signs_for_the_services_names_unless_somebody_else_brings_a_certificate():
    arguments, ports = component(
        "controller", "--set=gateway.tls.hosts={functions.example,192.0.2.7,localhost}"
    )
    names = [each.partition("=")[2] for each in arguments if each.startswith("--tls-name=")]
    service = ("pilotlight-gateway", "pilotlight-gateway.system", "pilotlight-gateway.system.svc")
    own = [*service, f"{service[-1]}.cluster.local", "localhost", "127.0.0.1"]
    assert names == [*own, "functions.example", "192.0.2.7"]
    assert ports == {"api": 80, "https": 443}
    assert {"--tls-secret=pilotlight-tls", "--authorities-config-map=pilotlight-ca"} <= {*arguments}

    arguments, _ = component("controller", "--set=gateway.tls.secretName=mine")
    assert "--tls-secret=mine" in arguments
    assert not [each for each in arguments if each.startswith(("--tls-name=", "--authorities-config-map="))]


def test_plain_text_needs_an_explicit_value():
    for name in ("gateway", "controller"):
        arguments, _ = component(name)
        assert "--tls=required" in arguments
        arguments, ports = component(name, "--set=gateway.tls.mode=off")
        assert "--tls=off" in arguments and ports == {"api": 80}
        assert not [each for each in arguments if each.startswith("--tls-")]
    # A release whose gateways are not known to speak TLS, as `helm template` sees any.
    arguments, _ = component("gateway", "--is-upgrade")
    assert "--tls=optional" in arguments


def log_store(*options):
    """The objects of the store of logs, and the gateways' arguments about it."""
    made = template("--set=crds.install=false", *options)
    assert made.returncode == 0, made.stderr
    objects = {}
    for one in yaml.safe_load_all(made.stdout):
        if one and one["metadata"]["name"] == "pilotlight-logs":
            objects[one["kind"]] = one
    arguments, _ = component("gateway", *options)
    return objects, [each for each in arguments if each.startswith("--log-store")]


def test_the_store_of_logs_is_reached_by_gateways_alone_and_with_a_password():
    objects, arguments = log_store()
    assert arguments == [
        "--log-store=http://pilotlight-logs.system:9428",
        "--log-store-flush-interval=1",
        "--log-store-tenant=0:0",
        "--log-store-secret=pilotlight-logs",
        "--log-store-pod=pilotlight-logs-0",
    ]
    assert "data" not in objects["Secret"], "the controller fills it"
    [rule] = objects["NetworkPolicy"]["spec"]["ingress"]
    [peer] = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert objects["NetworkPolicy"]["spec"]["egress"] == []
    [container] = objects["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert "-httpAuth.password=file:///etc/victoria-logs/password" in container["args"]
    assert "--log-store-secret=pilotlight-logs" in component("controller")[0]
    assert "NetworkPolicy" not in log_store("--set=networkPolicy.enabled=false")[0]


def event_queue(*options):
    """The objects of the event queue, and the gateways' arguments about it."""
    made = template("--set=crds.install=false", *options)
    assert made.returncode == 0, made.stderr
    objects = {}
    for one in yaml.safe_load_all(made.stdout):
        if one and one["metadata"]["name"] == "pilotlight-events":
            objects[one["kind"]] = one
    arguments, _ = component("gateway", *options)
    return objects, [each for each in arguments if each.startswith("--event-queue")]


def test_the_event_queue_is_reached_by_gateways_alone_and_syncs_each_message():
    objects, arguments = event_queue()
    assert arguments == [
        "--event-queue=nats://pilotlight-events.system:4222",
        "--event-queue-prefix=pilotlight",
        "--event-queue-replicas=1",
        # Seven tenths of the volume.
        "--event-queue-size=7168Mi",
        "--event-queue-credentials=/etc/pilotlight/events",
    ]
    assert "data" not in objects["Secret"], "the controller fills it"
    assert "--event-queue-secret=pilotlight-events" in component("controller")[0]
    [rule] = objects["NetworkPolicy"]["spec"]["ingress"]
    [peer] = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert objects["NetworkPolicy"]["spec"]["egress"] == []
    config = objects["ConfigMap"]["data"]["nats.conf"]
    assert "sync_interval: always" in config and "max_payload: 2MB" in config
    assert "password: $PILOTLIGHT_EVENTS_PASSWORD" in config
    [claim] = objects["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    objects, _ = event_queue("--set=events.queue.volume=false")
    assert "volumeClaimTemplates" not in objects["StatefulSet"]["spec"]


def test_an_event_queue_can_be_somebody_elses_or_none():
    objects, arguments = event_queue(
        "--set=events.queue.url=tls://nats.example",
        "--set=events.queue.secretName=a",
        "--set=events.queue.replicas=3",
    )
    assert objects == {}
    assert arguments == [
        "--event-queue=tls://nats.example",
        "--event-queue-prefix=pilotlight",
        "--event-queue-replicas=3",
        "--event-queue-size=1Gi",
        "--event-queue-credentials=/etc/pilotlight/events",
    ]
    assert event_queue("--set=events.queue.install=false") == ({}, [])
    # `--reuse-values` brings values without `events`.
    objects, arguments = event_queue("--set=events=null")
    assert set(objects) == set(event_queue()[0]) and arguments == event_queue()[1]


def test_the_store_of_logs_has_a_volume_unless_a_value_says_otherwise():
    objects, _ = log_store("--set=logs.store.size=10Gi", "--set=logs.store.storageClass=fast")
    spec = objects["StatefulSet"]["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert claim["spec"]["storageClassName"] == "fast"
    # Four fifths, so that the oldest days go before it is full.
    [container] = spec["template"]["spec"]["containers"]
    assert "-retention.maxDiskSpaceUsageBytes=8192MiB" in container["args"]

    objects, _ = log_store("--set=logs.store.volume=false")
    spec = objects["StatefulSet"]["spec"]
    assert "volumeClaimTemplates" not in spec
    assert {"name": "data", "emptyDir": {"sizeLimit": "20Gi"}} in spec["template"]["spec"]["volumes"]


def test_a_store_of_logs_can_be_somebody_elses_or_none():
    objects, arguments = log_store(
        "--set=logs.store.url=https://logs.example/x", "--set=logs.store.secretName=a"
    )
    assert objects == {}
    assert arguments == [
        "--log-store=https://logs.example/x",
        "--log-store-flush-interval=5",
        "--log-store-tenant=0:0",
        "--log-store-secret=a",
    ]
    assert (
        "a]"
        in template(
            "--show-only=templates/identity.yaml", "--set=logs.store.url=http://b,logs.store.secretName=a"
        ).stdout
    )
    assert log_store("--set=logs.store.install=false") == ({}, [])


def test_the_values_of_an_earlier_release_have_a_store_of_logs_too():
    """`--reuse-values` brings values without `logs`."""
    objects, arguments = log_store("--set=logs=null")
    assert set(objects) == set(log_store()[0]) and arguments == log_store()[1]
