"""A fault: its length, its target, the errors that it allows, and the things that it claims.

An error that a caller gets while a fault lasts is unexplained unless the fault allows it. Faults whose
claims exclude each other never occur together (`plan.py`). `faults.py` has all faults.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.plan import Claim

# Errors that a fault may allow, as the account names them. The connection broke during the call.
BROKEN = "broken"
# The event may have taken effect: the platform lost its instance.
UNKNOWN = "ServiceException"
NOT_READY = "ResourceNotReadyException"
NOT_FOUND = "ResourceNotFoundException"
THROTTLED = "TooManyRequestsException"
EXITED = "Runtime.ExitError"
# An asynchronous call alone: the event queue cannot be used, or has no room.
REFUSED = f"events:{UNKNOWN}"
FULL = f"events:{THROTTLED}"
# An event that is under way may be given out again, because its gateway or the queue's server does not say that it has ended.
REDELIVERY = "redelivery"

# The things that faults claim. Pods and functions are not among them, because `World.aim` gives each fault a
# different target.
# Faults that run kubectl share the API server; faults that make it fail claim it alone.
API_SERVER = "the API server"
# A rollout completes only if all nodes accept pods.
NODES = "the nodes"
# Two rollouts of one Deployment would wait for different pods.
GATEWAYS = "the gateways' Deployment"
CONTROLLERS = "the controllers' Deployment"
# There is only one, so two faults cannot have it as their target.
LEADING = "the leading controller"
# There is one server.
QUEUE = "the event queue"


@dataclass(frozen=True)
class Fault:
    name: str
    what: str
    seconds: int
    allows: frozenset
    target: str | None
    claim: Claim
    strike: Callable

    def inflict(self, world, target):
        targets = () if self.target is None else (target,)
        return contextlib.contextmanager(self.strike)(world, *targets)


FAULTS: dict[str, Fault] = {}


def fault(seconds=5, target=None, allows=(), takes=(), shares=()):
    """A fault that `takes` things for itself alone and `shares` others."""

    def add(strike):
        name = strike.__name__.replace("_", "-")
        claim = Claim(frozenset(takes), frozenset(shares))
        FAULTS[name] = Fault(name, strike.__doc__, seconds, frozenset(allows), target, claim, strike)
        return strike

    return add
