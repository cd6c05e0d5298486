"""boto3: what it signs is accepted, what is changed is not, and it reads the errors."""

import datetime
import urllib.request
from dataclasses import replace
from unittest import mock

import boto3
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from tests.sdk.signatures.judged import Sent

ARN = "arn:aws:lambda:eu-central-1:000000000000:function:hello"
EVENT = b'{"name": "\xc3\xa9"}'


def sdk(service, **parameters):
    """A client of an SDK that has just started; the default session would keep the credentials of other tests."""
    return boto3.Session().client(service, **parameters)


def invoke(client, **parameters):
    return client.invoke(**{"FunctionName": "hello", "Payload": EVENT, **parameters})


def refused(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


def test_calls_of_each_form_are_accepted(judged, with_key):
    client = sdk("lambda")
    invoke(client)
    invoke(client, FunctionName=ARN, Qualifier="$LATEST", LogType="Tail", ClientContext="e30=")
    invoke(client, Payload=b"")
    client.list_functions(Marker="a+b/c=", MaxItems=5)
    client.get_function(FunctionName="hello:$LATEST")
    client.list_tags(Resource=ARN)
    assert [answer.get("credential") for answer in judged.answers] == ["access-key"] * 6
    assert judged.sent[1].target.startswith("/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A")


def test_a_request_may_be_repeated_and_not_changed(judged, with_key):
    invoke(sdk("lambda"), FunctionName=ARN, Qualifier="$LATEST", LogType="Tail")
    sent = judged.sent[0]
    assert judged.send(sent)[0] == 200
    changed = {
        "body": replace(sent, body=sent.body + b" "),
        "method": replace(sent, method="PUT"),
        "path": replace(sent, target=sent.target.replace("hello", "other")),
        "query": replace(sent, target=sent.target.replace("LATEST", "OTHER")),
        "new query": replace(sent, target=sent.target + "&a=b"),
        "header": sent.header("X-Amz-Log-Type", "None"),
        "header that must be signed": sent.header("X-Amz-Invocation-Type", "Event"),
        "header left out": sent.header("X-Amz-Log-Type", None),
        "host": sent.header("Host", "127.0.0.1:1"),
        "time": sent.header("X-Amz-Date", "20260131T120000Z"),
        "signature": sent.header("Authorization", sent.value("Authorization")[:-64] + "0" * 64),
    }
    for what, request in changed.items():
        assert judged.send(request)[:2] == (403, "InvalidSignatureException"), what
    assert judged.send(sent.header("Authorization", None))[1] == "MissingAuthenticationTokenException"
    cut = sent.value("Authorization").rpartition(",")[0]
    assert judged.send(sent.header("Authorization", cut))[1] == "IncompleteSignatureException"


@pytest.mark.parametrize(
    ("ahead", "code"), [(290, None), (-290, None), (310, "expired"), (-310, "not yet current")]
)
def test_a_clock_may_be_wrong_by_five_minutes(judged, with_key, ahead, code):
    judged.settings.ahead = ahead
    if code is None:
        invoke(sdk("lambda"))
        return
    assert refused(lambda: invoke(sdk("lambda"))) == "InvalidSignatureException"
    assert f"Signature {code}" in judged.answers[-1]["message"]


def test_unknown_wrong_and_expired_keys_have_their_own_errors(judged, with_key):
    def client(**key):
        return sdk("lambda", **key)

    stranger = client(aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x")
    assert refused(lambda: invoke(stranger)) == "UnrecognizedClientException"
    assert refused(lambda: invoke(client(aws_access_key_id="local", aws_secret_access_key="local"))) == (
        "UnrecognizedClientException"
    )
    wrong = client(aws_access_key_id=judged.key_id, aws_secret_access_key="x")
    assert refused(lambda: invoke(wrong)) == "InvalidSignatureException"
    judged.settings.expires = 1
    assert refused(lambda: invoke(client())) == "ExpiredTokenException"


def test_a_role_becomes_a_session_by_itself(judged, with_role):
    identity = sdk("sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::000000000000:assumed-role/shop/caller/test"
    assert identity["Account"] == "000000000000"
    client = sdk("lambda")
    invoke(client)
    assert judged.answers[-1]["credential"] == "session"
    judged.settings.session_key = 8
    assert refused(lambda: invoke(client)) == "UnrecognizedClientException"


def test_an_expired_session_says_so(judged, with_role):
    credentials = boto3.Session().get_credentials().get_frozen_credentials()
    seconds = judged.settings.ahead = 3601
    # Signed at the time of the judge, so that only the session is too old.
    later = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=seconds)
    request = AWSRequest("POST", f"{judged.endpoint}/2015-03-31/functions/hello/invocations", data=EVENT)
    with mock.patch("botocore.auth.get_current_datetime", return_value=later):
        SigV4Auth(credentials, "lambda", "eu-central-1").add_auth(request)
    request.headers["Host"] = f"127.0.0.1:{judged.port}"
    sent = Sent("POST", "/2015-03-31/functions/hello/invocations", tuple(request.headers.items()), EVENT)
    assert judged.send(sent)[1] == "ExpiredTokenException"
    judged.settings.ahead = 3599
    assert judged.send(sent)[0] == 200


def test_sts_errors_are_read(judged, bare):
    client = sdk(
        "sts", endpoint_url=judged.endpoint, aws_access_key_id="local", aws_secret_access_key="local"
    )

    def assume(**parameters):
        role = "arn:aws:iam::000000000000:role/shop/caller"
        token = {"RoleArn": role, "RoleSessionName": "test", "WebIdentityToken": "ey.web.identity"}
        return client.assume_role_with_web_identity(**{**token, **parameters})

    answer = assume(DurationSeconds=900)
    assert answer["SubjectFromWebIdentityToken"] == "system:serviceaccount:shop:caller"
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert refused(lambda: assume(WebIdentityToken="another")) == "InvalidIdentityToken"
    assert refused(lambda: assume(DurationSeconds=901 * 1000)) == "ValidationError"
    assert refused(lambda: assume(RoleArn="arn:aws:iam::000000000000:role/shop/other")) == "AccessDenied"
    assert refused(client.get_session_token) == "InvalidAction"
    assert refused(client.get_caller_identity) == "InvalidClientTokenId"
    with pytest.raises(client.exceptions.InvalidIdentityTokenException):
        assume(WebIdentityToken="another")


def test_a_presigned_url_is_good_until_its_end(judged, with_key):
    url = sdk("lambda").generate_presigned_url(
        "get_function", Params={"FunctionName": ARN, "Qualifier": "$LATEST"}, ExpiresIn=600
    )
    assert urllib.request.urlopen(url).status == 200
    sent = judged.sent[0]
    judged.settings.ahead = 590
    assert judged.send(sent)[0] == 200
    judged.settings.ahead = 610
    assert judged.send(sent)[1] == "InvalidSignatureException"
    judged.settings.ahead = 0
    for old, new in [("Expires=600", "Expires=6000"), ("hello", "other"), ("LATEST", "OTHER")]:
        assert old in sent.target
        assert judged.send(replace(sent, target=sent.target.replace(old, new)))[0] == 403


def test_a_presigned_identity_is_known(judged, with_key):
    session = boto3.Session()
    request = AWSRequest("GET", f"{judged.endpoint}/?Action=GetCallerIdentity&Version=2011-06-15")
    SigV4QueryAuth(session.get_credentials(), "sts", "us-east-1", expires=60).add_auth(request)
    body = urllib.request.urlopen(request.url).read()
    assert b"<Arn>arn:aws:iam::000000000000:user/shop/caller</Arn>" in body
