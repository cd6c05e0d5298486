"""Who may write which Functions: the writing user needs a right of his own on what they name.

Users are impersonated, each with the Roles of one test. What is only tried is a dry run, which the API server admits or
refuses as any write.
"""

import json
from contextlib import contextmanager

import pytest

from tests.harness import release
from tests.harness.commands import attempt
from tests.harness.kubectl import FUNCTIONS, apply, get, kubectl
from tests.harness.manifests import resource
from tests.harness.patience import until
from tests.harness.references import REFERENCES, SOURCE, spec_with
from tests.harness.release import RELEASE, SYSTEM
from tests.harness.state import ready_condition

OWN_SECRETS = [f"{RELEASE}-{ending}" for ending in ("authority", "identity", "sessions")]
OWN_ACCOUNTS = [f"{RELEASE}-{part}" for part in ("controller", "gateway", "test")]
GATEWAY = f"system:serviceaccount:{SYSTEM}:{RELEASE}-gateway"
AUTHOR, CHECKED = "pilotlight.dev/author", "pilotlight.dev/author-checked"
NAME = "authors-tried"
OWN_KINDS = ("functions", "warmpools", "schedules")

SECRETS = [one for one in REFERENCES if one.resource == "secrets"]
ACCOUNTS = [one for one in REFERENCES if one.resource == "serviceaccounts"]
DESTINATIONS = [one for one in SECRETS if one.field.startswith("spec.async.")]
SECRET, *_ = SECRETS


def named(reference):
    return f"{reference.kind} {reference.field}"


def tried(user, kind, spec, annotations=None, namespace=FUNCTIONS):
    """Why the API server refuses what the user writes; empty if it does not. `None` is the cluster's administrator."""
    one = resource(kind, NAME, spec)
    one["metadata"]["annotations"] = annotations or {}
    return said(
        user, "create", "--dry-run=server", "--filename=-", namespace=namespace, input=json.dumps(one)
    )


def said(user, *words, namespace=FUNCTIONS, **options):
    who = [f"--as={user}"] if user else []
    done = attempt("kubectl", f"--namespace={namespace}", *who, *words, **options)
    assert (done.returncode == 0) == (not done.stderr), done.stdout + done.stderr
    return done.stderr


def accepted(user, *args):
    """Returns once the API server accepts it: it notices a new Role some time later."""
    until(lambda: not tried(user, *args), lambda: tried(user, *args))


def refused(told, *words):
    assert "denied request" in told and all(word in told for word in words), told


@contextmanager
def granted(user, *rules, cluster_role=None):
    """The user has these rights in the namespace of the Functions, `(verb, resource, name or None)`, while `with` lasts."""
    # Names of Roles have no colon.
    name = f"authors-{abs(hash((user, rules, cluster_role)))}"
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}}
    role["rules"] = [
        {
            "apiGroups": ["pilotlight.dev" if resource in OWN_KINDS else ""],
            "resources": [resource],
            "verbs": [verb],
            **({"resourceNames": [one]} if one else {}),
        }
        for verb, resource, one in rules
    ]
    kind = "ClusterRole" if cluster_role else "Role"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": cluster_role or name},
        "subjects": [subject],
    }
    apply(role, binding)
    try:
        yield
    finally:
        kubectl("delete", f"role/{name}", f"rolebinding/{name}")


WRITES = [(verb, kind, None) for kind in OWN_KINDS for verb in ("get", "create", "patch")]


@pytest.fixture(scope="module", autouse=True)
def closed(installed):
    """The lists of an installation with default values, and users who may write Functions."""
    allow({})
    # The API server notices a new policy some time later.
    until(lambda: tried(None, "Function", ACCOUNTS[0].spec(OWN_ACCOUNTS[0])), "the policy is there")
    with granted("alice", *WRITES), granted("bob", *WRITES):
        for user in ("alice", "bob"):
            accepted(user, "Function", {"runtime": "python3.11", "code": {"inline": SOURCE}})
        yield
    release.install()


def allow(lists):
    closed = {"images": ["*"], "nodeSelectors": ["*"], "tolerations": [], "runtimeClasses": []}
    # The Secret that tests name may be read by gateways.
    release.install(
        f"--set-json=authors.allow={json.dumps({**closed, **lists})}",
        '--set-json=gateway.destinationSecrets=["authors-a"]',
    )


@pytest.fixture
def written():
    """Makes a Function as the cluster's administrator, and deletes it when the test is over."""
    made = set()

    def make(name, spec, annotations=None):
        made.add(name)
        one = resource("Function", name, spec)
        one["metadata"]["annotations"] = annotations or {}
        apply(one)
        return name

    yield make
    for name in made:
        kubectl("delete", "function", name)


@pytest.mark.parametrize("reference", REFERENCES, ids=named)
def test_a_reference_needs_the_authors_own_right(reference):
    spec = reference.spec("authors-a")
    *_, last = reference.verbs
    for verbs in ([], *([verb] for verb in reference.verbs)):
        with granted("carol", *WRITES, *((verb, reference.resource, "authors-a") for verb in verbs)):
            if verbs:
                accepted("carol", reference.kind, spec)
            else:
                accepted("carol", "Function", {"runtime": "python3.11", "code": {"inline": SOURCE}})
                refused(tried("carol", reference.kind, spec), "carol may not", f"{FUNCTIONS}/authors-a")
            # A right on one object is none on others.
            told = tried("carol", reference.kind, reference.spec("authors-b"))
            refused(told, f"{reference.at()}: carol may not", f"{FUNCTIONS}/authors-b", "ask for a Role")
            assert f"{' or '.join(reference.verbs)} on {reference.resource}" in told, told


LISTS = [one for one in REFERENCES if "[]" in one.field]


@pytest.mark.parametrize("reference", LISTS, ids=named)
def test_the_refusal_names_the_entry_of_the_list(reference):
    *_, verb = reference.verbs
    with granted("dave", *WRITES, (verb, reference.resource, "authors-a")):
        accepted("dave", reference.kind, reference.spec("authors-a", "authors-a"))
        told = tried("dave", reference.kind, reference.spec("authors-a", "authors-a", "authors-b"))
        refused(told, f"{reference.at(2)}: dave may not", f"{FUNCTIONS}/authors-b")


def test_an_author_of_as_many_references_as_a_function_may_have_is_admitted():
    """What the rules cost then is within the API server's limits."""
    names = [f"authors-{number}" for number in range(20)]
    spec = {
        "runtime": "python3.11",
        "code": spec_with("Function", "spec.code.archive.secretRef.name", names[0])["code"],
        "layers": spec_with("Function", "spec.layers[].secretRef.name", *names[:5])["layers"],
        "environmentFrom": [{"secretRef": {"name": name}} for name in names],
        "pod": {
            "serviceAccount": "authors-account",
            "imagePullSecrets": [{"name": name} for name in names[:10]],
        },
    }
    rights = [("get", "secrets", name) for name in names[:19]]
    # `use` and `impersonate` are what is asked last.
    with granted("erin", *WRITES, *rights, ("impersonate", "serviceaccounts", "authors-account")):
        until(
            lambda: "environmentFrom[19]" in tried("erin", "Function", spec),
            lambda: tried("erin", "Function", spec),
        )
        with granted("erin", ("get", "secrets", names[19])):
            accepted("erin", "Function", spec)
    rights = [("use", "secrets", name) for name in names[:10]]
    spec["environmentFrom"] = []
    with granted("erin", *WRITES, *rights, ("impersonate", "serviceaccounts", "authors-account")):
        accepted("erin", "Function", spec)


@pytest.mark.parametrize("reference", DESTINATIONS, ids=named)
def test_a_destination_has_a_secret_that_gateways_may_read(reference):
    told = tried(None, reference.kind, reference.spec("authors-b"))
    refused(
        told, f"{reference.at()}: gateways may not read the Secret authors-b", "gateway.destinationSecrets"
    )
    assert tried(None, reference.kind, reference.spec("authors-a")) == ""


@pytest.mark.parametrize("reference", SECRETS, ids=named)
def test_the_secrets_of_the_release_are_for_nobody(reference):
    for name in OWN_SECRETS:
        field = reference.at().partition("[")[0]
        refused(tried(None, reference.kind, reference.spec(name)), field, name, "whoever writes it")
    assert tried(None, reference.kind, reference.spec("authors-a")) == ""


@pytest.mark.parametrize("reference", ACCOUNTS, ids=named)
def test_the_accounts_of_the_release_are_for_nobody(reference):
    for name in OWN_ACCOUNTS:
        refused(tried(None, reference.kind, reference.spec(name)), reference.at(), name, "whoever writes it")
    assert tried(None, reference.kind, reference.spec("default")) == ""


def patched(user, name, change):
    return said(user, "patch", "function", name, "--type=merge", f"--patch={json.dumps(change)}")


def test_a_change_of_a_function_needs_the_right_on_what_it_already_names(written):
    """Otherwise new code would print the old Secret."""
    name = written("authors-changed", SECRET.spec("authors-a"))
    change = {"spec": {"code": {"inline": {"lambda_function.py": "import os; print(os.environ)"}}}}
    refused(patched("alice", name, change), "spec.environmentFrom[0].secretRef: alice", "authors-a")
    refused(patched("alice", name, {"spec": {"memory": 256}}), "alice", "authors-a")
    # What changes nothing of the spec is free.
    assert patched("alice", name, {"metadata": {"labels": {"team": "orders"}}}) == ""
    for finalizers in (["example.com/kept"], []):
        assert patched("alice", name, {"metadata": {"finalizers": finalizers}}) == ""
    with granted("alice", ("get", "secrets", "authors-a")):
        until(lambda: not patched("alice", name, change), lambda: patched("alice", name, change))
    # Without the reference it is as any other Function.
    refused(patched("bob", name, {"spec": {"memory": 512}}), "bob", "authors-a")
    assert patched("bob", name, {"spec": {"memory": 512, "environmentFrom": None}}) == ""


def test_the_controller_writes_the_status_of_what_it_has_no_right_to_name(written):
    name = written("authors-status", SECRET.spec("authors-absent"))

    def state():
        return get("function", name).get("status", {})

    generation = get("function", name)["metadata"]["generation"]
    until(lambda: state().get("observedGeneration") == generation, state)
    assert ready_condition(name)


LISTED = [
    # authors.allow, field, what the list allows, what it does not
    (
        "images",
        "code.image",
        ["registry.example/team/a:1", "registry.example/one:1"],
        ["registry.example/one:2", "b:1"],
    ),
    (
        "nodeSelectors",
        "nodeSelector",
        [{}, {"pool": "a", "zone": "z"}],
        [{"pool": "b"}, {"pool": "a", "disk": "ssd"}],
    ),
    (
        "tolerations",
        "tolerations",
        [
            [{"key": "gpu", "operator": "Exists"}, {"key": "gpu", "value": "a", "effect": "NoSchedule"}],
            [{"key": "dedicated", "value": "functions", "effect": "NoSchedule"}],
            [{"key": "spot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}],
        ],
        [
            [{"operator": "Exists"}],
            [{"key": "other", "operator": "Exists"}],
            [{"key": "dedicated", "value": "functions"}],
            [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            [{"key": "dedicated", "value": "database", "effect": "NoSchedule"}],
            [{"key": "spot", "operator": "Exists"}],
            [{"key": "gpu", "operator": "Exists"}, {"key": "other"}],
        ],
    ),
    ("runtimeClasses", "runtimeClassName", ["gvisor"], ["runc"]),
]
ENTRIES = {
    "images": ["registry.example/team/*", "registry.example/one:1"],
    "nodeSelectors": ["pool=a", "zone=*"],
    "tolerations": ["gpu", "dedicated=functions:NoSchedule", "spot:NoExecute"],
    "runtimeClasses": ["gvisor"],
}


def asking(kind, field, value):
    """A spec with this value of a field that the table calls as a pod does."""
    at = f"spec.{field}" if kind == "WarmPool" or field == "code.image" else f"spec.pod.{field}"
    return at, spec_with(kind, at, value)


def test_lists_bound_images_nodes_taints_and_runtime_classes():
    allow(ENTRIES)
    _, other = asking("Function", "runtimeClassName", "runc")
    until(lambda: "runtimeClasses" in tried(None, "Function", other), "the policy has the lists")
    accepted(None, *("Function", asking("Function", "runtimeClassName", "gvisor")[1]))
    for name, field, good, bad in LISTED:
        for kind in ("Function",) if field == "code.image" else ("Function", "WarmPool"):
            for value in good:
                assert tried(None, kind, asking(kind, field, value)[1]) == "", (kind, field, value)
            for value in bad:
                at, spec = asking(kind, field, value)
                refused(tried(None, kind, spec), f"{at}: ", "is not allowed here", f"authors.allow.{name}")


def test_by_default_taints_and_runtime_classes_are_closed_and_images_and_nodes_open():
    allow({})
    _, class_ = asking("Function", "runtimeClassName", "gvisor")
    until(lambda: tried(None, "Function", class_), "the policy has the lists")
    for name, field, good, _ in LISTED:
        told = tried(None, "Function", asking("Function", field, good[-1])[1])
        assert (f"authors.allow.{name}" in told) == (name in ("tolerations", "runtimeClasses")), told


def test_what_writes_for_others_is_the_author():
    """A GitOps controller: its own rights count, and nobody else's. Kubernetes' role `edit` and calls are all of them."""
    account = f"system:serviceaccount:{FUNCTIONS}:gitops"
    with granted(account, *WRITES):
        accepted(account, "Function", {"runtime": "python3.11", "code": {"inline": SOURCE}})
        for reference in REFERENCES:
            refused(tried(account, reference.kind, reference.spec("authors-a")), f"{account} may not")
        # `edit` includes calls where Pilotlight's own roles are installed, and this suite's release does not have them.
        with granted(account, cluster_role="edit"), granted(account, ("invoke", "functions", None)):
            for reference in REFERENCES:
                accepted(account, reference.kind, reference.spec("authors-a"))
            refused(tried(account, "Function", SECRET.spec(OWN_SECRETS[0])), "whoever writes it")


@pytest.mark.parametrize("reference", REFERENCES, ids=named)
def test_the_gateway_may_write_what_it_declares_to_have_checked(reference):
    spec = reference.spec("authors-a")
    declared = {AUTHOR: "alice", CHECKED: f"configmaps/authors-b {reference.resource}/authors-a"}
    with granted(GATEWAY, *WRITES):
        accepted(GATEWAY, reference.kind, spec, declared)
        refused(tried(GATEWAY, reference.kind, spec, {CHECKED: declared[CHECKED]}), AUTHOR)
        for checked in ("", f"{reference.resource}/authors-b", f"{reference.resource}/authors-ab"):
            told = tried(GATEWAY, reference.kind, spec, {AUTHOR: "alice", CHECKED: checked})
            refused(told, f"{reference.at()}: alice (by {CHECKED} of the gateway) may not", "authors-a")
    if reference in SECRETS:
        with granted(GATEWAY, *WRITES):
            own = {AUTHOR: "alice", CHECKED: f"secrets/{OWN_SECRETS[0]}"}
            refused(tried(GATEWAY, reference.kind, reference.spec(OWN_SECRETS[0]), own), "whoever writes it")


def test_a_right_of_the_gateway_itself_is_no_right_of_its_caller():
    with granted(GATEWAY, *WRITES, ("get", "secrets", "authors-a")):
        accepted(
            GATEWAY, "Function", SECRET.spec("authors-a"), {AUTHOR: "alice", CHECKED: "secrets/authors-a"}
        )
        refused(tried(GATEWAY, "Function", SECRET.spec("authors-a"), {AUTHOR: "alice"}), "alice", "authors-a")


def test_nobody_but_the_gateway_declares_an_author(written):
    plain = {"runtime": "python3.11", "code": {"inline": SOURCE}}
    for key in (AUTHOR, CHECKED):
        for user in (None, "alice"):
            refused(
                tried(user, "Function", plain, {key: "alice"}),
                "metadata.annotations",
                "only Pilotlight's gateway",
            )
    name = written("authors-declared", plain)
    refused(
        patched("alice", name, {"metadata": {"annotations": {AUTHOR: "bob"}}}), "only Pilotlight's gateway"
    )
    declare = {"metadata": {"annotations": {AUTHOR: "bob"}}}
    with granted(GATEWAY, *WRITES):
        until(lambda: not patched(GATEWAY, name, declare), lambda: patched(GATEWAY, name, declare))
    # Others may leave it and remove it.
    assert patched("alice", name, {"spec": {"memory": 256}}) == ""
    refused(
        patched("alice", name, {"metadata": {"annotations": {AUTHOR: "carol"}}}), "only Pilotlight's gateway"
    )
    assert patched("alice", name, {"metadata": {"annotations": {AUTHOR: None}}}) == ""


def test_functions_of_other_namespaces_are_none_of_this_release():
    assert tried(None, "Function", ACCOUNTS[0].spec(OWN_ACCOUNTS[0]), namespace="default") == ""
