"""The Invoke API as boto3 sees it, through the HTTP front."""

from __future__ import annotations

import base64
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import pytest

from lamplighter.host import invoke_api


@pytest.fixture
def lambda_client(front_server: Any) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{front_server.port}",
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


def test_boto3_invokes(lambda_client: Any, front_server: Any) -> None:
    response = lambda_client.invoke(FunctionName="hello", Payload=b'{"a": 1}')
    assert response["StatusCode"] == 200
    assert response["ExecutedVersion"] == "$LATEST"
    assert response["Payload"].read() == b'{"a": 1}'
    (invocation,) = front_server.application.wait_for(1)
    assert response["ResponseMetadata"]["RequestId"] == invocation.request_id


def test_boto3_without_a_payload_sends_an_empty_object(lambda_client: Any) -> None:
    assert lambda_client.invoke(FunctionName="hello")["Payload"].read() == b"{}"


def test_boto3_sees_a_function_error_and_the_log_tail(lambda_client: Any, front_server: Any) -> None:
    headers = (
        (b"Content-Type", b"application/json"),
        (b"X-Amz-Function-Error", b"Unhandled"),
        (b"X-Amz-Log-Result", base64.b64encode(b"START\n")),
    )
    front_server.application.on_invoke = lambda invocation: invocation.reply(200, headers, b'{"errorMessage":"x"}')
    response = lambda_client.invoke(FunctionName="hello", LogType="Tail")
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    assert base64.b64decode(response["LogResult"]) == b"START\n"
    assert front_server.application.wait_for(1)[0].tail


@pytest.mark.parametrize(
    ("answer", "exception"),
    [
        (invoke_api.function_not_found("arn:aws:lambda:us-east-1:1:function:x:$LATEST"), "ResourceNotFoundException"),
        (invoke_api.throttled(), "TooManyRequestsException"),
        (invoke_api.request_too_large(), "RequestTooLargeException"),
        (invoke_api.invalid_request_content("x"), "InvalidRequestContentException"),
        (invoke_api.invalid_parameter("x"), "InvalidParameterValueException"),
        (invoke_api.service_exception(), "ServiceException"),
        (invoke_api.not_ready(), "ResourceConflictException"),
    ],
)
def test_boto3_raises_its_class_for_each_error(
    lambda_client: Any, front_server: Any, answer: Any, exception: str
) -> None:
    front_server.application.on_invoke = lambda invocation: invocation.reply(*answer)
    with pytest.raises(getattr(lambda_client.exceptions, exception)) as caught:
        lambda_client.invoke(FunctionName="hello")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == answer[0]
    assert response["Error"]["Message"]
    if exception == "TooManyRequestsException":
        assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert response["retryAfterSeconds"] == "1"


def test_boto3_raises_its_class_for_errors_of_the_front_itself(lambda_client: Any) -> None:
    with pytest.raises(lambda_client.exceptions.InvalidRequestContentException, match="Could not parse payload"):
        lambda_client.invoke(FunctionName="hello", Payload=b"{")
    with pytest.raises(lambda_client.exceptions.RequestTooLargeException, match="smaller than 6291556 bytes"):
        lambda_client.invoke(FunctionName="hello", Payload=b"1" * 7_000_000)
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException, match="use RequestResponse"):
        lambda_client.invoke(FunctionName="hello", InvocationType="Event")
    with pytest.raises(botocore.exceptions.ClientError, match="ValidationException"):
        lambda_client.invoke(FunctionName="hello", InvocationType="Sometime")


@pytest.mark.parametrize(
    "name",
    [
        "hello",
        "hello:live",
        "123456789012:function:hello",
        "arn:aws:lambda:us-east-1:123456789012:function:hello",
        "arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST",
    ],
)
def test_boto3_may_name_the_function_in_every_form(lambda_client: Any, front_server: Any, name: str) -> None:
    assert lambda_client.invoke(FunctionName=name)["StatusCode"] == 200
    assert front_server.application.wait_for(1)[0].function == name


def test_boto3_passes_qualifier_context_tenant_and_dry_run(lambda_client: Any, front_server: Any) -> None:
    context = base64.b64encode(b'{"client": {"app_title": "a"}}').decode()
    lambda_client.invoke(FunctionName="hello", Qualifier="$LATEST", ClientContext=context, TenantId="blue green")
    front_server.application.on_invoke = lambda invocation: invocation.reply(204, (), b"")
    assert lambda_client.invoke(FunctionName="hello", InvocationType="DryRun")["StatusCode"] == 204
    first, second = front_server.application.wait_for(2)
    assert (first.qualifier, first.tenant_id) == ("$LATEST", "blue green")
    assert first.client_context == '{"client": {"app_title": "a"}}'
    assert second.dry_run
