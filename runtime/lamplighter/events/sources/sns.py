"""Messages of Amazon SNS.

AWS: "Invoking Lambda functions with Amazon SNS notifications", Lambda Developer Guide.
"""

from __future__ import annotations

import datetime

import msgspec


class Attribute(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """What a publisher gave a message. A ``Binary`` value is base64, and left as it came: only ``type`` tells."""

    type: str
    value: str


class Notification(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """The message as it was published. ``subject`` is null where the publisher gave none."""

    message: str
    message_id: str
    timestamp: datetime.datetime
    topic_arn: str
    type: str = "Notification"
    subject: str | None = None
    message_attributes: dict[str, Attribute] = {}
    signature: str = ""
    signature_version: str = ""
    signing_cert_url: str = ""
    unsubscribe_url: str = ""


class Record(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """One delivery."""

    event_subscription_arn: str
    sns: Notification


class Event(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    records: list[Record]
