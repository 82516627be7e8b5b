"""The Invoke API's rules: what a request may say, and how an error looks to the caller.

Pure functions over bytes and strings; nothing here knows about sockets. Every error constructor returns an
:data:`Answer`, so that any stage can say ``invocation.reply(*throttled())``. The shapes are those of the service's
public API model (the ``lambda`` 2015-03-31 model that botocore ships); texts were observed on the service unless the
function says that they are ours.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import NamedTuple

import msgspec
import orjson

from lamplighter.host.invocation import Header

Answer = tuple[int, tuple[Header, ...], bytes]
"""``(status, headers, body)``, in the order in which ``Invocation.reply`` takes them."""

PAYLOAD_LIMIT = 6_291_556
"""Bytes of a synchronous request. AWS documents 6 MB; 6 MiB + 100 is what the service and its emulator enforce."""

CLIENT_CONTEXT_LIMIT = 3_583
"""Bytes of ``X-Amz-Client-Context`` as sent, that is, in base64 (AWS API reference, Invoke)."""

TRACE_ID_LIMIT = 1_024
"""Bytes of ``X-Amzn-Trace-Id`` taken over; ours. The service's own headers stay well under 300."""

FUNCTION_NAME_LIMIT = 64
"""Characters of the name alone (AWS API reference, CreateFunction)."""
UNQUALIFIED_ARN_LIMIT = 140
"""Characters of an ARN without its qualifier (API model, ``FunctionName``)."""
QUALIFIED_ARN_LIMIT = 256
"""Characters of a function name in any form, qualifier included (API model, ``NamespacedFunctionName``)."""
QUALIFIER_LIMIT = 128
"""Characters of ``?Qualifier=`` (API model)."""

NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
"""The model's pattern for Invoke's ``FunctionName``, to the letter: it is quoted in the error."""
QUALIFIER_PATTERN = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
TENANT_PATTERN = r"[a-zA-Z0-9\._:\/=+\-@ ]+"

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_QUALIFIER = re.compile(QUALIFIER_PATTERN, re.ASCII)
_TENANT = re.compile(TENANT_PATTERN, re.ASCII)
_ACCOUNT = 9  # groups of NAME_PATTERN
_REGION = 3
_BARE_NAME = 11
_NAME_QUALIFIER = 13

_JSON: Header = (b"Content-Type", b"application/json")


class Refusal(Exception):
    """The request is refused; ``answer`` is what the caller gets."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


# --- errors ---------------------------------------------------------------------------------------------------------


def _error(status: int, name: str, body: dict[str, str], *more: Header) -> Answer:
    return status, (_JSON, (b"x-amzn-ErrorType", name.encode()), *more), orjson.dumps(body)


def user_error(status: int, name: str, message: str) -> Answer:
    """Any other modelled error of the caller's making: ``{"Type":"User","message":...}``."""
    return _error(status, name, {"Type": "User", "message": message})


def function_not_found(arn: str) -> Answer:
    """404. ``arn`` is the whole function ARN; Invoke reports it with its qualifier, ``:$LATEST`` if none was given."""
    return resource_not_found(f"Function not found: {arn}")


def resource_not_found(message: str) -> Answer:
    """404 ResourceNotFoundException; the model spells its member ``Message``, and the service sends it so."""
    return _error(404, "ResourceNotFoundException", {"Type": "User", "Message": message})


def wrong_region(asked: str, here: str) -> Answer:
    """404 for an ARN that names another region."""
    return resource_not_found(f"Functions from '{asked}' are not reachable in this region ('{here}')")


def throttled(
    reason: str = "ReservedFunctionConcurrentInvocationLimitExceeded",
    message: str = "Rate Exceeded.",
    retry_after: int = 1,
) -> Answer:
    """429 TooManyRequestsException. ``reason`` is one of the model's throttle reasons; ``retry_after`` in seconds."""
    body = {"Type": "User", "message": message, "Reason": reason}
    return _error(429, "TooManyRequestsException", body, (b"Retry-After", b"%d" % retry_after))


def constraint(value: str, field: str, rule: str) -> str:
    """One entry of a validation error, worded as the service words it."""
    return f"Value '{value}' at '{field}' failed to satisfy constraint: {rule}"


def validation(*problems: str) -> Answer:
    """400 ValidationException listing ``problems`` (see :func:`constraint`). It has a message and nothing else."""
    count = f"{len(problems)} validation error{'s' if len(problems) != 1 else ''} detected: "
    return _error(400, "ValidationException", {"message": count + "; ".join(problems)})


def invalid_parameter(message: str) -> Answer:
    """400 InvalidParameterValueException."""
    return user_error(400, "InvalidParameterValueException", message)


def invalid_request_content(message: str) -> Answer:
    """400 InvalidRequestContentException."""
    return user_error(400, "InvalidRequestContentException", message)


def request_too_large(limit: int = PAYLOAD_LIMIT, operation: str = "InvokeFunction") -> Answer:
    """413. Named as in the API model, so that SDKs raise their class for it."""
    message = f"Request must be smaller than {limit} bytes for the {operation} operation"
    return user_error(413, "RequestTooLargeException", message)


def service_exception(message: str = "An error occurred and the request cannot be processed.") -> Answer:
    """500 ServiceException: the host failed, not the function and not the caller. The text is ours."""
    return _error(500, "ServiceException", {"Type": "Service", "Message": message})


def not_ready(state: str = "Pending") -> Answer:
    """409 for a function that cannot be invoked yet; ``state`` is the function's, as GetFunction would report it."""
    return user_error(
        409,
        "ResourceConflictException",
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}",
    )


def shutting_down(retry_after: int = 1) -> Answer:
    """503 while the host drains: SDKs retry it, then reach whoever took over. The text is ours."""
    body = {"Type": "Service", "Message": "The host is shutting down; send the request again"}
    return _error(503, "ServiceUnavailableException", body, (b"Retry-After", b"%d" % retry_after))


def not_supported(message: str) -> Answer:
    """501 for an operation the service has and this host does not have yet. The name and texts are ours."""
    return _error(501, "NotImplementedException", {"message": message})


def unknown_operation(path: str) -> Answer:
    """404 for a path that is no operation. The service's front end uses this name; the body is ours."""
    return _error(404, "UnknownOperationException", {"message": f"There is no operation at {path[:256]}"})


def method_not_allowed(method: str, allowed: str) -> Answer:
    """405, with ``Allow`` as RFC 9110 section 15.5.6 requires. ``allowed`` is a comma-separated list. Ours."""
    message = f"{method} is not allowed here; allowed: {allowed}"
    return _error(405, "MethodNotAllowedException", {"message": message}, (b"Allow", allowed.encode()))


def wire_error(status: int, name: str, message: str) -> Answer:
    """An error of HTTP itself (malformed, too slow, too long): below the API, so it has only a message. Ours."""
    return _error(status, name, {"message": message})


# --- names ----------------------------------------------------------------------------------------------------------


class FunctionName(NamedTuple):
    """A function as a request names it; ``None`` where the form used does not say."""

    account: str | None
    region: str | None
    name: str
    qualifier: str | None


def parse_function_name(text: str, *, region: str | None = None) -> FunctionName:
    """Take apart ``name``, ``name:qualifier``, a partial ARN (``123456789012:function:name``) or a full ARN.

    With ``region``, an ARN of another region is refused. Raises :class:`Refusal`: ValidationException for a text that
    is no function name at all or an ARN over its limit, InvalidParameterValueException for a name over 64 characters,
    ResourceNotFoundException for another region.
    """
    if len(text) > QUALIFIED_ARN_LIMIT:
        rule = f"Member must have length less than or equal to {QUALIFIED_ARN_LIMIT}"
        raise Refusal(validation(constraint(text, "functionName", rule)))
    match = _NAME.fullmatch(text)
    if match is None:
        rule = f"Member must satisfy regular expression pattern: {NAME_PATTERN}"
        raise Refusal(validation(constraint(text, "functionName", rule)))
    name = match[_BARE_NAME]
    if match.start(_BARE_NAME) > 0 and match.end(_BARE_NAME) > UNQUALIFIED_ARN_LIMIT:
        rule = f"Member must have length less than or equal to {UNQUALIFIED_ARN_LIMIT}"
        raise Refusal(validation(constraint(text, "functionName", rule)))
    if len(name) > FUNCTION_NAME_LIMIT:
        raise Refusal(
            invalid_parameter(
                f"The function name is {len(name)} characters long; at most {FUNCTION_NAME_LIMIT} are allowed: {name}"
            )
        )
    asked = match[_REGION]
    asked = asked.removesuffix(":") if asked else None
    if region is not None and asked is not None and asked != region:
        raise Refusal(wrong_region(asked, region))
    account = match[_ACCOUNT]
    return FunctionName(account.removesuffix(":") if account else None, asked, name, match[_NAME_QUALIFIER])


def check_qualifier(qualifier: str) -> str | None:
    """What is wrong with ``?Qualifier=``, as an entry for :func:`validation`; ``None`` if nothing is."""
    if len(qualifier) > QUALIFIER_LIMIT:
        return constraint(qualifier, "qualifier", f"Member must have length less than or equal to {QUALIFIER_LIMIT}")
    if _QUALIFIER.fullmatch(qualifier) is None:
        rule = f"Member must satisfy regular expression pattern: {QUALIFIER_PATTERN}"
        return constraint(qualifier, "qualifier", rule)
    return None


# --- headers and payload --------------------------------------------------------------------------------------------

INVOKE_HEADERS = frozenset(
    (
        b"x-amz-client-context",
        b"x-amz-durable-execution-name",
        b"x-amz-invocation-type",
        b"x-amz-log-type",
        b"x-amz-tenant-id",
        b"x-amzn-trace-id",
    )
)
"""The request headers Invoke reads, in lower case. All others are skipped while parsing."""


class InvokeOptions(NamedTuple):
    """What the headers ask for. ``client_context`` is JSON text, already base64-decoded."""

    dry_run: bool = False
    tail: bool = False
    client_context: str = ""
    tenant_id: str = ""
    trace_id: str = ""


def read_options(headers: dict[bytes, bytes]) -> InvokeOptions:
    """Judge Invoke's headers (names in lower case). Raises :class:`Refusal` with everything that is wrong in them."""
    invocation_type = headers.get(b"x-amz-invocation-type", b"RequestResponse").decode("latin-1")
    log_type = headers.get(b"x-amz-log-type", b"None").decode("latin-1")
    tenant_id = headers.get(b"x-amz-tenant-id", b"").decode("latin-1")
    problems: list[str] = []
    if invocation_type not in ("RequestResponse", "DryRun", "Event"):
        rule = "Member must satisfy enum value set: [Event, RequestResponse, DryRun]"
        problems.append(constraint(invocation_type, "invocationType", rule))
    if log_type not in ("None", "Tail"):
        problems.append(constraint(log_type, "logType", "Member must satisfy enum value set: [None, Tail]"))
    if len(tenant_id) > 256:
        problems.append(constraint(tenant_id, "tenantId", "Member must have length less than or equal to 256"))
    elif b"x-amz-tenant-id" in headers and _TENANT.fullmatch(tenant_id) is None:
        rule = f"Member must satisfy regular expression pattern: {TENANT_PATTERN}"
        problems.append(constraint(tenant_id, "tenantId", rule))
    if problems:
        raise Refusal(validation(*problems))
    if invocation_type == "Event":
        raise Refusal(
            invalid_parameter(
                "Asynchronous invocation (Event) is not supported by this host until it can be made durable; "
                "use RequestResponse"
            )
        )
    if b"x-amz-durable-execution-name" in headers:
        raise Refusal(invalid_parameter("Durable executions are not supported by this host; leave out the name"))
    context = headers.get(b"x-amz-client-context")
    trace_id = headers.get(b"x-amzn-trace-id", b"")
    if len(trace_id) > TRACE_ID_LIMIT or not trace_id.isascii():
        trace_id = b""
    return InvokeOptions(
        invocation_type == "DryRun",
        log_type == "Tail",
        read_client_context(context) if context else "",
        tenant_id,
        trace_id.decode(),
    )


def read_client_context(value: bytes) -> str:
    """The JSON text inside ``X-Amz-Client-Context``. Raises :class:`Refusal` unless it is a base64 JSON object."""
    if len(value) > CLIENT_CONTEXT_LIMIT:
        raise Refusal(
            invalid_request_content(
                f"Client context is {len(value)} bytes long; at most {CLIENT_CONTEXT_LIMIT} are allowed"
            )
        )
    try:
        text = binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error as fault:
        raise Refusal(
            invalid_request_content(f"Client context must be a JSON object encoded in base64: {fault}")
        ) from fault
    try:
        context = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise Refusal(invalid_request_content(f"Could not parse client context into json: {fault}")) from fault
    if not isinstance(context, dict):
        raise Refusal(invalid_request_content(f"Client context must be a JSON object, not {type(context).__name__}"))
    return text.decode()


_scan = msgspec.json.Decoder(msgspec.Raw).decode
# Raw checks the grammar without building objects: 0.07 µs for a small event where orjson.loads takes twice that, and
# six times less at 1 MB.


def read_payload(body: bytes) -> bytes:
    """The event as the worker is to get it. An empty body means ``{}``. Raises :class:`Refusal` if it is not JSON."""
    if not body:
        return b"{}"
    try:
        _scan(body)
        if not body.isascii():
            body.decode()  # Raw does not look inside strings
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        # The scanner refuses escaped lone surrogates, which RFC 8259 section 8.2 allows and the worker decodes.
        if rb"\u" not in body or not _is_json(body):
            raise Refusal(
                invalid_request_content(
                    f"Could not parse request body into json: Could not parse payload into json: {fault}"
                )
            ) from fault
    return body


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
