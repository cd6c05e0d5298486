"""The answers of `kubectl apply` to a wrong WarmPool: the field and the reason.

Each case of warmpools.json changes one field of a manifest that is otherwise valid.
operator/api/tests/warm_pools.rs gives the same specs to the controller's own types.
"""

import json
from pathlib import Path

import pytest

from tests.harness.manifests import warm_pool

TABLE = json.loads((Path(__file__).parent / "warmpools.json").read_text())


def manifest(field, value):
    pool = warm_pool("tested", size=2)
    part, name = field.split(".")
    pool[part][name] = value
    return json.dumps(pool)


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
