"""A call that is refused because its function cannot be served."""

import pytest
from botocore.exceptions import ClientError

from tests.harness.patience import until


def refusal(client, name, *words):
    """The message of a call that is refused for a reason in these words.

    A slow cluster refuses calls for another reason at first: that an instance takes too long.
    """
    messages = []

    def named():
        with pytest.raises(ClientError) as refused:
            client.invoke(FunctionName=name)
        response = refused.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 502, response
        assert response["Error"]["Code"] == "ResourceNotReadyException", response
        messages.append(response["Error"]["Message"])
        return messages[-1] if all(word in messages[-1] for word in words) else None

    return until(named, lambda: f"refused for {words}: {messages[-3:]}")
