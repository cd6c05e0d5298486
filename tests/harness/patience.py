"""How tests wait: for a condition, with a bound that only a broken system reaches."""

import time

# In seconds. Much longer than anything takes on a slow and busy machine. A test never asserts that
# something happens sooner.
PATIENCE = 300
# The timeout, in seconds, of functions whose timeout a test is not about: the test gives up first.
LONGER = 2 * PATIENCE
PAUSE = 0.05  # seconds between two looks at a condition


def until(condition, what):
    """Polls `condition` and returns its first true value; fails with `what`, a text or a function of one."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        # `what` may itself ask the cluster, so it is called only for a failure.
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what() if callable(what) else what}")
        time.sleep(PAUSE)
    return value
