"""A stage of a tier, and the decision which stages may start now.

Pure: `run` starts what `startable` returns and reports back what became of it. A stage starts when all
that it needs has passed, a slot is free and nobody holds what it uses alone. The order of the table is
the order of preference: the stages on the longest path stand first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "not run"


ENDED = frozenset({State.PASSED, State.FAILED, State.SKIPPED})


@dataclass(frozen=True)
class Stage:
    name: str
    # For `sh -c`, from the root of the repository.
    command: str
    # Names of stages that must have passed before this one starts.
    needs: tuple[str, ...] = ()
    # Names of stages that must have ended, however they did.
    after: tuple[str, ...] = ()
    # Processors that it keeps busy on average; one that mostly waits counts less.
    slots: float = 1.0
    # What no other running stage may use, such as the lock of apt.
    uses: frozenset[str] = frozenset()
    # Runs beside all others at the lowest priority and takes no slot.
    background: bool = False
    # Its whole output is shown, not only its end.
    tests: bool = False
    # Minutes after which a stage that has not ended is broken.
    limit: float = 30


def check(stages: Sequence[Stage]) -> None:
    """Refuses a table in which a name is used twice or a stage needs one that does not precede it."""
    known: set[str] = set()
    for stage in stages:
        if stage.name in known:
            raise ValueError(f"{stage.name}: two stages have this name")
        for name in (*stage.needs, *stage.after):
            if name not in known:
                raise ValueError(f"{stage.name}: needs {name}, which no stage before it is named")
        known.add(stage.name)


def skipped(stages: Sequence[Stage], states: Mapping[str, State]) -> list[Stage]:
    """The waiting stages that can no longer run, as something that they need has not passed."""
    lost = {State.FAILED, State.SKIPPED}
    return [
        stage
        for stage in stages
        if states[stage.name] is State.WAITING and any(states[name] in lost for name in stage.needs)
    ]


def startable(stages: Sequence[Stage], states: Mapping[str, State], slots: float) -> list[Stage]:
    """The stages to start now, so that at most `slots` processors are kept busy."""
    running = [stage for stage in stages if states[stage.name] is State.RUNNING]
    held = frozenset().union(*(stage.uses for stage in running))
    free = slots - sum(stage.slots for stage in running if not stage.background)
    busy = any(not stage.background for stage in running)
    chosen = []
    for stage in stages:
        if states[stage.name] is not State.WAITING or not is_due(stage, states) or held & stage.uses:
            continue
        # A stage that is wider than the machine runs when no other does.
        if stage.background or stage.slots <= free or not busy:
            chosen.append(stage)
            held |= stage.uses
            if not stage.background:
                free -= stage.slots
                busy = True
    return chosen


def is_due(stage: Stage, states: Mapping[str, State]) -> bool:
    return all(states[name] is State.PASSED for name in stage.needs) and all(
        states[name] in ENDED for name in stage.after
    )
