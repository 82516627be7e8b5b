"""The Invoke API's rules as pure functions."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.host import invoke_api
from lamplighter.host.identifiers import Identifiers
from lamplighter.host.invoke_api import FunctionName, Refusal, parse_function_name, read_options, read_payload

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:hello"


def refused(call: Callable[..., object], *args: object, **kwargs: object) -> tuple[int, str, dict[str, str]]:
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    status, headers, body = caught.value.answer
    return status, dict(headers)[b"x-amzn-ErrorType"].decode(), json.loads(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", FunctionName(None, None, "hello", None)),
        ("hello:7", FunctionName(None, None, "hello", "7")),
        ("hello:$LATEST", FunctionName(None, None, "hello", "$LATEST")),
        ("hello:$LATEST.PUBLISHED", FunctionName(None, None, "hello", "$LATEST.PUBLISHED")),
        ("hello:live-1", FunctionName(None, None, "hello", "live-1")),
        ("123456789012:function:hello", FunctionName("123456789012", None, "hello", None)),
        ("123456789012:function:hello:live", FunctionName("123456789012", None, "hello", "live")),
        (ARN, FunctionName("123456789012", "eu-west-1", "hello", None)),
        (ARN + ":live", FunctionName("123456789012", "eu-west-1", "hello", "live")),
        (
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:hello",
            FunctionName("123456789012", "us-gov-west-1", "hello", None),
        ),
        ("function", FunctionName(None, None, "function", None)),
        ("a" * 64, FunctionName(None, None, "a" * 64, None)),
    ],
)
def test_every_form_of_a_function_name_is_taken_apart(text: str, expected: FunctionName) -> None:
    assert parse_function_name(text) == expected


@pytest.mark.parametrize("text", ["", "no spaces", "hello!", "hello:$OLD", "a/b", "arn:aws:s3:::bucket", "hello:", "é"])
def test_a_text_that_is_no_function_name_is_a_validation_error_quoting_the_pattern(text: str) -> None:
    status, name, body = refused(parse_function_name, text)
    assert (status, name) == (400, "ValidationException")
    assert body == {
        "message": f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {invoke_api.NAME_PATTERN}"
    }


def test_a_name_over_64_characters_is_an_invalid_parameter_value() -> None:
    status, name, body = refused(parse_function_name, "a" * 65)
    assert (status, name, body["Type"]) == (400, "InvalidParameterValueException", "User")
    assert "64" in body["message"]


def test_an_arn_over_140_characters_is_a_validation_error() -> None:
    arn = ARN.removesuffix("hello") + "a" * 100
    assert len(arn) > 140
    status, name, body = refused(parse_function_name, arn)
    assert (status, name) == (400, "ValidationException")
    assert body["message"].endswith("Member must have length less than or equal to 140")


def test_an_arn_with_a_long_alias_may_pass_140_characters() -> None:
    alias = "b" * 110
    assert parse_function_name(f"{ARN}:{alias}").qualifier == alias


def test_any_form_over_256_characters_is_a_validation_error() -> None:
    status, name, body = refused(parse_function_name, f"{ARN}:{'b' * 256}")
    assert (status, name) == (400, "ValidationException")
    assert body["message"].endswith("less than or equal to 256")


def test_an_arn_of_another_region_is_not_reachable() -> None:
    assert refused(parse_function_name, ARN, region="us-east-1") == (
        404,
        "ResourceNotFoundException",
        {
            "Type": "User",
            "Message": "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        },
    )
    assert parse_function_name(ARN, region="eu-west-1").region == "eu-west-1"
    assert parse_function_name("hello", region="us-east-1").name == "hello"


@given(st.text(max_size=300))
def test_any_text_is_either_a_function_name_or_refused(text: str) -> None:
    try:
        parsed = parse_function_name(text)
    except Refusal as refusal:
        assert refusal.answer[0] in (400, 404)
    else:
        assert 1 <= len(parsed.name) <= 64
        assert parsed.name in text


@pytest.mark.parametrize(
    ("answer", "status", "name", "body"),
    [
        (
            invoke_api.function_not_found(ARN + ":$LATEST"),
            404,
            b"ResourceNotFoundException",
            {"Type": "User", "Message": f"Function not found: {ARN}:$LATEST"},
        ),
        (
            invoke_api.throttled(),
            429,
            b"TooManyRequestsException",
            {
                "Type": "User",
                "message": "Rate Exceeded.",
                "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
            },
        ),
        (
            invoke_api.validation("a", "b"),
            400,
            b"ValidationException",
            {"message": "2 validation errors detected: a; b"},
        ),
        (
            invoke_api.request_too_large(),
            413,
            b"RequestTooLargeException",
            {
                "Type": "User",
                "message": "Request must be smaller than 6291556 bytes for the InvokeFunction operation",
            },
        ),
        (
            invoke_api.not_ready(),
            409,
            b"ResourceConflictException",
            {
                "Type": "User",
                "message": "The operation cannot be performed at this time. "
                "The function is currently in the following state: Pending",
            },
        ),
    ],
)
def test_errors_have_the_services_shape_and_casing(answer: Any, status: int, name: bytes, body: dict[str, str]) -> None:
    got, headers, raw = answer
    assert (got, json.loads(raw)) == (status, body)
    assert dict(headers)[b"x-amzn-ErrorType"] == name
    assert dict(headers)[b"Content-Type"] == b"application/json"


@pytest.mark.parametrize("answer", [invoke_api.throttled(retry_after=3), invoke_api.shutting_down(3)])
def test_errors_worth_retrying_say_when(answer: Any) -> None:
    assert dict(answer[1])[b"Retry-After"] == b"3"


def test_options_default_to_a_plain_synchronous_invocation() -> None:
    options = read_options({})
    assert not options.dry_run
    assert not options.tail
    assert (options.client_context, options.tenant_id, options.trace_id) == ("", "", "")


def test_every_wrong_header_is_reported_at_once() -> None:
    status, name, body = refused(
        read_options, {b"x-amz-invocation-type": b"Later", b"x-amz-log-type": b"Head", b"x-amz-tenant-id": b"a*"}
    )
    assert (status, name) == (400, "ValidationException")
    assert body["message"].startswith("3 validation errors detected: Value 'Later' at 'invocationType' failed")
    assert "[Event, RequestResponse, DryRun]; Value 'Head' at 'logType' failed" in body["message"]
    assert "Value 'a*' at 'tenantId'" in body["message"]


@pytest.mark.parametrize("tenant", [b"", b"a" * 257, b"\xff", b"a,b"])
def test_a_tenant_id_outside_its_pattern_or_length_is_refused(tenant: bytes) -> None:
    assert refused(read_options, {b"x-amz-tenant-id": tenant})[:2] == (400, "ValidationException")


def test_a_tenant_id_may_have_256_characters_and_the_listed_marks() -> None:
    tenant = b"aZ0._:/=+-@ " + b"x" * 244
    assert read_options({b"x-amz-tenant-id": tenant}).tenant_id == tenant.decode()


def test_event_is_refused_and_the_caller_told_what_to_use() -> None:
    status, name, body = refused(read_options, {b"x-amz-invocation-type": b"Event"})
    assert (status, name) == (400, "InvalidParameterValueException")
    assert "use RequestResponse" in body["message"]


def test_a_trace_id_is_passed_and_one_too_long_or_not_ascii_is_dropped() -> None:
    assert read_options({b"x-amzn-trace-id": b"Root=1-a-b;Sampled=1"}).trace_id == "Root=1-a-b;Sampled=1"
    assert read_options({b"x-amzn-trace-id": b"R" * 1024}).trace_id == "R" * 1024
    assert read_options({b"x-amzn-trace-id": b"R" * 1025}).trace_id == ""
    assert read_options({b"x-amzn-trace-id": b"\xff"}).trace_id == ""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"***", "base64"),
        (base64.b64encode(b"{"), "json"),
        (base64.b64encode(b"[1]"), "object, not list"),
        (base64.b64encode(b'{"a":"' + b"x" * 3_000 + b'"}'), "at most 3583"),
    ],
)
def test_a_client_context_that_is_no_base64_json_object_is_refused(value: Any, says: str) -> None:
    status, name, body = refused(read_options, {b"x-amz-client-context": value})
    assert (status, name) == (400, "InvalidRequestContentException")
    assert says in body["message"]


def test_a_client_context_is_decoded_to_its_json_text() -> None:
    text = '{"custom": {"ключ": "v"}}'
    value = base64.b64encode(text.encode())
    assert read_options({b"x-amz-client-context": value}).client_context == text


def test_an_empty_payload_becomes_an_empty_object() -> None:
    assert read_payload(b"") == b"{}"


@pytest.mark.parametrize(
    "body", [b"null", b'"x"', b" {} \n", b"1e999", '{"é":"ü"}'.encode(), rb'"\ud800"', rb'{"a":"\ud83d\ude00"}']
)
def test_any_json_text_is_passed_on_unchanged(body: bytes) -> None:
    assert read_payload(body) is body


@pytest.mark.parametrize(
    "body", [b"{", b"'a'", b"{} x", b"[1,]", b"NaN", rb'["\ud800",NaN]', b'"\xff"', b'"\\q"', b"[" * 100_000, b" "]
)
def test_a_payload_that_is_not_json_is_refused_with_the_services_words(body: bytes) -> None:
    status, name, answer = refused(read_payload, body)
    assert (status, name, answer["Type"]) == (400, "InvalidRequestContentException", "User")
    prefix = "Could not parse request body into json: Could not parse payload into json: "
    assert answer["message"].startswith(prefix)
    assert len(answer["message"]) > len(prefix)


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=20))
def test_whatever_json_writes_is_a_payload(value: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only).replace("Infinity", "1e999")
        try:
            body = text.encode()
        except UnicodeEncodeError:
            continue
        assert read_payload(body) == body


def test_request_ids_are_fresh_version_4_uuids() -> None:
    identifiers = Identifiers()
    made = [identifiers.request_id() for _ in range(1_000)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert {text[19] for text in made} == set("89ab")


def test_trace_roots_are_fresh_and_carry_the_time() -> None:
    identifiers = Identifiers()
    made = [identifiers.trace_root() for _ in range(200)]
    assert len(set(made)) == len(made)
    for text in made:
        root, second, unique = text.split("-")
        assert (root, len(second), len(unique)) == ("Root=1", 8, 24)
        assert int(second, 16) > 1_700_000_000
        int(unique, 16)
