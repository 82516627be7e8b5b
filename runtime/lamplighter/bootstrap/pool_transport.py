"""The Runtime API as a pooled worker's transport: an end after so many events; on Managed Instances, more patience."""

from __future__ import annotations

import time

from lamplighter.bootstrap.answer import ClientFault
from lamplighter.bootstrap.client import Refused, RuntimeClient
from lamplighter.bootstrap.transport import RuntimeAPITransport, say
from lamplighter.worker import errors
from lamplighter.worker.event import Event
from lamplighter.worker.output import output

CLIENT_ERROR = "Runtime.LambdaRuntimeClientError"

# awslambdaric 4.2.2's numbers.
_ATTEMPTS = 5
_FIRST_DELAY_S = 0.1
_FACTOR = 2.0


class PoolTransport(RuntimeAPITransport):
    """A :class:`RuntimeAPITransport` for one worker among others.

    On Managed Instances a request for the next event that fails is repeated, and an answer that is refused is only
    logged, as AWS's client does there: other workers' invocations must not suffer from one's.
    """

    __slots__ = ("_left", "_managed", "_may_join")

    def __init__(
        self,
        client: RuntimeClient,
        *,
        one_send: bool,
        exact: bool = False,
        streaming: bool = True,
        most: int = 0,
        managed: bool = False,
    ) -> None:
        """``most``: events to take before :meth:`next` says that there are no more; 0 for no such end."""
        super().__init__(client, one_send=one_send, exact=exact, streaming=streaming)
        self._may_join = one_send
        self._left = most or -1
        self._managed = managed

    def next(self) -> Event | None:
        """The next event; ``None`` after the last one of this worker's."""
        if self._left == 0:
            return None
        if self._left > 0:
            self._left -= 1
            # Behind the last answer no other event may be asked for.
            self._one_send = self._may_join and self._left > 0
        return self._next_with_patience() if self._managed else super().next()

    def _next_with_patience(self) -> Event | None:
        try:
            return super().next()
        except ClientFault as fault:
            say(f"Initial runtime_client.next() failed: {fault}")
            latest = fault
        delay = _FIRST_DELAY_S
        for attempt in range(2, _ATTEMPTS + 1):
            inform(f"Retrying runtime_client.next() [attempt {attempt}]...")
            time.sleep(delay)
            try:
                return super().next()
            except ClientFault as fault:
                say(f"Attempt {attempt} failed: {fault}")
                latest = fault
            delay *= _FACTOR
        message = f"LAMBDA_RUNTIME Failed to get next invocation: {latest}"
        errors.log_fault(errors.payload(message, CLIENT_ERROR, []), output)
        raise latest

    def _refused(self, refusal: Refused) -> None:
        try:
            super()._refused(refusal)
        except ClientFault as fault:
            if not self._managed or refusal.event is None:
                raise
            say(f"{fault}: This won't kill the Runtime loop")


def inform(message: str) -> None:
    """A line of the runtime's own in the function's log, at level INFO."""
    import logging  # noqa: PLC0415 - only trouble needs it

    logging.getLogger("lamplighter").info(message)
