"""Instances: what they remember, how many there are, when they go, who is refused."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.lambda_client import lambda_client
from tests.harness.patience import PATIENCE, until
from tests.sdk.python.test_invoke import raw_invoke

THROTTLED = {
    "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
    "Type": "User",
    "message": "Rate Exceeded.",
}


def test_init_runs_once_and_globals_stay_between_events(invoke):
    answers = [invoke("sdk-counts", {})["Body"] for _ in range(5)]
    assert [answer["calls"] for answer in answers] == [1, 2, 3, 4, 5]
    assert len({answer["instance"] for answer in answers}) == 1


def test_ten_events_at_once_run_in_ten_instances_which_end_when_idle(invoke, server, room):
    together = room()
    with ThreadPoolExecutor(10) as callers:
        calls = [callers.submit(invoke, "sdk-meets", {"room": together.address}) for _ in range(10)]
        together.await_entered(10)
        assert server.metric("pilotlight_instances", "sdk-meets") == 10
        together.open()
    assert len({call.result()["Body"]["instance"] for call in calls}) == 10

    assert server.metric("pilotlight_cold_starts_total", "sdk-meets") == 10
    assert server.metric("pilotlight_invocations_total", "sdk-meets") == 10
    until(
        lambda: not server.metric("pilotlight_instances", "sdk-meets"),
        "all instances are gone after keepAlive (2 s)",
    )


def test_events_over_the_cap_wait_for_the_one_instance(invoke):
    with ThreadPoolExecutor(5) as callers:
        answers = list(callers.map(lambda _: invoke("sdk-queued", {})["Body"], range(5)))
    assert sorted(answer["calls"] for answer in answers) == [1, 2, 3, 4, 5]
    assert len({answer["instance"] for answer in answers}) == 1


def test_a_second_event_is_refused_while_the_only_instance_is_busy(held, client, server):
    with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
        client.invoke(FunctionName="sdk-single", Payload=b"{}")
    assert refused.value.response["Reason"] == THROTTLED["Reason"]
    status, headers, body = raw_invoke(server, "sdk-single", b"{}")
    assert (status, body) == (429, THROTTLED)
    assert headers["x-amzn-ErrorType"] == "TooManyRequestsException"
    held.release()
    assert held.answer()["StatusCode"] == 200


def test_the_sdks_standard_retries_get_past_a_throttle(held, server):
    retrying = lambda_client(server.endpoint, {"mode": "standard", "total_max_attempts": 8})
    statuses = []

    def note(response_dict, **_):
        statuses.append(response_dict["status_code"])
        held.release()

    retrying.meta.events.register("response-received.lambda.Invoke", note)
    # The room is open by the time this call runs, so the handler returns at once.
    answer = retrying.invoke(FunctionName="sdk-single", Payload=json.dumps(held.event))
    assert statuses[0] == 429 and statuses[-1] == 200
    assert answer["ResponseMetadata"]["RetryAttempts"] == len(statuses) - 1
    assert held.answer()["StatusCode"] == 200


def test_a_reservation_of_zero_refuses_every_event(server):
    for _ in range(2):
        status, _, body = raw_invoke(server, "sdk-blocked", b"{}")
        assert (status, body) == (429, THROTTLED)
    assert not server.metric("pilotlight_instances", "sdk-blocked")


class Held:
    """A call of sdk-single that is inside the handler until released."""

    def __init__(self, invoke, room):
        self._room = room
        self.event = {"room": room.address}
        self._answers = []
        self._caller = threading.Thread(target=lambda: self._answers.append(invoke("sdk-single", self.event)))
        self._caller.start()
        room.await_entered(1)

    def release(self):
        self._room.open()

    def answer(self):
        self._caller.join(PATIENCE)
        assert self._answers, "the held call of sdk-single did not return"
        return self._answers[0]


@pytest.fixture
def held(invoke, room):
    held = Held(invoke, room())
    yield held
    held.release()
    held.answer()
