"""The context object a handler gets as its second argument, and the invocation this process is running.

Attributes, their types and ``repr`` are those of AWS's ``LambdaContext``. They live in an ordinary ``__dict__``, not in
slots: handlers log ``vars(context)``, and middleware hangs attributes of its own on it.
"""

from __future__ import annotations

import sys
import time

from lamplighter.worker.errors import NamedFault
from lamplighter.worker.event import Event
from lamplighter.worker.output import LogSink, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Only these keys of the client context's ``w3c`` reach the handler, and only where they are strings.
_W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class ContextFault(NamedFault):
    """The client context or the Cognito identity is not JSON. ``str()`` of it is the ``errorMessage``."""

    error_type = "Runtime.LambdaContextUnmarshalError"


class Current:
    """The invocation this process is running: what the log records are marked with. Empty before the first one."""

    __slots__ = ("request_id", "tenant_id")

    def __init__(self) -> None:
        self.request_id = ""
        self.tenant_id: str | None = None


current = Current()


class FunctionFacts:
    """What the environment says about the function and this execution environment; ``None`` for what is not set.

    A worker reads it after it was forked: each one has a log stream of its own.
    """

    __slots__ = ("function_name", "function_version", "log_group_name", "log_stream_name", "memory_limit_in_mb")

    def __init__(
        self,
        log_group_name: str | None,
        log_stream_name: str | None,
        function_name: str | None,
        memory_limit_in_mb: str | None,
        function_version: str | None,
    ) -> None:
        self.log_group_name = log_group_name
        self.log_stream_name = log_stream_name
        self.function_name = function_name
        self.memory_limit_in_mb = memory_limit_in_mb
        self.function_version = function_version

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> FunctionFacts:
        """The facts in ``environ``."""
        return cls(
            environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
            environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
            environ.get("AWS_LAMBDA_FUNCTION_NAME"),
            environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
            environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
        )


class _Record:
    """An object with fixed fields, all optional."""

    __slots__: tuple[str, ...] = ()

    def _fill(self, values: Any) -> None:
        for field in self.__slots__:
            setattr(self, field, values.get(field))

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{','.join(f'{field}={getattr(self, field)}' for field in self.__slots__)}])"


class CognitoIdentity(_Record):
    """``context.identity``. Both fields are ``None`` where the caller has no Cognito identity."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id: str | None = None
        self.cognito_identity_pool_id: str | None = None


class Client(_Record):
    """``context.client_context.client``: the mobile application that called."""

    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")  # noqa: RUF023 - repr has this order

    def __init__(self, values: Any) -> None:
        self._fill(values)


class ClientContext(_Record):
    """``context.client_context``. What the caller did not send is ``None``."""

    __slots__ = ("custom", "env", "client")  # noqa: RUF023 - repr has this order

    def __init__(self, values: Any) -> None:
        self._fill(values)
        self.client: Any
        if self.client is not None:
            self.client = Client(self.client)


class LambdaContext:
    """One invocation, as its handler sees it.

    ``memory_limit_in_mb`` is a string, as on Lambda. ``tenant_id`` and ``invoked_function_arn`` are ``None`` where the
    platform sent none.
    """

    def __init__(self, event: Event, facts: FunctionFacts) -> None:
        """Raises :class:`ContextFault`; ``AttributeError`` where the JSON is sound but not an object, as on Lambda."""
        self.aws_request_id = event.request_id
        self.log_group_name = facts.log_group_name
        self.log_stream_name = facts.log_stream_name
        self.function_name = facts.function_name
        self.memory_limit_in_mb = facts.memory_limit_in_mb
        self.function_version = facts.function_version
        self.invoked_function_arn: str | None = event.function_arn or None
        self.tenant_id: str | None = event.tenant_id or None
        self._w3c_fields: dict[str, str] = {}
        self.client_context: ClientContext | None = None
        self.identity = CognitoIdentity()
        self._epoch_deadline_time_in_ms = event.deadline_ms
        # Few callers send either. Where one does, bad JSON must fail the invocation before the handler runs.
        if event.client_context:
            self._read_client_context(event.client_context)
        if event.cognito_identity:
            identity = _parse(event.cognito_identity, "Cognito Identity")
            if identity is not None:
                self.identity.cognito_identity_id = identity.get("cognitoIdentityId")
                self.identity.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the deadline; 0 once it has passed, or where none was sent."""
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def w3c(self) -> dict[str, str]:
        """The W3C trace context the caller sent in the client context: ``traceparent``, ``tracestate``, ``baggage``."""
        return dict(self._w3c_fields)

    def log(self, msg: object) -> None:
        """Write ``str(msg)`` to the function's log, with no line end added."""
        # Lambda finds the sink through the root logger, so a handler that removed its handlers writes to stdout.
        logging = sys.modules.get("logging")
        if logging is None:  # nobody imported it, so nobody removed a handler
            output.sink.log(str(msg))
            return
        for handler in logging.getLogger().handlers:
            sink: LogSink | None = getattr(handler, "log_sink", None)
            if sink is not None:
                sink.log(str(msg))
                return
        sys.stdout.write(str(msg))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}([aws_request_id={self.aws_request_id},log_group_name={self.log_group_name},"
            f"log_stream_name={self.log_stream_name},function_name={self.function_name},"
            f"memory_limit_in_mb={self.memory_limit_in_mb},function_version={self.function_version},"
            f"invoked_function_arn={self.invoked_function_arn},client_context={self.client_context},"
            f"identity={self.identity},tenant_id={self.tenant_id}])"
        )

    def _read_client_context(self, text: str) -> None:
        values = _parse(text, "Client Context")
        if values is None:
            return
        if isinstance(values, dict):
            w3c = values.pop("w3c", None)
            if isinstance(w3c, dict):
                self._w3c_fields = {key: w3c[key] for key in _W3C_FIELDS if isinstance(w3c.get(key), str)}
        self.client_context = ClientContext(values)


def _parse(text: str, name: str) -> Any:
    import json  # noqa: PLC0415 - only these two need it here

    try:
        return json.loads(text)
    except Exception as fault:
        raise ContextFault(f"Unable to parse {name} JSON: {fault}") from None
