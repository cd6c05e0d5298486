"""The calls that read functions: list, get, configuration (contract §4)."""

import pytest

from tests.harness.endpoint import ENDPOINT

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def test_the_pages_of_the_list_have_every_function_once(client, server):
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 7}))
    assert all(len(page["Functions"]) == 7 for page in pages[:-1])
    names = [function["FunctionName"] for page in pages for function in page["Functions"]]
    assert len(names) == len(set(names)) == server.functions
    assert {"sdk-echo", "hello", "shell"} <= set(names)


def test_a_list_shorter_than_all_functions_has_a_marker_for_the_rest(client):
    first = client.list_functions(MaxItems=3)
    assert len(first["Functions"]) == 3
    second = client.list_functions(MaxItems=3, Marker=first["NextMarker"])
    assert not names(first) & names(second)


def test_a_function_describes_itself_the_same_in_each_call(client):
    listed = next(
        function
        for page in client.get_paginator("list_functions").paginate()
        for function in page["Functions"]
        if function["FunctionName"] == "sdk-environment"
    )
    got = client.get_function(FunctionName="sdk-environment")["Configuration"]
    configured = client.get_function_configuration(FunctionName="sdk-environment")
    expected = {
        "FunctionName": "sdk-environment",
        "FunctionArn": ARN + "sdk-environment",
        "Runtime": "python3.11",
        "Handler": "surroundings.environment",
        "Timeout": 600,
        "MemorySize": 128,
        "Version": "$LATEST",
        "PackageType": "Zip",
    }
    for answer in (listed, got, configured):
        assert {name: answer.get(name) for name in expected} == expected
        environment = answer["Environment"]
        if ENDPOINT is None:
            assert environment == {"Variables": {"TABLE_NAME": "orders", "GREETING": "grüße"}}
        else:
            # A cluster hides the values, in the shape of the service.
            assert environment.keys() == {"Error"}
            assert environment["Error"]["ErrorCode"] == "AccessDeniedException"
    assert got["State"] == configured["State"] == "Active"


def test_limits_of_the_manifest_are_shown(client):
    shown = client.get_function_configuration(FunctionName=ARN + "sdk-context")
    assert (shown["MemorySize"], shown["Timeout"]) == (192, 600)


def test_a_waiter_of_the_sdk_finds_the_function_active(client):
    client.get_waiter("function_active_v2").wait(
        FunctionName="sdk-echo", WaiterConfig={"Delay": 1, "MaxAttempts": 1}
    )


@pytest.mark.parametrize("call", ["get_function", "get_function_configuration"])
def test_an_unknown_function_cannot_be_described(client, call):
    with pytest.raises(client.exceptions.ResourceNotFoundException) as refused:
        getattr(client, call)(FunctionName="absent")
    assert refused.value.response["Error"]["Message"].startswith(f"Function not found: {ARN}absent")


def names(page):
    return {function["FunctionName"] for function in page["Functions"]}
