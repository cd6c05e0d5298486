"""The answers of `kubectl apply` to a wrong Schedule: the field and the reason.

Each case of schedules.json changes one field of a manifest that is otherwise valid.
operator/api/tests/schedules.rs gives the same specs to the own types.
"""

import json
from pathlib import Path

import pytest

from tests.harness.manifests import schedule

TABLE = json.loads((Path(__file__).parent / "schedules.json").read_text())


def manifest(field, value):
    one = schedule("tested", "hello", start="2027-01-01T00:00:00Z")
    part, name = field.split(".")
    one[part][name] = value
    return json.dumps(one)


def named(case):
    return f"{case['field']}={str(case['value'])[:40]}"


@pytest.mark.parametrize("case", TABLE["refused"], ids=named)
def test_a_bad_field_is_refused_with_its_name_and_the_reason(dry_run, case):
    applied = dry_run(manifest(case["field"], case["value"]))
    assert applied.returncode != 0, applied.stdout
    assert case["named"] in applied.stderr and case["reason"] in applied.stderr, applied.stderr


@pytest.mark.parametrize("case", TABLE["accepted"], ids=named)
def test_a_valid_one_is_accepted(dry_run, case):
    applied = dry_run(manifest(case["field"], case["value"]))
    assert applied.returncode == 0, applied.stderr
