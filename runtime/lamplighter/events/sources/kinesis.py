"""Batches of records from Amazon Kinesis Data Streams.

AWS: "Using Lambda to process records from Amazon Kinesis Data Streams", Lambda Developer Guide.
"""

from __future__ import annotations

import msgspec


class Data(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The record as it was put. ``data`` comes as base64 and is bytes here.

    ``sequence_number`` is what a partial batch answer names; ``approximate_arrival_timestamp`` is in epoch seconds.
    """

    data: bytes
    partition_key: str
    sequence_number: str
    approximate_arrival_timestamp: float
    kinesis_schema_version: str = "1.0"


class Record(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One record and where it came from. ``event_id`` begins with the shard's id."""

    kinesis: Data
    event_id: str = msgspec.field(name="eventID")
    event_source_arn: str = msgspec.field(name="eventSourceARN")
    aws_region: str = ""
    event_name: str = ""


class Event(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    records: list[Record]
