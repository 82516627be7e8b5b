"""Sending an event as the host does, from the object that the worker makes of it."""

from __future__ import annotations

import socket

from lamplighter.worker import channel


def send(sock: socket.socket, event: channel.Event) -> None:
    channel.send_event(
        sock,
        event.sequence,
        event.deadline_ms,
        event.body,
        *texts_of(event),
    )


def texts_of(event: channel.Event) -> tuple[str, ...]:
    """Its six strings, in the order in which they travel."""
    return (
        event.request_id,
        event.function_arn,
        event.trace_id,
        event.client_context,
        event.cognito_identity,
        event.tenant_id,
    )
