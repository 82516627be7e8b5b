"""A small web function that uses only the standard library: the imports a typical one has, and a little of each."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import hashlib
import hmac
import html
import http.cookies
import json
import logging
import re
import urllib.parse
import uuid
from typing import Any

logger = logging.getLogger(__name__)
ORDER = re.compile(r"/orders/(?P<order>[0-9a-z-]+)")


@dataclasses.dataclass(frozen=True)
class Order:
    """One order as the API shows it. ``total`` is in euros."""

    number: str
    total: decimal.Decimal
    placed: datetime.datetime

    def rendered(self) -> dict[str, str]:
        return {"number": html.escape(self.number), "total": str(self.total), "placed": self.placed.isoformat()}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in; the order named in the path out, with a signed cookie and the request's id."""
    request_id = event["requestContext"]["requestId"]
    found = ORDER.search(event["rawPath"])
    if found is None:
        return {"statusCode": 404, "body": json.dumps({"message": "no such order", "requestId": request_id})}
    query = urllib.parse.parse_qs(event.get("rawQueryString", ""))
    order = Order(found["order"], decimal.Decimal("19.90") * len(query), datetime.datetime.now(datetime.UTC))
    signature = hmac.new(b"benchmark", order.number.encode(), hashlib.sha256).digest()
    cookie = http.cookies.SimpleCookie({"order": base64.urlsafe_b64encode(signature).decode()})
    logger.debug("order %s", order.number)
    body = {
        "order": order.rendered(),
        "requestId": request_id,
        "trace": str(uuid.uuid5(uuid.NAMESPACE_URL, request_id)),
    }
    return {"statusCode": 200, "cookies": [cookie["order"].OutputString()], "body": json.dumps(body)}
