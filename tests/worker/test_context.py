"""The context object."""

import time
from typing import Any

import pytest

from lamplighter.worker.channel import Event
from lamplighter.worker.context import ContextFault, FunctionFacts, LambdaContext

FACTS = FunctionFacts("/group", "stream", "name", "128", "$LATEST")


def context(**event: Any) -> LambdaContext:
    return LambdaContext(Event(b"{}", "id", **event), FACTS)


def test_it_tells_what_the_environment_and_the_event_say() -> None:
    facts = FunctionFacts.read(
        {
            "AWS_LAMBDA_LOG_GROUP_NAME": "/group",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
            "AWS_LAMBDA_FUNCTION_NAME": "name",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        }
    )
    assert [getattr(facts, name) for name in FunctionFacts.__slots__] == [
        getattr(FACTS, name) for name in FunctionFacts.__slots__
    ]
    told = context(function_arn="arn", tenant_id="blue")
    assert told.memory_limit_in_mb == "128"
    assert (told.aws_request_id, told.invoked_function_arn, told.tenant_id) == ("id", "arn", "blue")


def test_what_nobody_said_is_none() -> None:
    silent = LambdaContext(Event(b"", "id"), FunctionFacts.read({}))
    public = {name: value for name, value in vars(silent).items() if not name.startswith("_")}
    identity = public.pop("identity")
    assert (identity.cognito_identity_id, identity.cognito_identity_pool_id) == (None, None)
    assert public.pop("aws_request_id") == "id"
    assert set(public.values()) == {None}
    assert silent.w3c() == {}


def test_the_remaining_time_counts_down_to_the_deadline_and_not_below_zero() -> None:
    now = int(time.time() * 1000)
    assert 0 < context(deadline_ms=now + 5000).get_remaining_time_in_millis() <= 5000
    assert context(deadline_ms=now - 1).get_remaining_time_in_millis() == 0
    assert context().get_remaining_time_in_millis() == 0


def test_the_w3c_fields_leave_the_client_context() -> None:
    seen = context(client_context='{"custom": {"w3c": 1}, "w3c": {"traceparent": "p", "tracestate": 1, "other": "o"}}')
    assert seen.w3c() == {"traceparent": "p"}
    assert seen.client_context is not None
    assert seen.client_context.custom == {"w3c": 1}
    assert seen.client_context.client is None


def test_the_w3c_dict_is_the_callers_own() -> None:
    seen = context(client_context='{"w3c": {"baggage": "b"}}')
    seen.w3c().clear()
    assert seen.w3c() == {"baggage": "b"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"client_context": "{"}, "Unable to parse Client Context JSON: Expecting property name"),
        ({"cognito_identity": "x"}, "Unable to parse Cognito Identity JSON: Expecting value"),
    ],
)
def test_a_header_that_is_not_json_is_a_fault_of_the_context(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ContextFault, match=message) as caught:
        context(**fields)
    assert caught.value.error_type == "Runtime.LambdaContextUnmarshalError"


def test_a_handler_may_hang_its_own_attributes_on_it() -> None:
    seen = context()
    seen.own = 1  # type: ignore[attr-defined]
    assert vars(seen)["own"] == 1
