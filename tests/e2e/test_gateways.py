"""Several gateways: each function has one owner, whichever gateway is called."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.harness.commands import run
from tests.harness.kubectl import kubectl
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import until
from tests.harness.release import SYSTEM, parts
from tests.harness.state import is_ready, pods

WHO = """
import uuid
from rooms import enter
instance, count = str(uuid.uuid4()), 0
def lambda_handler(event, context):
    global count
    count += 1
    if event.get("room"):
        enter(event["room"], instance)
    return {"instance": instance, "count": count}
"""


def gateways():
    """The ready gateways' addresses by pod."""
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in parts("gateway") if is_ready(pod)}


def caller(address):
    invoke = invoker(lambda_client(f"http://{address}:8080"))

    def call(name, **event):
        answer = invoke(name, event)
        assert "FunctionError" not in answer, answer["Body"]
        return answer["Body"]

    return call


@pytest.fixture
def two():
    found = until(lambda: (found := gateways()) and len(found) >= 2 and found, gateways)
    return [caller(address) for address in list(found.values())[:2]]


def test_all_gateways_answer_with_the_same_instance(two, function):
    names = [function(f"shared-{n}", WHO) for n in range(3)]
    for name in names:
        answers = [call(name) for call in two + two]
        assert len({answer["instance"] for answer in answers}) == 1, answers
        assert [answer["count"] for answer in answers] == [1, 2, 3, 4]
        assert len(pods(name)) == 1


def test_the_command_line_calls_a_function_and_top_shows_what_all_gateways_know(two, function):
    name = function("e2e-top", WHO)
    endpoint = f"--endpoint=http://{list(gateways().values())[0]}:8080"
    for _ in range(3):
        answer = json.loads(run(PILOTLIGHT, "invoke", name, "--payload={}", endpoint))
    assert answer["count"] == 3
    for address in gateways().values():
        table = run(PILOTLIGHT, "top", "--once", f"--endpoint=http://{address}:8080")
        head, rows = table.splitlines()[0].split(), [line.split() for line in table.splitlines()]
        # The last column may hold several words.
        row = dict(zip(head, next(row for row in rows if row[0] == name), strict=False))
        assert (row["WARM"], row["CALLS"], row["COLD"]) == ("1", "3", "1"), table


def test_ten_calls_at_once_over_two_gateways_have_ten_instances(two, function, room):
    name, place = function("spread", WHO, concurrency={"reserved": 10}), room(size=10).address
    with ThreadPoolExecutor(10) as threads:
        calls = [threads.submit(two[n % 2], name, room=place) for n in range(10)]
        answers = [call.result() for call in calls]
    assert {answer["count"] for answer in answers} == {1}
    assert len({answer["instance"] for answer in answers}) == 10
    assert len(pods(name)) == 10


def test_reserved_concurrency_is_exact_over_two_gateways(two, function, room):
    name, held = function("single", WHO, concurrency={"reserved": 1, "queue": 0}), room()
    two[0](name)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(two[0], name, room=held.address)
        held.await_entered(1)
        with pytest.raises(ClientError) as refused:
            two[1](name)
        assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"
        held.open()
        assert first.result()["count"] == 2


def test_another_gateway_takes_over_the_functions_and_instances_of_a_killed_one(two, function):
    names = [function(f"left-{n}", WHO) for n in range(4)]
    before = {name: two[0](name)["instance"] for name in names}
    victim, address = sorted(gateways().items())[0]
    others = [caller(ip) for pod, ip in gateways().items() if pod != victim]
    kubectl("delete", "pod", victim, "--grace-period=0", "--force", namespace=SYSTEM)
    for name in names:
        assert others[0](name)["instance"] == before[name]
    until(lambda: len(gateways()) >= 2, gateways)
    for name in names:
        assert others[0](name)["instance"] == before[name]
