"""Checks without a cluster, for all pairs and many seeds, which faults a plan lets occur together."""

from collections import Counter
from itertools import combinations, islice

import pytest

from tests.chaos import plan
from tests.chaos.fault import API_SERVER, CONTROLLERS, GATEWAYS, LEADING, NODES, QUEUE
from tests.chaos.faults import FAULTS
from tests.chaos.plan import Claim
from tests.chaos.test_chaos import GROUPS
from tests.chaos.world import GATEWAY, LEADER, QUEUE_SERVER

CLAIMS = {name: fault.claim for name, fault in FAULTS.items()}
SECONDS = {name: fault.seconds for name, fault in FAULTS.items()}
PLANS, STRIKES = 10_000, 40
# Pairs that broke a run, or would have, with the thing that they share.
CONFLICTS = [
    ("api-server-slow", "api-server-stopped"),
    # A returning node holds the cluster's lock until the API server has registered it.
    ("node-lost", "api-server-stopped"),
    ("node-lost", "api-server-slow"),
    # The first fault of each pair uses the API server.
    ("function-deleted", "api-server-stopped"),
    ("function-updated", "api-server-slow"),
    ("pod-deleted", "api-server-stopped"),
    ("pod-deleted-by-force", "api-server-stopped"),
    ("gateway-stopped", "api-server-stopped"),
    ("controller-stopped", "api-server-slow"),
    ("gateways-scaled", "api-server-stopped"),
    # Two rollouts of one Deployment wait for different numbers of pods.
    ("gateways-scaled", "gateways-restarted"),
    # A rollout does not complete without a node.
    ("gateways-scaled", "node-lost"),
    ("gateways-restarted", "node-lost"),
    ("controllers-restarted", "node-lost"),
    # There is only one leader.
    ("controller-killed", "controller-stopped"),
    ("controller-killed", "controller-cut-off"),
    ("controller-stopped", "controller-cut-off"),
    # There is one server of the event queue, and it is on the node that is lost.
    ("queue-killed", "queue-away"),
    ("queue-full", "queue-stopped"),
    ("node-lost", "queue-away"),
    ("queue-stopped", "api-server-stopped"),
]
# Pairs with different pods or functions, or without influence on each other. The claims must allow them.
COMPANIONS = [
    ("gateway-killed", "packets-lost"),
    ("gateway-killed", "gateways-scaled"),
    ("pod-deleted", "disk-full"),
    ("function-updated", "function-deleted"),
    ("supervisor-killed", "api-server-stopped"),
    ("gateway-cut-off-for-long", "api-server-stopped"),
    ("gateway-stopped", "node-lost"),
    ("watches-dropped", "controllers-restarted"),
    ("gateway-killed", "queue-killed"),
    ("queue-away", "api-server-stopped"),
    ("queue-full", "gateways-scaled"),
]


def strikes(seed, number=STRIKES):
    return list(islice(plan.draw(seed, CLAIMS, SECONDS), number))


@pytest.fixture(scope="module")
def plans():
    return [strikes(seed) for seed in range(PLANS)]


def test_a_thing_is_exclusive_or_shared():
    alone, together, apart = Claim(frozenset("a")), Claim(shared=frozenset("a")), Claim(frozenset("b"))
    assert alone.excludes(alone)
    assert alone.excludes(together) and together.excludes(alone)
    assert not together.excludes(together)
    assert not alone.excludes(apart) and not apart.excludes(together)


def test_faults_that_occur_together_never_exclude_each_other(plans):
    for seed, strikes in enumerate(plans):
        for strike in strikes:
            assert not plan.conflict(CLAIMS, strike.faults), (seed, strike)
            assert len(set(strike.faults)) == len(strike.faults) <= 2, (seed, strike)


def test_every_fault_occurs_before_any_occurs_again(plans):
    for seed, strikes in enumerate(plans):
        order = [name for strike in strikes for name in strike.faults]
        # There are more strikes than faults, because a plan has no end.
        assert len(strikes) == STRIKES > len(FAULTS), seed
        assert set(order[: len(FAULTS)]) == set(FAULTS), seed


def test_every_pair_that_may_occur_together_does_so(plans):
    drawn = Counter(frozenset(strike.faults) for strikes in plans for strike in strikes)
    allowed = {frozenset(pair) for pair in combinations(FAULTS, 2) if not plan.conflict(CLAIMS, list(pair))}
    assert {pair for pair in drawn if len(pair) == 2} == allowed


def test_lengths_and_pauses_are_bounded(plans):
    for strike in (strike for strikes in plans for strike in strikes):
        for name, seconds in zip(strike.faults, strike.seconds, strict=True):
            assert SECONDS[name] / 2 <= seconds <= SECONDS[name]
        assert 1 <= strike.pause <= 5


def test_a_seed_always_gives_the_same_plan():
    assert strikes(7) == strikes(7) != strikes(8)


@pytest.mark.parametrize("pair", CONFLICTS, ids=" and ".join)
def test_these_exclude_each_other(pair):
    assert plan.conflict(CLAIMS, pair) == pair


@pytest.mark.parametrize("pair", COMPANIONS, ids=" and ".join)
def test_these_may_occur_together(pair):
    assert not plan.conflict(CLAIMS, pair)


def test_the_groups_of_the_short_run_may_occur_together():
    for group in GROUPS:
        assert not plan.conflict(CLAIMS, group), group


def test_claims_name_known_things():
    known = {API_SERVER, NODES, GATEWAYS, CONTROLLERS, LEADING, QUEUE}
    for fault in FAULTS.values():
        assert fault.claim.exclusive | fault.claim.shared <= known, fault.name
        assert not fault.claim.exclusive & fault.claim.shared, fault.name


def test_a_thing_that_exists_once_is_claimed():
    """The targets of one strike must differ. There are several pods and functions, but one leader."""
    for fault in FAULTS.values():
        assert (fault.target == LEADER) == (LEADING in fault.claim.exclusive), fault.name
        assert fault.target != QUEUE_SERVER or QUEUE in fault.claim.exclusive, fault.name
    # The two gateways are enough for the two faults of a strike.
    aiming = [fault.name for fault in FAULTS.values() if fault.target == GATEWAY]
    assert all(not plan.conflict(CLAIMS, pair) for pair in combinations(aiming, 2))
