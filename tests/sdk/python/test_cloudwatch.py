"""Logs through the CloudWatch Logs API: boto3 and the command line of AWS (contract §10)."""

import json
import re
import subprocess
import threading
import uuid

import boto3
import pytest
from botocore.config import Config

from tests.harness.aws_cli import aws_cli, environment
from tests.harness.endpoint import IN_CLUSTER
from tests.harness.patience import PATIENCE, until

PRINTS = "/aws/lambda/sdk-prints"


@pytest.fixture(scope="session")
def logs(server):
    return boto3.client(
        "logs",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        # StartLiveTail would go to another host.
        config=Config(inject_host_prefix=False, retries={"max_attempts": 0}, read_timeout=PATIENCE),
    )


@pytest.fixture
def printed(invoke):
    """Prints lines in a function, and returns a word that is in each."""
    word = f"w{uuid.uuid4().hex}"
    lines = [f"{word} first", json.dumps({"word": word, "n": 17, "tags": ["a", "b"]}), f"{word} last 404"]
    invoke("sdk-prints", {"lines": lines})
    return word, lines


def messages(answer):
    return [event["message"] for event in answer["events"]]


def test_a_group_has_the_name_and_the_arn_of_its_function(logs):
    found = logs.describe_log_groups(logGroupNamePrefix=PRINTS)["logGroups"]
    assert [group["logGroupName"] for group in found] == [PRINTS, f"{PRINTS}-json"]
    assert found[0]["logGroupArn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{PRINTS}"
    pages = logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 5})
    names = [group["logGroupName"] for page in pages for group in page["logGroups"]]
    assert names == sorted(set(names)) and {PRINTS, "/aws/lambda/sdk-echo"} <= set(names)


def test_an_instance_knows_the_name_of_its_stream(logs, invoke):
    told = invoke("sdk-context", {})["Body"]
    group, stream = told["log_group_name"], told["log_stream_name"]
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]
    assert [found["logStreamName"] for found in streams] == [stream]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
    assert any(message.startswith("START RequestId: ") for message in messages(events))
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("WORD", [0, 1, 2]),
        ("WORD -last -tags", [0]),
        ("?first ?last", None),
        ('{ $.word = "WORD" && $.n > 16 && $.tags[*] = "b" }', [1]),
        ("[w=WORD, what, code=4*]", [2]),
        ("%WORD (first|last)%", "InvalidParameterException"),
        ("%WORD [fl][ia].st%", [0]),
    ],
)
def test_events_are_filtered_by_patterns(logs, printed, pattern, chosen):
    word, lines = printed

    def search():
        return messages(
            logs.filter_log_events(logGroupName=PRINTS, filterPattern=pattern.replace("WORD", word))
        )

    if isinstance(chosen, str):
        with pytest.raises(logs.exceptions.InvalidParameterException, match="write `.x28`"):
            search()
        return
    own = [message for message in search() if word in message]
    expected = [0, 2] if chosen is None else chosen
    assert own == [lines[at] for at in expected]


def test_a_page_has_a_token_for_the_next_one(logs, printed):
    word, lines = printed
    paginator = logs.get_paginator("filter_log_events")
    pages = list(
        paginator.paginate(logGroupIdentifier=PRINTS, filterPattern=word, PaginationConfig={"PageSize": 2})
    )
    assert [message for page in pages for message in messages(page)] == lines
    assert all(len(page["events"]) <= 2 for page in pages)
    event = pages[0]["events"][0]
    since = logs.filter_log_events(
        logGroupName=PRINTS, filterPattern=word, startTime=event["timestamp"] + 60_000
    )
    assert messages(since) == []
    newest = logs.filter_log_events(logGroupName=PRINTS, filterPattern=word, startFromHead=False)
    assert messages(newest) == lines[::-1]


def test_a_stream_is_read_to_its_end_and_back(logs, printed):
    word, lines = printed
    event = logs.filter_log_events(logGroupName=PRINTS, filterPattern=word)["events"][0]
    read = {"logGroupName": PRINTS, "logStreamName": event["logStreamName"], "startTime": event["timestamp"]}
    forward = logs.get_log_events(**read, startFromHead=True)
    while True:
        then = logs.get_log_events(**read, nextToken=forward["nextForwardToken"], startFromHead=True)
        if then["nextForwardToken"] == forward["nextForwardToken"]:
            break
        forward = then
    back = logs.get_log_events(**read, nextToken=then["nextBackwardToken"])
    own = [message for message in messages(back) if word in message]
    assert own == lines


def test_what_does_not_exist_is_refused_with_the_types_of_the_sdk(logs):
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.filter_log_events(logGroupName="/aws/lambda/absent")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.get_log_events(logGroupName=PRINTS, logStreamName="2026/01/31/[$LATEST]absent")
    with pytest.raises(logs.exceptions.InvalidParameterException, match="nextToken"):
        logs.filter_log_events(logGroupName=PRINTS, nextToken="x")
    with pytest.raises(logs.exceptions.ClientError) as refused:
        logs.create_log_group(logGroupName="x")
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"


def test_the_retention_of_a_group_is_set_and_unset_where_no_other_gateway_reads_it(logs, invoke):
    group = "/aws/lambda/sdk-inline"
    invoke("sdk-inline")

    def described():
        return logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]

    with pytest.raises(logs.exceptions.InvalidParameterException, match="retentionInDays"):
        logs.put_retention_policy(logGroupName=group, retentionInDays=8)
    if IN_CLUSTER:
        with pytest.raises(logs.exceptions.InvalidParameterException, match="spec.logging.retention"):
            logs.put_retention_policy(logGroupName=group, retentionInDays=7)
        return
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert described()["retentionInDays"] == 7
    logs.delete_retention_policy(logGroupName=group)
    assert "retentionInDays" not in described()


def test_the_events_of_a_group_are_deleted(logs, invoke):
    group = "/aws/lambda/sdk-inline"
    invoke("sdk-inline")
    assert messages(logs.filter_log_events(logGroupName=group))

    def is_empty():
        logs.delete_log_group(logGroupName=group)
        return messages(logs.filter_log_events(logGroupName=group)) == []

    until(is_empty, "the events are deleted")


def test_a_live_tail_has_what_is_printed_meanwhile(logs, invoke):
    word = f"w{uuid.uuid4().hex}"
    arn = logs.describe_log_groups(logGroupNamePrefix=PRINTS)["logGroups"][0]["logGroupArn"]
    stream = logs.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern=word)["responseStream"]
    frames = iter(stream)
    start = next(frames)["sessionStart"]
    assert (start["logGroupIdentifiers"], start["logEventFilterPattern"]) == ([arn], word)
    invoke("sdk-prints", {"lines": [f"{word} {number}" for number in range(3)] + ["another"]})
    results = []
    while len(results) < 3:
        update = next(frames)["sessionUpdate"]
        assert update["sessionMetadata"] == {"sampled": False}
        results += update["sessionResults"]
    stream.close()
    assert [event["message"] for event in results] == [f"{word} {number}" for number in range(3)]
    assert {event["logGroupIdentifier"] for event in results} == {arn}


def test_the_command_line_follows_a_log(server, invoke):
    word = f"w{uuid.uuid4().hex}"
    invoke("sdk-prints", {"lines": [f"{word} before"]})
    command = [aws_cli(), "logs", "tail", PRINTS, "--follow", "--since", "1h", "--format", "short"]
    following = subprocess.Popen(
        [*command, "--filter-pattern", word],
        env=environment(server.endpoint),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(following.stdout.readline, "")))
    reader.start()

    def shown(text):
        until(
            lambda: following.poll() is not None or any(text in line for line in lines),
            lambda: f"{text}: {lines}",
        )
        assert any(text in line for line in lines), lines

    try:
        shown(f"{word} before")
        for number in range(3):
            invoke("sdk-prints", {"lines": [f"{word} while {number}"]})
            shown(f"{word} while {number}")
    finally:
        following.kill()
        following.wait()
        reader.join()
    assert len([line for line in lines if word in line]) == 4, lines
