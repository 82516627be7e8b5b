"""Events of Amazon EventBridge, scheduled ones among them.

AWS: "Events in Amazon EventBridge" and "EventBridge event structure", Amazon EventBridge User Guide.
"""

from __future__ import annotations

import datetime
from typing import Any, Generic, TypeVar

import msgspec

Detail = TypeVar("Detail")


class Envelope(msgspec.Struct, Generic[Detail], rename="kebab", frozen=True, kw_only=True):
    """An event whose detail has a type of its own: ``Envelope[InstanceStateChange]``.

    ``source`` and ``detail_type`` together say what ``detail`` holds; ``resources`` are the ARNs it is about.
    """

    id: str
    source: str
    detail_type: str
    account: str
    region: str
    time: datetime.datetime
    detail: Detail
    resources: list[str] = []
    version: str = "0"


Event = Envelope[dict[str, Any]]
"""An event whose detail is a plain dict."""
