"""Batches of messages from Amazon SQS.

AWS: "Using Lambda with Amazon SQS", Lambda Developer Guide; the attributes are those of "ReceiveMessage", Amazon SQS
API Reference.
"""

from __future__ import annotations

import msgspec


class Attribute(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What a sender gave a message.

    ``data_type`` is ``String``, ``Number`` or ``Binary``, with the sender's own suffix; ``binary_value`` comes as
    base64 and is bytes here.
    """

    data_type: str
    string_value: str | None = None
    binary_value: bytes | None = None


class Record(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One message.

    ``attributes`` are the queue's, all text: ``ApproximateReceiveCount``, ``SentTimestamp`` in epoch
    milliseconds, ``MessageGroupId`` of a FIFO queue, and so on. ``message_id`` is what a partial batch answer names.
    """

    message_id: str
    receipt_handle: str
    body: str
    attributes: dict[str, str]
    message_attributes: dict[str, Attribute]
    event_source_arn: str = msgspec.field(name="eventSourceARN")
    md5_of_body: str = msgspec.field(name="md5OfBody", default="")
    aws_region: str = ""


class Event(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    records: list[Record]
