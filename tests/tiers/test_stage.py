"""Which stages may start: the decision by itself, and over whole runs in an order drawn from a seed."""

import random

import pytest

from tests.tiers.stage import ENDED, Stage, State, check, skipped, startable
from tests.tiers.table import INSIDE, LOCAL, TIERS, needed


def states(stages, **known):
    return {stage.name: known.get(stage.name, State.WAITING) for stage in stages}


def names(stages):
    return [stage.name for stage in stages]


def test_a_stage_waits_for_everything_that_it_needs():
    stages = [Stage("a", ""), Stage("b", ""), Stage("c", "", needs=("a", "b"))]
    assert names(startable(stages, states(stages, a=State.PASSED), 4)) == ["b"]
    assert names(startable(stages, states(stages, a=State.PASSED, b=State.RUNNING), 4)) == []
    assert names(startable(stages, states(stages, a=State.PASSED, b=State.PASSED), 4)) == ["c"]


def test_no_more_stages_run_than_there_are_slots_and_the_first_of_the_table_come_first():
    stages = [Stage("a", ""), Stage("b", "", slots=0.5), Stage("c", "", slots=0.5), Stage("d", "", slots=0.5)]
    assert names(startable(stages, states(stages), 2)) == ["a", "b", "c"]
    assert names(startable(stages, states(stages, a=State.RUNNING), 1)) == []


def test_a_stage_that_starts_a_program_comes_after_its_build():
    stages = TIERS["test"]
    for stage in stages:
        before = names(needed(stages, [stage.name]))
        if LOCAL in stage.command:
            assert "Rust build" in before, stage.name
        elif INSIDE in stage.command:
            assert "programs" in before, stage.name


def test_a_stage_that_is_wider_than_the_machine_runs_alone():
    stages = [Stage("wide", "", slots=2), Stage("other", "")]
    assert names(startable(stages, states(stages), 1)) == ["wide"]
    assert names(startable(stages, states(stages, other=State.RUNNING), 1)) == []


def test_two_stages_that_use_the_same_thing_take_turns():
    lock = frozenset({"apt"})
    stages = [Stage("a", "", uses=lock, slots=0.1), Stage("b", "", uses=lock, slots=0.1)]
    assert names(startable(stages, states(stages), 8)) == ["a"]
    assert names(startable(stages, states(stages, a=State.RUNNING), 8)) == []
    assert names(startable(stages, states(stages, a=State.FAILED), 8)) == ["b"]


def test_a_stage_in_the_background_takes_no_slot():
    stages = [Stage("a", ""), Stage("behind", "", background=True), Stage("b", "")]
    assert names(startable(stages, states(stages), 1)) == ["a", "behind"]
    assert names(startable(stages, states(stages, behind=State.RUNNING), 1)) == ["a"]


def test_a_failure_skips_stages_that_need_it_and_no_others():
    stages = [
        Stage("up", ""),
        Stage("suite", "", needs=("up",)),
        Stage("report", "", needs=("suite",)),
        Stage("down", "", after=("suite",)),
    ]
    known = states(stages, up=State.FAILED)
    assert names(skipped(stages, known)) == ["suite"]
    assert startable(stages, known, 4) == []
    known["suite"] = State.SKIPPED
    assert names(skipped(stages, known)) == ["report"]
    assert names(startable(stages, known, 4)) == ["down"]


@pytest.mark.parametrize(
    "stages, complaint",
    [
        ([Stage("a", ""), Stage("a", "")], "a: two stages"),
        ([Stage("a", "", needs=("b",)), Stage("b", "")], "a: needs b"),
        ([Stage("a", "", after=("a",))], "a: needs a"),
    ],
)
def test_a_table_that_cannot_run_is_refused(stages, complaint):
    with pytest.raises(ValueError, match=complaint):
        check(stages)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("seed", range(50))
def test_every_tier_ends_whatever_fails_and_in_whatever_order(tier, seed):
    stages, dice = TIERS[tier], random.Random(seed)
    check(stages)
    known = states(stages)
    slots = dice.choice([1, 2, 16])
    failures = dice.choice([0, 0.05, 0.5])
    while True:
        while lost := skipped(stages, known):
            known |= {stage.name: State.SKIPPED for stage in lost}
        for stage in startable(stages, known, slots):
            assert all(known[name] is State.PASSED for name in stage.needs)
            known[stage.name] = State.RUNNING
        running = [stage for stage in stages if known[stage.name] is State.RUNNING]
        if not running:
            break
        used = [thing for stage in running for thing in stage.uses]
        assert len(used) == len(set(used)), running
        known[dice.choice(running).name] = State.FAILED if dice.random() < failures else State.PASSED
    assert all(state in ENDED for state in known.values()), known
    if failures == 0:
        assert set(known.values()) == {State.PASSED}
