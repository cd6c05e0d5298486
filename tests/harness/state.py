"""The API server's state of Functions, WarmPools and their pods."""

from tests.harness.kubectl import get

POOL = "pilotlight.dev/warm-pool"  # the label of its unclaimed pods


def living(pods):
    """Those that are not on their way out."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def pods(function):
    """A function's pods that are not on their way out."""
    return living(get("pods", f"--selector=pilotlight.dev/function={function}")["items"])


def waiting(pool):
    """The unclaimed pods of a warm pool that are not on their way out."""
    return living(get("pods", f"--selector={POOL}={pool}")["items"])


def names(listed):
    return {pod["metadata"]["name"] for pod in listed}


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_full(pool):
    """Whether as many pods wait as the warm pool's size, and its status says so."""
    told = get("warmpool", pool)
    size, ready = told["spec"]["size"], [pod for pod in waiting(pool) if is_ready(pod)]
    return len(ready) == size == told.get("status", {}).get("ready")


def status(function):
    return get("function", function).get("status", {})


def ready_condition(function):
    return next((one for one in status(function).get("conditions", []) if one["type"] == "Ready"), {})
