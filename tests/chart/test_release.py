"""The chart and a real API server: validation, install, upgrade, rollback, uninstall, rights.

No test waits for a pod, since the images need not exist. Only `helm test` needs them, and is skipped
without them.
"""

import json
import uuid

import pytest
import yaml

from tests.chart.helm import NO_DEFAULTS, good, run, template
from tests.harness.kubectl import TIMEOUT
from tests.harness.paths import CHART, REPOSITORY
from tests.harness.patience import until
from tests.harness.release import IMAGES, VERSION

DEFINITIONS = ("functions.pilotlight.dev", "warmpools.pilotlight.dev", "schedules.pilotlight.dev")
OWNERSHIP = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "helm.sh/resource-policy")
KINDS = "deployments,statefulsets,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"
MADE = {
    "system": {
        "Deployment/pilotlight-controller",
        "Deployment/pilotlight-gateway",
        "NetworkPolicy/pilotlight-controller",
        "NetworkPolicy/pilotlight-events",
        "NetworkPolicy/pilotlight-gateway",
        "NetworkPolicy/pilotlight-logs",
        "PodDisruptionBudget/pilotlight-controller",
        "PodDisruptionBudget/pilotlight-gateway",
        "Role/pilotlight-authority",
        "Role/pilotlight-ca",
        "Role/pilotlight-gateways",
        "Role/pilotlight-identity",
        "Role/pilotlight-logs",
        "Role/pilotlight-peers",
        "RoleBinding/pilotlight-authority",
        "RoleBinding/pilotlight-ca",
        "RoleBinding/pilotlight-gateways",
        "RoleBinding/pilotlight-identity",
        "RoleBinding/pilotlight-logs",
        "RoleBinding/pilotlight-peers",
        "Service/pilotlight-events",
        "Service/pilotlight-gateway",
        "Service/pilotlight-logs",
        "Service/pilotlight-parts",
        "ServiceAccount/pilotlight-controller",
        "ServiceAccount/pilotlight-gateway",
        "StatefulSet/pilotlight-events",
        "StatefulSet/pilotlight-logs",
    },
    "functions": {
        "NetworkPolicy/pilotlight-functions",
        "NetworkPolicy/pilotlight-instances",
        "Role/pilotlight-functions-controller",
        "Role/pilotlight-functions-gateway",
        "RoleBinding/pilotlight-functions-controller",
        "RoleBinding/pilotlight-functions-gateway",
    },
}

RIGHTS = {
    # account: what it may do in (the Functions' namespace, the release's, the whole cluster)
    "gateway": (
        {
            "functions.pilotlight.dev": "get list watch",
            "schedules.pilotlight.dev": "list watch",
            "schedules.pilotlight.dev/status": "patch",
            "pods": "get list watch",
            "configmaps": "list watch",
        },
        {
            "endpointslices.discovery.k8s.io": "get list watch",
            # Whether the store of the logs is ready.
            "pods [pilotlight-logs-0]": "get",
            "secrets [pilotlight-identity]": "get list watch",
            "secrets [pilotlight-logs]": "get list watch",
            "secrets [pilotlight-sessions]": "get list watch",
            "secrets [pilotlight-tls]": "get list watch",
            # As every account.
            "configmaps [pilotlight-ca]": "get list watch",
        },
        # In the whole cluster.
        {
            "tokenreviews.authentication.k8s.io": "create",
            "subjectaccessreviews.authorization.k8s.io": "create",
        },
    ),
    "controller": (
        {
            "functions.pilotlight.dev": "list watch",
            "functions.pilotlight.dev/status": "patch",
            "warmpools.pilotlight.dev": "list watch create patch delete",
            "warmpools.pilotlight.dev/status": "patch",
            "pods": "list watch create patch delete",
            "pods/resize": "patch",
            "configmaps": "list watch create patch delete",
            "events.events.k8s.io": "create patch",
            "leases.coordination.k8s.io": "create",
            "leases.coordination.k8s.io [pilotlight-controller]": "get list watch patch",
            "rolebindings.rbac.authorization.k8s.io [pilotlight-functions-controller]": "get",
        },
        {
            "endpointslices.discovery.k8s.io": "list watch",
            "pods": "get",
            "secrets [pilotlight-authority]": "get list watch patch",
            "secrets [pilotlight-events]": "get list watch patch",
            "secrets [pilotlight-identity]": "get list watch patch",
            "secrets [pilotlight-logs]": "get list watch patch",
            "secrets [pilotlight-sessions]": "get list watch patch",
            "secrets [pilotlight-tls]": "get list watch patch",
            "configmaps [pilotlight-ca]": "get list watch patch",
        },
        {},
    ),
}


def helm(word, namespaces, *options, release="pilotlight"):
    """`install` and the like, without waiting for a pod."""
    return run("helm", word, release, f"--namespace={namespaces[0]}", "--wait=false", *options)


def install(namespaces, *options, word="install", release="pilotlight"):
    """Without the definitions, which other suites on the cluster need as well."""
    settings = (
        *NO_DEFAULTS,
        f"--set=functionNamespace={namespaces[1]}",
        "--set=crds.install=false",
        "--set=defaultWarmPools.size=0",
    )
    return helm(word, namespaces, CHART, *settings, *options, release=release)


def apply_definitions():
    """As an installation of the time before definitions were templates has them: nobody owns them."""
    good("kubectl", "apply", "--server-side", "--force-conflicts", f"--filename={REPOSITORY}/crds")
    for name in DEFINITIONS:
        marks = [f"{mark}-" for mark in OWNERSHIP]
        good("kubectl", "annotate", "crd", name, *marks)
        good("kubectl", "label", "crd", name, "app.kubernetes.io/managed-by-")


def definition(name):
    return json.loads(good("kubectl", "get", "crd", name, "--output=json"))


def objects(namespace):
    listed = json.loads(good("kubectl", "get", KINDS, f"--namespace={namespace}", "--output=json"))
    named = {f"{item['kind']}/{item['metadata']['name']}": item for item in listed["items"]}
    return {name: item for name, item in named.items() if name != "ServiceAccount/default"}


def region(namespaces):
    gateway = objects(namespaces[0])["Deployment/pilotlight-gateway"]
    arguments = gateway["spec"]["template"]["spec"]["containers"][0]["args"]
    return [argument for argument in arguments if argument.startswith("--region=")]


@pytest.mark.parametrize(
    "options",
    [
        [],
        # The Prometheus operator's kinds are not in this cluster.
        [
            f"--values={REPOSITORY}/tests/chart/all.values.yaml",
            "--skip-schema-validation",
            "--set=serviceMonitor.enabled=false",
        ],
    ],
)
def test_a_real_api_server_accepts_every_object(namespaces, options):
    system, functions = namespaces
    # What a dry run makes is not there for what comes after it: WarmPools, the test's pod, roles about access keys.
    apply_definitions()
    good("kubectl", "create", "serviceaccount", "pilotlight-test", f"--namespace={system}")
    keys = yaml.safe_load((CHART / "values.yaml").read_text())["auth"]["accessKeys"]["namespace"]
    run("kubectl", "create", "namespace", keys)
    made = template(*options, f"--set=functionNamespace={functions}", namespace=system)
    assert made.returncode == 0, made.stderr
    told = good("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=made.stdout)
    assert len(told.splitlines()) == made.stdout.count("\nkind: "), told


def test_installed_upgraded_rolled_back_and_removed(namespaces):
    def made():
        return {"system": set(objects(namespaces[0])), "functions": set(objects(namespaces[1]))}

    assert made() == {"system": set(), "functions": set()}
    done = install(namespaces)
    assert done.returncode == 0, done.stderr
    assert f"-n {namespaces[0]} service/pilotlight-gateway 7070:443" in done.stdout
    assert made() == MADE and region(namespaces) == ["--region=us-east-1"]

    done = install(namespaces, "--set=region=eu-west-1", "--set=networkPolicy.enabled=false", word="upgrade")
    assert done.returncode == 0, done.stderr
    without = {
        place: {name for name in names if "NetworkPolicy" not in name} for place, names in MADE.items()
    }
    assert made() == without and region(namespaces) == ["--region=eu-west-1"]

    done = helm("rollback", namespaces, "1")
    assert done.returncode == 0, done.stderr
    assert made() == MADE and region(namespaces) == ["--region=us-east-1"]

    done = run("helm", "uninstall", "pilotlight", f"--namespace={namespaces[0]}")
    assert done.returncode == 0, done.stderr
    assert made() == {"system": set(), "functions": set()}
    good("kubectl", "get", "crd", *DEFINITIONS)


def test_definitions_without_an_owner_are_adopted_upgraded_and_kept(namespaces):
    """An upgrade from a chart whose definitions lay in its folder crds: one option, once."""
    apply_definitions()
    done = install(namespaces)
    assert done.returncode == 0, done.stderr
    # An older definition lacks a field, which the API server would drop from every Function.
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/layers"
    removal = json.dumps([{"op": "remove", "path": path}])
    good("kubectl", "patch", "crd", DEFINITIONS[0], "--type=json", f"--patch={removal}")
    upgrade = ("--set=crds.install=true",)
    refused = install(namespaces, *upgrade, word="upgrade")
    assert refused.returncode != 0 and "invalid ownership metadata" in refused.stderr, refused.stderr
    done = install(namespaces, *upgrade, "--take-ownership", word="upgrade")
    assert done.returncode == 0, done.stderr
    for name in DEFINITIONS:
        metadata = definition(name)["metadata"]
        assert metadata["annotations"]["meta.helm.sh/release-namespace"] == namespaces[0]
    spec = definition(DEFINITIONS[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
        "spec"
    ]
    assert "layers" in spec["properties"]
    # From then on no option.
    done = install(namespaces, *upgrade, "--set=region=eu-west-1", word="upgrade")
    assert done.returncode == 0, done.stderr
    the_usual_roles_include_pilotlights(namespaces[1])

    second = install([f"{namespaces[0]}-b", namespaces[1]], *upgrade, "--create-namespace", release="second")
    assert second.returncode != 0, second.stdout
    assert f"belongs to release pilotlight in namespace {namespaces[0]}" in second.stderr, second.stderr
    assert "crds.install=false" in second.stderr

    uids = [definition(name)["metadata"]["uid"] for name in DEFINITIONS]
    done = run("helm", "uninstall", "pilotlight", f"--namespace={namespaces[0]}")
    assert done.returncode == 0, done.stderr
    assert [definition(name)["metadata"]["uid"] for name in DEFINITIONS] == uids
    run("kubectl", "delete", "namespace", f"{namespaces[0]}-b", "--wait=false")
    apply_definitions()


# What a user with a usual role of Kubernetes may do with Functions: verb, resource and subresource.
USUAL = {
    "view": ["get functions", "list warmpools", "list schedules", "get functions logs"],
    "edit": [
        "get functions environment",
        "invoke functions",
        "create functions",
        "delete warmpools",
        "create schedules",
    ],
}
USUAL["admin"] = USUAL["edit"] = [*USUAL["view"], *USUAL["edit"]]


def the_usual_roles_include_pilotlights(namespace):
    for role in USUAL:
        binding = ("create", "rolebinding", f"a-{role}", f"--clusterrole={role}", f"--user=a-{role}")
        good("kubectl", *binding, f"--namespace={namespace}")

    def may(role, right):
        verb, resource, *subresource = right.split()
        words = ("auth", "can-i", verb, f"{resource}.pilotlight.dev", f"--as=a-{role}")
        options = [f"--subresource={one}" for one in subresource]
        return run("kubectl", *words, *options, f"--namespace={namespace}").stdout.strip() == "yes"

    for role, rights in USUAL.items():
        for right in rights:
            # The controller manager adds up roles, some time after their change.
            until(lambda: may(role, right), f"{role}: {right}")
    for right in set(USUAL["edit"]) - set(USUAL["view"]):
        assert not may("view", right), right


def test_a_namespace_of_functions_belongs_to_one_release(namespaces):
    assert install(namespaces).returncode == 0
    second = install(namespaces, release="second")
    assert second.returncode != 0
    # An object in the Functions' namespace bars it, and none that all releases share.
    assert f'in namespace "{namespaces[1]}" exists and cannot be imported' in second.stderr, second.stderr
    assert run("helm", "uninstall", "pilotlight", f"--namespace={namespaces[0]}").returncode == 0


FUNCTION = """
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: kept}
spec: {runtime: python3.11, code: {inline: {lambda_function.py: "def lambda_handler(event, context): return 1"}}}
"""


def served(namespace):
    controller = objects(namespace)["Deployment/pilotlight-controller"]
    arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"]
    [argument] = [one for one in arguments if one.startswith("--namespace=")]
    return argument.removeprefix("--namespace=")


def uid(kind, name, *options):
    return good("kubectl", "get", kind, name, "--output=jsonpath={.metadata.uid}", *options)


@pytest.fixture
def alone(cluster):
    """The name of a namespace for a release that makes everything by itself."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    yield name
    run("kubectl", "delete", "namespace", name, f"{name}-functions", "--ignore-not-found", "--wait=false")


def install_alone(namespace, *options, word="install"):
    settings = [
        *NO_DEFAULTS,
        "--set=crds.install=false",
        *(["--create-namespace"] if word == "install" else []),
    ]
    done = helm(word, [namespace], CHART, *settings, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_functions_have_a_namespace_of_their_own_and_stay_in_it(alone):
    apply_definitions()
    functions = f"{alone}-functions"
    printed = install_alone(alone)
    assert served(alone) == functions and f"-n {functions} -f function.yaml" in printed
    assert "Pod Security does not hold" not in printed
    assert MADE["functions"] == set(objects(functions)) and MADE["system"] == set(objects(alone))
    labels = json.loads(
        good("kubectl", "get", "namespace", functions, "--output=jsonpath={.metadata.labels}")
    )
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    good("kubectl", "apply", f"--namespace={functions}", "--filename=-", stdin=FUNCTION)
    before = uid("function", "kept", f"--namespace={functions}")

    for options in ([], ["--reuse-values"], ["--set=region=eu-west-1"]):
        install_alone(alone, *options, word="upgrade")
        assert served(alone) == functions, options

    assert run("helm", "uninstall", "pilotlight", f"--namespace={alone}").returncode == 0
    assert uid("function", "kept", f"--namespace={functions}") == before
    install_alone(alone)
    assert served(alone) == functions
    assert uid("function", "kept", f"--namespace={functions}") == before
    assert run("helm", "uninstall", "pilotlight", f"--namespace={alone}").returncode == 0


def test_an_upgrade_and_a_new_installation_keep_the_namespace_that_has_the_functions(alone):
    """An earlier release served the Functions of its own namespace unless a value said otherwise."""
    apply_definitions()
    install_alone(alone, f"--set=functionNamespace={alone}")
    good("kubectl", "apply", f"--namespace={alone}", "--filename=-", stdin=FUNCTION)
    before = uid("function", "kept", f"--namespace={alone}")
    everything = set(objects(alone))
    assert everything == MADE["system"] | MADE["functions"]

    printed = install_alone(alone, "--set=functionNamespace=", word="upgrade")
    assert served(alone) == alone and set(objects(alone)) == everything
    assert f"kubectl label namespace {alone} pod-security" in printed

    assert run("helm", "uninstall", "pilotlight", f"--namespace={alone}").returncode == 0
    install_alone(alone)
    assert served(alone) == alone and uid("function", "kept", f"--namespace={alone}") == before
    assert run("kubectl", "get", "namespace", f"{alone}-functions").returncode != 0
    assert run("helm", "uninstall", "pilotlight", f"--namespace={alone}").returncode == 0


def test_controller_and_gateway_may_do_what_they_need_and_no_more(namespaces):
    done = install(namespaces)
    assert done.returncode == 0, done.stderr
    for account, (in_functions, in_system, everywhere) in RIGHTS.items():
        who = f"--as=system:serviceaccount:{namespaces[0]}:pilotlight-{account}"
        for namespace, rights in zip(reversed(namespaces), (in_functions, in_system), strict=True):
            listed = good(
                "kubectl", "auth", "can-i", "--list", who, f"--namespace={namespace}", "--no-headers"
            )
            granted = {}
            for line in listed.splitlines():
                resource, verbs = line.split()[0], line[line.rindex("[") + 1 : -1]
                names = line.split("[")[2].split("]")[0]
                resource += f" [{names}]" if names else ""
                if not resource.startswith(("[", "selfsubject")):
                    granted[resource] = set(verbs.split())
            wanted = {name: set(verbs.split()) for name, verbs in (rights | everywhere).items()}
            assert granted == wanted, (account, namespace)
    assert run("helm", "uninstall", "pilotlight", f"--namespace={namespaces[0]}").returncode == 0


def test_helm_test_fails_only_for_a_gateway_that_does_not_answer(namespaces):
    images = {name: f"{IMAGES}/{name}:{VERSION}" for name in ("pilotlight", "custom")}
    if not all(is_on_the_nodes(image, namespaces[0]) for image in images.values()):
        pytest.skip("no images on the nodes: `runtime-image/build archives`, `cluster load`")
    chosen = [f"--set=image={images['pilotlight']}", f"--set=runtimeImages.custom={images['custom']}"]
    done = install(namespaces, *chosen)
    assert done.returncode == 0, done.stderr
    system = f"--namespace={namespaces[0]}"
    good("kubectl", "rollout", "status", "deployment", system, TIMEOUT)
    asked = helm_test(system)
    assert asked.returncode == 0 and "Succeeded" in asked.stdout, asked.stdout + asked.stderr
    good("kubectl", "scale", "deployment/pilotlight-gateway", "--replicas=0", system)
    good(
        "kubectl",
        "wait",
        "--for=delete",
        "pod",
        "--selector=app.kubernetes.io/component=gateway",
        system,
        TIMEOUT,
    )
    asked = helm_test(system)
    assert asked.returncode != 0 and "Failed" in asked.stdout, asked.stdout + asked.stderr
    assert run("helm", "uninstall", "pilotlight", system).returncode == 0


def test_a_new_installation_starts_warm_and_its_pools_go_with_it(namespaces):
    images = {name: f"{IMAGES}/{name}:{VERSION}" for name in ("pilotlight", "custom")}
    if not all(is_on_the_nodes(image, namespaces[0]) for image in images.values()):
        pytest.skip("no images on the nodes: `runtime-image/build archives`, `cluster load`")
    apply_definitions()
    chosen = [f"--set=image={images['pilotlight']}", f"--set=runtimeImages.custom={images['custom']}"]
    done = install(namespaces, *chosen, "--set=defaultWarmPools.size=1")
    assert done.returncode == 0, done.stderr
    functions = f"--namespace={namespaces[1]}"

    def pools():
        listed = json.loads(good("kubectl", "get", "warmpools", functions, "--output=json"))
        return {pool["metadata"]["name"]: pool.get("status", {}).get("ready") for pool in listed["items"]}

    state = ("kubectl", "get", "warmpools,pods", functions)
    until(lambda: pools() == {"default-custom": 1}, lambda: good(*state))
    # A pool of one's own for the same functions takes its place.
    own = {"runtime": "custom", "size": 0}
    done = install(
        namespaces,
        *chosen,
        f"--set-json=warmPools.own={json.dumps(own)}",
        "--set=defaultWarmPools.size=1",
        word="upgrade",
    )
    assert done.returncode == 0, done.stderr
    until(lambda: set(pools()) == {"own"}, lambda: good(*state))
    done = install(namespaces, *chosen, "--set=defaultWarmPools.size=1", word="upgrade")
    assert done.returncode == 0, done.stderr
    until(lambda: set(pools()) == {"default-custom"}, lambda: good(*state))
    assert run("helm", "uninstall", "pilotlight", f"--namespace={namespaces[0]}").returncode == 0
    until(lambda: pools() == {}, lambda: good(*state))


def is_on_the_nodes(image, namespace):
    """Whether a pod can have the image without a registry; what it then does is of no interest."""
    name = f"looks-for-{image.rpartition('/')[2].partition(':')[0]}"
    run_pod = ("kubectl", "run", name, f"--image={image}", f"--namespace={namespace}", "--restart=Never")
    good(*run_pod, "--image-pull-policy=Never", "--", "true")
    status = ("kubectl", "get", "pod", name, f"--namespace={namespace}", "--output=json")

    def found():
        for container in json.loads(good(*status))["status"].get("containerStatuses", []):
            if container["state"].get("waiting", {}).get("reason") == "ErrImageNeverPull":
                return "no"
            if container["imageID"]:
                return "yes"

    return until(found, lambda: good(*status)) == "yes"


def helm_test(system):
    return run("helm", "test", "pilotlight", system, TIMEOUT)
