"""Notifications of Amazon S3.

AWS: "Event message structure", Amazon S3 User Guide.
"""

from __future__ import annotations

import datetime
import urllib.parse

import msgspec


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The bucket that the object is in."""

    name: str
    arn: str


class Object(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The object. ``key`` is URL-encoded, as S3 sends it; :attr:`decoded_key` is the name to ask S3 for.

    ``size`` in bytes and ``e_tag`` are absent when an object is deleted; ``version_id`` where the bucket has no
    versions. ``sequencer`` orders the events of one key: compare as hexadecimal, the shorter padded with zeros.
    """

    key: str
    sequencer: str = ""
    size: int | None = None
    e_tag: str | None = None
    version_id: str | None = None

    @property
    def decoded_key(self) -> str:
        return urllib.parse.unquote_plus(self.key)


class Entity(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """``s3`` of a record. ``configuration_id`` names the bucket's notification rule."""

    bucket: Bucket
    object: Object
    configuration_id: str = ""


class Record(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One thing that happened. ``event_name`` is such as ``ObjectCreated:Put``, without ``s3:`` before it."""

    event_name: str
    event_time: datetime.datetime
    event_version: str
    aws_region: str
    s3: Entity


class Event(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    records: list[Record]
