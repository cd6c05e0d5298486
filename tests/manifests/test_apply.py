"""The answers of `kubectl apply` to a wrong Function: the field and the reason.

Each case of functions.json changes one field of a manifest that is otherwise
valid. The file reader gets the same table in operator/api/tests/agreement.rs;
the cases here are those on which only a cluster has a say.
"""

import json
from pathlib import Path

import pytest

from tests.harness.manifests import function

TABLE = json.loads((Path(__file__).parent / "functions.json").read_text())


def manifest(field=None, value=None):
    made = function("tested", "def lambda_handler(e, c): return e")
    if field:
        *path, last = field.split(".")
        place = made
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return json.dumps(made)


def refused(field, value, named, reason):
    return {"field": field, "value": value, "named": named, "reason": reason}


ONLY_IN_A_CLUSTER = [
    refused("spec.code", {"path": "./hello"}, "spec.code", "`path` is for local mode"),
    refused(
        "spec.code",
        {"inline": {"a": "x" * 120_000, "b": "x" * 100_000}},
        "spec.code.inline",
        "at most 200,000 characters together",
    ),
    refused(
        "spec.environment",
        {f"A{i}": "" for i in range(201)},
        "spec.environment",
        "must have at most 200 items",
    ),
    refused(
        "spec.environmentFrom",
        [{"secretRef": {"name": "a"}}] * 21,
        "spec.environmentFrom",
        "must have at most 20 items",
    ),
]


@pytest.mark.parametrize(
    "case",
    TABLE["refused"] + ONLY_IN_A_CLUSTER,
    ids=lambda case: f"{case['field']}={str(case['value'])[:40]}",
)
def test_a_bad_field_is_refused_with_its_name_and_the_reason(dry_run, case):
    applied = dry_run(manifest(case["field"], case["value"]))
    assert applied.returncode != 0, applied.stdout
    assert case["named"] in applied.stderr and case["reason"] in applied.stderr, applied.stderr


@pytest.mark.parametrize(
    "case", TABLE["accepted"], ids=lambda case: f"{case['field']}={str(case['value'])[:40]}"
)
def test_a_valid_one_is_accepted(dry_run, case):
    applied = dry_run(manifest(case["field"], case["value"]))
    assert applied.returncode == 0, applied.stderr
