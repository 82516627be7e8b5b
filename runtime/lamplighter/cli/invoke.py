"""``lamplighter invoke``: one synchronous invocation over the Invoke API, with nothing but the standard library.

The request is not signed: it is meant for a Lamplighter host, or another that serves the API without authentication.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import SplitResult, quote, urlsplit

import click

from lamplighter.function.limits import CLIENT_CONTEXT_BYTES_MAX, PORT, TIMEOUT_S

if TYPE_CHECKING:
    import http.client

_DEFAULT_ENDPOINT = f"http://127.0.0.1:{PORT.default}"
_DEFAULT_TIMEOUT = TIMEOUT_S.high + 30
"""Seconds: the longest invocation there is, and half a minute for its environment to start."""
_LONGEST_TIMEOUT = 86_400
"""Seconds: a day, well inside what a socket's timeout can express."""

_EPILOG = """\b
Examples:
  lamplighter invoke orders --event event.json
  echo '{"id": 7}' | lamplighter invoke orders --event - > result.json

Exit status: 0 when the function returned; 1 when it failed (its error is on stdout) or the service refused or could
not be reached; 2 for an unreadable event, one that is not JSON, or a wrong endpoint.
"""


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _endpoint(context: click.Context, parameter: click.Parameter, value: str) -> SplitResult:
    allowed = f"http://HOST[:PORT] or https://HOST[:PORT], such as {_DEFAULT_ENDPOINT}"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as fault:
        raise click.BadParameter(f"{value!r} is no endpoint ({fault}); allowed: {allowed}.") from fault
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or port == 0
        or parts.query
        or parts.fragment
        or parts.username is not None
        or any(not "!" <= character <= "~" for character in value)
    ):
        raise click.BadParameter(f"{value!r} is no endpoint; allowed: {allowed}.")
    return parts


def _client_context(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        text = value.encode()
        _parse_json(text)
    except ValueError as fault:
        raise click.BadParameter(f"it is not JSON ({fault}); allowed: a JSON text.") from fault
    encoded = base64.b64encode(text).decode()
    if len(encoded) > CLIENT_CONTEXT_BYTES_MAX:
        raise click.BadParameter(
            f"it is {len(encoded)} bytes long in base64; allowed: at most {CLIENT_CONTEXT_BYTES_MAX} bytes."
        )
    return encoded


def _event(context: click.Context, parameter: click.Parameter, value: IO[bytes] | None) -> bytes:
    if value is None:
        return b"{}"
    try:
        event = value.read()
    except OSError as fault:
        raise click.BadParameter(f"{value.name!r} cannot be read: {fault.strerror}.") from fault
    try:
        _parse_json(event)
    except ValueError as fault:
        raise click.BadParameter(f"{value.name!r} is not JSON ({fault}); allowed: one JSON text in UTF-8.") from fault
    return event


def _timeout(context: click.Context, parameter: click.Parameter, value: float) -> float:
    # NaN compares with nothing, and so passes every range.
    if math.isnan(value):
        raise click.BadParameter(f"it is no number; allowed: above 0 and up to {_LONGEST_TIMEOUT} seconds.")
    return value


@click.command("invoke", epilog=_EPILOG)
@click.argument("name")
@click.option(
    "--event",
    type=click.File("rb"),
    callback=_event,
    metavar="FILE|-",
    help='File with the event, as JSON; "-" reads it from stdin.  [default: an event of {}]',
)
@click.option(
    "--endpoint",
    default=_DEFAULT_ENDPOINT,
    show_default=True,
    envvar="LAMPLIGHTER_ENDPOINT",
    show_envvar=True,
    callback=_endpoint,
    metavar="URL",
    help="Where the Invoke API is served.",
)
@click.option("--qualifier", metavar="Q", help="Version or alias.  [default: $LATEST]")
@click.option(
    "--client-context",
    callback=_client_context,
    metavar="JSON",
    help=f"Client context for the function's context object; {CLIENT_CONTEXT_BYTES_MAX:,} bytes in base64 at most.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, _LONGEST_TIMEOUT, min_open=True),
    default=_DEFAULT_TIMEOUT,
    callback=_timeout,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
def command(
    name: str,
    event: bytes,
    endpoint: SplitResult,
    qualifier: str | None,
    client_context: str | None,
    timeout: float,
) -> None:
    """Invoke the function NAME and wait for its result.

    NAME is a function's name, name:qualifier or an ARN. The result goes to stdout, byte for byte; the last 4 KB of the
    invocation's log go to stderr.
    """
    if not name:
        raise click.BadParameter("it is empty; allowed: a function's name or ARN.", param_hint="NAME")
    path = f"{endpoint.path.rstrip('/')}/2015-03-31/functions/{_quoted(name)}/invocations"
    if qualifier is not None:
        path += f"?Qualifier={_quoted(qualifier)}"
    headers = {
        "Content-Type": "application/json",
        "X-Amz-Invocation-Type": "RequestResponse",
        "X-Amz-Log-Type": "Tail",
    }
    if client_context is not None:
        headers["X-Amz-Client-Context"] = client_context

    answer = _post(endpoint, path, event, headers, timeout)
    if answer.status >= 300:
        _fail(f"{answer.status} {_service_error(answer)}")
    _show_tail(answer.headers.get("X-Amz-Log-Result", ""))
    stdout = sys.stdout.buffer
    stdout.write(answer.body)
    if stdout.isatty():
        stdout.write(b"\n")
    stdout.flush()
    function_error = answer.headers.get("X-Amz-Function-Error")
    if function_error is not None:
        _fail(f"the function failed ({function_error})")


def _post(endpoint: SplitResult, path: str, body: bytes, headers: dict[str, str], timeout: float) -> _Answer:
    """One exchange; says on stderr why and exits with 1 where it cannot be had."""
    import http.client  # noqa: PLC0415 - not for --help

    make: Callable[..., http.client.HTTPConnection] = (
        http.client.HTTPSConnection if endpoint.scheme == "https" else http.client.HTTPConnection
    )
    where = endpoint.geturl()
    connection = make(endpoint.hostname, endpoint.port, timeout=timeout)
    try:
        try:
            connection.connect()
        except ConnectionRefusedError:
            _fail(f"nothing listens at {where}: start it with 'lamplighter serve', or name another with --endpoint")
        except OSError as fault:
            _fail(f"{where} cannot be reached: {fault.strerror or fault}")
        # A server may refuse a large body after its first bytes: its answer is there to be read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return _Answer(response.status, response.headers, response.read())
    except TimeoutError:
        _fail(f"{where} did not answer within {timeout:g} seconds")
    except (OSError, http.client.HTTPException) as fault:
        _fail(f"{where} did not answer as HTTP does: {type(fault).__name__}: {fault}")
    finally:
        connection.close()


def _service_error(answer: _Answer) -> str:
    """``ResourceNotFoundException: Function not found: …``, as far as the answer tells."""
    kind = answer.headers.get("x-amzn-ErrorType", "").partition(":")[0]
    message = answer.body.decode(errors="replace")
    try:
        fields = json.loads(message)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        # Lambda spells the key both ways, depending on the exception.
        message = str(fields.get("message") or fields.get("Message") or message)
    return ": ".join(part for part in (kind, message) if part) or "without a message"


def _show_tail(encoded: str) -> None:
    try:
        tail = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        click.echo("lamplighter: the log in the answer is not base64, and is left out", err=True)
        return
    stderr = sys.stderr.buffer
    stderr.write(tail)
    if tail and not tail.endswith(b"\n"):
        stderr.write(b"\n")
    stderr.flush()


def _parse_json(text: bytes) -> Any:
    """Parse strictly: UTF-8 and no NaN or Infinity, which Lambda refuses too. Raises ValueError."""
    try:
        # The values are not used: strings in the place of numbers spare long ones Python's limit on digits.
        return json.loads(text.decode(), parse_constant=_no_constant, parse_int=str, parse_float=str)
    except RecursionError as fault:
        raise ValueError("it is nested too deeply") from fault


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _quoted(text: str) -> str:
    return quote(text.encode(errors="surrogateescape"), safe="")


def _fail(message: str) -> NoReturn:
    click.echo(f"lamplighter: {message}", err=True)
    sys.exit(1)
