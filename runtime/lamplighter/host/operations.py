"""Which operation a request line names, and the operations of the host itself: Invoke and the two probes.

A request target is resolved once and the result kept, so that a warm invocation costs one dictionary look-up. Another
room adds operations by handing further :class:`Route` objects to the front.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote_to_bytes

import orjson

from lamplighter.host import invoke_api
from lamplighter.host.identifiers import Identifiers
from lamplighter.host.invocation import Application, Header, Invocation
from lamplighter.host.invoke_api import Answer, Refusal


class Exchange(Protocol):
    """One request waiting for its answer."""

    @property
    def request_id(self) -> str:
        """The ``x-amzn-RequestId`` its answer will carry."""

    def reply(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Answer, exactly once, now or later, from the event loop's thread."""


class Operation(Protocol):
    """What one method on one request target does. Made once, used for every request to that target."""

    name: str
    """As error texts call it, for example ``InvokeFunction``."""
    body_limit: int
    """Bytes of body it takes; the front refuses more with 413."""

    def accept(self, headers: dict[bytes, bytes]) -> Any:
        """Judge the head before any body is read; what it returns reaches :meth:`perform` as ``options``.

        Names are lower-case, and only those the front was told to keep are there. Not called for a request that has
        only ``Host`` and ``Content-Length``; ``options`` is then ``None``. Raises :class:`Refusal`.
        """

    def perform(self, exchange: Exchange, options: Any, body: bytes) -> None:
        """Carry the whole request out; answer through ``exchange``."""


Parameters = Mapping[str, str]
"""The percent-decoded ``{names}`` of a route's path, and ``?name`` for each query parameter (the first of its name)."""


class Route(NamedTuple):
    """``path`` is literal but for whole segments in braces. ``operations`` makes, for each method, its operation.

    The makers may raise :class:`Refusal`; it then answers every request to that target.
    """

    path: str
    operations: Mapping[str, Callable[[Parameters], Operation]]


class Target:
    """A resolved request target: its operations by method, and what answers any other method."""

    __slots__ = ("_allowed", "get")

    def __init__(self, operations: dict[bytes, Operation], *, allowed: str) -> None:
        self.get = operations.get
        self._allowed = allowed

    def other(self, method: bytes) -> Operation:
        """The operation that answers a ``method`` this target does not have: ``OPTIONS``, or a refusal."""
        if method == b"OPTIONS":
            return Fixed((204, ((b"Allow", self._allowed.encode()),), b""))
        return Fixed(invoke_api.method_not_allowed(method.decode(), self._allowed))


class Routes:
    """The route table, with a bounded memory of the targets that were asked for."""

    _REMEMBERED = 1_024
    _LONGEST = 512

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(tuple(route.path.split("/")), route.operations) for route in routes]
        self._targets: dict[bytes, Target] = {}
        self.find = self._targets.get
        """``find(url)``: the target if it is remembered, else ``None``."""

    def resolve(self, url: bytes) -> Target:
        """The target that ``url`` (a request target as it stands in the request line) names. Never fails."""
        target = self._resolve(url)
        if len(url) <= self._LONGEST:
            if len(self._targets) >= self._REMEMBERED:
                self._targets.clear()
            self._targets[url] = target
        return target

    def _resolve(self, url: bytes) -> Target:
        if url == b"*":
            return Target({}, allowed="GET, HEAD, OPTIONS, POST")
        if not url.startswith(b"/") and b"://" in url:  # absolute-form, RFC 9112 section 3.2.2
            url = b"/" + url.split(b"://", 1)[1].partition(b"/")[2]
        path, _, query = url.partition(b"?")
        segments = path.decode("latin-1").split("/")
        for pattern, makers in self._routes:
            if len(pattern) == len(segments) and all(
                here == there or here.startswith("{") for here, there in zip(pattern, segments, strict=True)
            ):
                return _make_target(pattern, segments, query, makers)
        answer = invoke_api.unknown_operation(path.decode("latin-1"))
        return _always(answer)


def _make_target(
    pattern: tuple[str, ...],
    segments: list[str],
    query: bytes,
    makers: Mapping[str, Callable[[Parameters], Operation]],
) -> Target:
    allowed = ", ".join((*makers, "OPTIONS"))
    operations: dict[bytes, Operation] = {}
    try:
        parameters = _parameters(pattern, segments, query)
        for method, make in makers.items():
            try:
                operations[method.encode()] = make(parameters)
            except Refusal as refusal:
                operations[method.encode()] = Fixed(refusal.answer)
    except Refusal as refusal:
        return _always(refusal.answer)
    return Target(operations, allowed=allowed)


def _parameters(pattern: tuple[str, ...], segments: list[str], query: bytes) -> dict[str, str]:
    try:
        parameters = {
            here[1:-1]: unquote_to_bytes(there).decode()
            for here, there in zip(pattern, segments, strict=True)
            if here.startswith("{")
        }
        fields = parse_qs(query.decode(), errors="strict", max_num_fields=64)
    except UnicodeDecodeError as fault:
        raise Refusal(
            invoke_api.wire_error(400, "BadRequestException", "The path or query is not percent-encoded UTF-8")
        ) from fault
    except ValueError as fault:
        raise Refusal(
            invoke_api.wire_error(400, "BadRequestException", "The query has too many parameters; 64 are allowed")
        ) from fault
    for name, values in fields.items():
        parameters["?" + name] = values[0]
    return parameters


class Fixed:
    """The operation that gives the same answer to every request: refusals, and ``OPTIONS``."""

    name = "request"
    body_limit = invoke_api.PAYLOAD_LIMIT

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def accept(self, headers: dict[bytes, bytes]) -> None:
        raise Refusal(self.answer)

    def perform(self, exchange: Exchange, options: Any, body: bytes) -> None:
        exchange.reply(*self.answer)


class _AnyMethod(Target):
    """A target that answers every method alike."""

    __slots__ = ("_operation",)

    def __init__(self, operation: Operation) -> None:
        super().__init__({}, allowed="")
        self._operation = operation

    def other(self, method: bytes) -> Operation:
        return self._operation


def _always(answer: Answer) -> Target:
    return _AnyMethod(Fixed(answer))


# --- Invoke ---------------------------------------------------------------------------------------------------------


class InvokeFunction:
    """``POST .../functions/{FunctionName}/invocations`` for one name and qualifier."""

    __slots__ = ("_function", "_identifiers", "_invoke", "_qualifier")

    name = "InvokeFunction"
    body_limit = invoke_api.PAYLOAD_LIMIT

    def __init__(self, application: Application, identifiers: Identifiers, parameters: Parameters) -> None:
        self._invoke = application.invoke
        self._identifiers = identifiers
        self._function = parameters["FunctionName"]
        self._qualifier = parameters.get("?Qualifier", "")
        problem = invoke_api.check_qualifier(self._qualifier) if self._qualifier else None
        if problem:
            raise Refusal(invoke_api.validation(problem))
        named = invoke_api.parse_function_name(self._function).qualifier
        if named and self._qualifier and named != self._qualifier:
            raise Refusal(
                invoke_api.invalid_parameter(
                    "The derived qualifier from the function name does not match the specified qualifier."
                )
            )

    def accept(self, headers: dict[bytes, bytes]) -> invoke_api.InvokeOptions:
        return invoke_api.read_options(headers)

    def perform(self, exchange: Exchange, options: invoke_api.InvokeOptions | None, body: bytes) -> None:
        try:
            payload = invoke_api.read_payload(body)
        except Refusal as refusal:
            exchange.reply(*refusal.answer)
            return
        if options is None:
            invocation = Invocation(
                self._function,
                payload,
                exchange.request_id,
                exchange.reply,
                qualifier=self._qualifier,
                trace_id=self._identifiers.trace_root(),
                received=time.monotonic(),
            )
        else:
            invocation = Invocation(
                self._function,
                payload,
                exchange.request_id,
                exchange.reply,
                qualifier=self._qualifier,
                dry_run=options.dry_run,
                tail=options.tail,
                client_context=options.client_context,
                tenant_id=options.tenant_id,
                trace_id=options.trace_id or self._identifiers.trace_root(),
                received=time.monotonic(),
            )
        self._invoke(invocation)


def invoke_routes(application: Application, identifiers: Identifiers) -> list[Route]:
    """The Invoke API. Response streaming is known, and refused until the host can stream."""

    def invoke(parameters: Parameters) -> Operation:
        return InvokeFunction(application, identifiers, parameters)

    def stream(parameters: Parameters) -> Operation:
        return Fixed(
            invoke_api.not_supported(
                "Response streaming (InvokeWithResponseStream) is not supported by this host yet; use Invoke"
            )
        )

    return [
        Route("/2015-03-31/functions/{FunctionName}/invocations", {"POST": invoke}),
        Route("/2021-11-15/functions/{FunctionName}/response-streaming-invocations", {"POST": stream}),
    ]


# --- probes ---------------------------------------------------------------------------------------------------------


class Probe:
    """``GET`` of a health check: 200 or 503, with the application's details as a JSON object."""

    body_limit = 65_536

    def __init__(self, name: str, check: Callable[[], tuple[bool, dict[str, object]]]) -> None:
        self.name = name
        self._check = check

    def accept(self, headers: dict[bytes, bytes]) -> None:
        return None

    def perform(self, exchange: Exchange, options: Any, body: bytes) -> None:
        good, details = self._check()
        headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
        exchange.reply(200 if good else 503, headers, orjson.dumps(details, default=str))


def probe_routes(application: Application) -> list[Route]:
    """``/healthz`` (able to serve) and ``/readyz`` (templates frozen, parked workers up)."""
    health = Probe("healthz", application.health)
    ready = Probe("readyz", application.ready)
    return [
        Route("/healthz", {"GET": lambda _: health, "HEAD": lambda _: health}),
        Route("/readyz", {"GET": lambda _: ready, "HEAD": lambda _: ready}),
    ]
