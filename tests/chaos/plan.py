"""Draws from a seed which faults occur when, and which of them occur together. It does no IO.

A fault claims the things that it depends on (`faults.py`): some for itself alone, some together with
others, like a readers-writer lock. Faults whose claims exclude each other never occur
at the same time. `trial.py` executes the plan.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

# The share of times at which two faults occur at once.
TOGETHER = 0.3


@dataclass(frozen=True)
class Claim:
    """The things that a fault depends on from its strike until its effects are undone."""

    exclusive: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    def excludes(self, other: "Claim") -> bool:
        return bool(self.exclusive & (other.exclusive | other.shared) or self.shared & other.exclusive)


@dataclass(frozen=True)
class Strike:
    """Faults that strike at the same time, how many seconds each lasts, and the pause after them."""

    faults: tuple[str, ...]
    seconds: tuple[float, ...]
    pause: float


def conflict(claims: Mapping[str, Claim], faults) -> tuple[str, str] | None:
    """Returns a pair of the faults that exclude each other, if there is one."""
    for place, one in enumerate(faults):
        for other in faults[place + 1 :]:
            if claims[one].excludes(claims[other]):
                return one, other
    return None


def draw(
    seed: int, claims: Mapping[str, Claim], seconds: Mapping[str, float], together: float = TOGETHER
) -> Iterator[Strike]:
    """Yields strikes without end; the caller decides when it has enough.

    Faults are dealt from a shuffled deck, so that each of them strikes before any strikes again.
    """
    dice, deck = Random(seed), []
    while True:
        if not deck:
            deck = dice.sample(list(claims), len(claims))
        faults = [deck.pop()]
        partners = [other for other in deck if not claims[other].excludes(claims[faults[0]])]
        # Both numbers are always drawn, so that a change of claims does not change the later random numbers.
        is_pair, partner = dice.random() < together, dice.random()
        if is_pair and partners:
            faults.append(partners[int(partner * len(partners))])
            deck.remove(faults[1])
        lengths = tuple(seconds[name] * dice.uniform(0.5, 1) for name in faults)
        yield Strike(tuple(faults), lengths, dice.uniform(1, 5))
