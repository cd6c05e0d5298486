"""A call that is refused because its function cannot be served."""

import pytest
from botocore.exceptions import ClientError

from tests.harness import release
from tests.harness.patience import until


def refusal(client, name, *words):
    """Why a call is refused, in these words: the gateway's log has the reason under the answer's request id.

    The answer is a fixed sentence. A slow cluster refuses calls for another reason at first: that an instance takes
    too long. The log is not read for words of the sentence, since the API server may be away.
    """
    reasons = []

    def named():
        with pytest.raises(ClientError) as refused:
            client.invoke(FunctionName=name)
        response = refused.value.response
        metadata, message = response["ResponseMetadata"], response["Error"]["Message"]
        assert metadata["HTTPStatusCode"] == 502, response
        assert response["Error"]["Code"] == "ResourceNotReadyException", response
        assert metadata["RequestId"] in message and "nothing was executed" in message, response
        if words and all(word in message for word in words):
            return message
        reasons.append(release.logged("gateway", metadata["RequestId"]))
        return reasons[-1] if all(word in reasons[-1] for word in words) else None

    return until(named, lambda: f"refused for {words}: {reasons[-3:]}")
