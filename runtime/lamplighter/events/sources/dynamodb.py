"""Changes from DynamoDB Streams.

AWS: "Using AWS Lambda with Amazon DynamoDB", Lambda Developer Guide; the fields are those of "Record" and
"StreamRecord", Amazon DynamoDB API Reference, the values those of "AttributeValue" there.
"""

from __future__ import annotations

import decimal
from typing import Any

import msgspec


class AttributeValue(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One value: exactly one field is set, and its name is the type. Numbers are text, binary comes as base64."""

    S: str | None = None
    N: str | None = None
    B: bytes | None = None
    BOOL: bool | None = None
    NULL: bool | None = None
    M: dict[str, AttributeValue] | None = None
    L: list[AttributeValue] | None = None
    SS: list[str] | None = None
    NS: list[str] | None = None
    BS: list[bytes] | None = None

    def python(self) -> Any:  # noqa: PLR0911 - one a type
        """The value in Python's types: a number as ``Decimal``, a set as ``set``, a null as ``None``."""
        if self.N is not None:
            return decimal.Decimal(self.N)
        if self.M is not None:
            return {name: value.python() for name, value in self.M.items()}
        if self.L is not None:
            return [value.python() for value in self.L]
        if self.NS is not None:
            return {decimal.Decimal(number) for number in self.NS}
        if self.SS is not None:
            return set(self.SS)
        if self.BS is not None:
            return set(self.BS)
        return next((value for value in (self.S, self.B, self.BOOL) if value is not None), None)


Item = dict[str, AttributeValue]


class Change(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """The item that changed. Which images there are is the stream's ``stream_view_type``; a new item has no old one.

    ``approximate_creation_date_time`` is in epoch seconds.
    """

    keys: Item
    sequence_number: str
    stream_view_type: str
    size_bytes: int = 0
    approximate_creation_date_time: float = 0.0
    new_image: Item | None = None
    old_image: Item | None = None


class UserIdentity(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Who deleted an item, where that was DynamoDB itself because its time to live was over."""

    type: str
    principal_id: str


class Record(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One change. ``event_name`` is ``INSERT``, ``MODIFY`` or ``REMOVE``."""

    event_name: str
    dynamodb: Change
    event_id: str = msgspec.field(name="eventID", default="")
    event_source_arn: str = msgspec.field(name="eventSourceARN", default="")
    aws_region: str = ""
    user_identity: UserIdentity | None = None


class Event(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    records: list[Record]
