"""The policy about authors against the definitions and the API server's limits, without a cluster."""

import re
from collections import Counter

import pytest
import yaml

from tests.chart.helm import template
from tests.harness.paths import REPOSITORY
from tests.harness.references import LISTED, PLAIN, REFERENCES, fields

# Costs that the API server allows to the expressions of one policy, to one expression, and takes for one question to the
# authorizer: RuntimeCELCostBudget and PerCallLimit of k8s.io/apiserver/pkg/apis/cel, checkCost in its pkg/cel/library.
RUNTIME_COST, CALL_COST, CHECK_COST = 10_000_000, 1_000_000, 350_000


def objects(*options):
    made = template("--show-only=templates/authors.yaml", *options)
    assert made.returncode == 0, made.stderr
    return [one for one in yaml.safe_load_all(made.stdout) if one]


def policies(*options):
    """`{ending of the name: spec}` of the policies."""
    named = {}
    for one in objects(*options):
        if one["kind"] == "ValidatingAdmissionPolicy":
            _, ending, *_ = one["metadata"]["name"].split(".")
            named[ending] = one["spec"]
    return named


def rules(*options):
    return [rule for spec in policies(*options).values() for rule in spec["validations"]]


def definition(kind):
    return yaml.safe_load((REPOSITORY / f"crds/{kind.lower()}.yaml").read_text())


@pytest.mark.parametrize("kind", PLAIN)
def test_each_field_has_a_rule_or_refers_to_nothing(kind):
    known = [f"spec.{field}" for field in PLAIN[kind].split()]
    known += [reference.field for reference in REFERENCES if reference.kind == kind]
    known += [field for of, field in LISTED if of == kind]
    twice = [field for field, times in Counter(known).items() if times > 1]
    assert fields(definition(kind)) == set(known) and not twice, (
        "a new field goes into tests/harness/references.py; if it names an object, an image, a node or a runtime "
        "class, charts/pilotlight/templates/authors.yaml needs a rule"
    )


def longest(reference):
    """How many entries the list may have in which the reference is."""
    head, within, _ = reference.field.partition("[]")
    if not within:
        return 1
    [version] = definition(reference.kind)["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    for name in head.split("."):
        schema = schema["properties"][name]
    return schema["maxItems"]


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda one: f"{one.kind} {one.field}")
def test_each_entry_that_a_list_may_have_has_a_rule(reference):
    messages = [rule.get("messageExpression", "") for rule in rules()]

    def ruled(index):
        field = reference.at(index)
        # What is in `spec.pod` of a Function is in `spec` of a WarmPool.
        within = field.removeprefix("spec.").removeprefix("pod.")
        begins = (f"'{field}: ' + variables.who", f"variables.at + '{within}: ' + variables.who")
        return sum(any(one in message for one in begins) for message in messages)

    entries = longest(reference)
    assert [ruled(index) for index in range(entries)] == [1] * entries
    assert entries == 1 or ruled(entries) == 0


def test_the_questions_of_each_policy_are_within_the_costs_that_the_api_server_allows():
    for name, spec in policies().items():
        asked = [rule["expression"].count(".check('") for rule in spec["validations"]]
        assert max(asked) * CHECK_COST < CALL_COST, name
        # An entry is a Secret or a ConfigMap, and each has a rule.
        worst = sum(asked) // 2 if name == "variables" else sum(asked)
        assert 0 < worst * CHECK_COST < 0.8 * RUNTIME_COST, (name, worst)


def test_it_holds_in_the_namespace_of_the_functions_alone_and_fails_closed():
    made = objects("--set=functionNamespace=functions")
    bindings = [one for one in made if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert len(bindings) * 2 == len(made) > 0
    for binding in bindings:
        assert binding["metadata"]["name"] == binding["spec"]["policyName"]
        assert binding["spec"]["validationActions"] == ["Deny"]
        selector = binding["spec"]["matchResources"]["namespaceSelector"]
        assert selector == {"matchLabels": {"kubernetes.io/metadata.name": "functions"}}
    for spec in policies("--set=functionNamespace=functions").values():
        assert spec["failurePolicy"] == "Fail"


def test_it_can_warn_or_be_left_out():
    for one in objects("--set=authors.policy=Warn"):
        assert one["spec"].get("validationActions", ["Warn"]) == ["Warn"]
    # helm: nothing to show.
    assert (
        "could not find template"
        in template("--show-only=templates/authors.yaml", "--set=authors.policy=none").stderr
    )


def test_the_values_of_an_earlier_release_mean_the_defaults():
    """`--reuse-values` brings values without `authors`."""
    assert objects("--set=authors=null") == objects()


def test_the_parts_and_secrets_are_named_as_the_chart_names_them():
    made = template(namespace="system", release="shop").stdout
    own = "\n".join(rule["expression"] for rule in rules())
    accounts = set(re.findall(r"kind: ServiceAccount\nmetadata:\n  name: (\S+)", template().stdout))
    secrets = set(re.findall(r"kind: Secret\nmetadata:\n  name: (\S+)", template().stdout))
    assert accounts and secrets
    for name in accounts | secrets:
        assert f'"{name}"' in own, name
    assert "system:serviceaccount:system:shop-pilotlight-gateway" in made


ALLOWED = [
    # value of the chart, the entries that the rules then have
    ("images", ["registry.example/team/*"]),
    ("nodeSelectors", ["pool=functions", "kubernetes.io/arch=*"]),
    ("tolerations", ["gpu", "dedicated=functions:NoSchedule"]),
    ("runtimeClasses", ["gvisor"]),
]


@pytest.mark.parametrize("name, entries", ALLOWED)
def test_an_allow_list_has_a_rule_unless_it_allows_everything(name, entries):
    def of(*listed):
        quoted = ", ".join(f'"{one}"' for one in listed)
        told = f"authors.allow.{name}."
        made = rules(f"--set-json=authors.allow.{name}=[{quoted}]")
        return [rule for rule in made if told in rule.get("messageExpression", "")]

    [rule] = of(*entries)
    for entry in entries:
        assert f'"{entry}"' in rule["expression"]
    assert of("*") == []
    [rule] = of()
    assert " []" in rule["expression"] or "[]." in rule["expression"]


def test_the_installations_own_runtime_class_is_allowed():
    [rule] = [
        rule
        for rule in rules("--set=functions.runtimeClassName=gvisor")
        if "runtimeClasses" in rule.get("messageExpression", "")
    ]
    assert '["gvisor"]' in rule["expression"]
