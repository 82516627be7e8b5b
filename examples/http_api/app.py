"""A small order service behind an API Gateway HTTP API (payload format 2.0).

``GET /orders/{id}`` and ``POST /orders`` with ``{"sku": "...", "quantity": n}``. Orders live in this execution
environment only; a real service would keep them in a table.
"""

import base64
import json
import re
import uuid
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

PRICES_IN_CENTS = {"lamp-oil-1l": 1290, "wick-10": 450, "lantern-brass": 8900}
ORDERS = {"1001": {"id": "1001", "sku": "lantern-brass", "quantity": 2, "totalCents": 17800}}

Event = dict[str, Any]
Answer = dict[str, Any]


def handler(event: Event, context: Any) -> Answer:
    method, path = event["requestContext"]["http"]["method"], event["rawPath"]
    matching = [(verb, action, found) for verb, route, action in ROUTES if (found := route.fullmatch(path))]
    for verb, action, found in matching:
        if verb == method:
            return with_session(event, action(event, **found.groupdict()))
    if matching:
        allowed = ", ".join(verb for verb, _, _ in matching)
        return answer(405, {"error": f"{method} is not possible here; allowed: {allowed}"}, Allow=allowed)
    return answer(404, {"error": f"nothing at {path}"})


def get_order(event: Event, id: str) -> Answer:
    return answer(200, ORDERS[id]) if id in ORDERS else answer(404, {"error": f"no order {id}"})


def create_order(event: Event) -> Answer:
    body = event.get("body") or ""
    try:
        order = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    except ValueError as error:
        return answer(400, {"error": f"the body is not JSON: {error}"})
    if not isinstance(order, dict):
        return answer(400, {"error": "the body must be a JSON object with 'sku' and 'quantity'"})
    sku: Any = order.get("sku")
    quantity: Any = order.get("quantity")
    problems = []
    if not isinstance(sku, str) or sku not in PRICES_IN_CENTS:
        problems.append(f"sku is {sku!r}; we sell {', '.join(PRICES_IN_CENTS)}")
    if type(quantity) is not int or not 1 <= quantity <= 99:
        problems.append(f"quantity is {quantity!r}; it must be a whole number from 1 to 99")
    if problems:
        return answer(400, {"error": "; ".join(problems)})
    id = uuid.uuid4().hex
    ORDERS[id] = {"id": id, "sku": sku, "quantity": quantity, "totalCents": PRICES_IN_CENTS[sku] * quantity}
    return answer(201, ORDERS[id], Location=f"/orders/{id}")


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
    ("GET", re.compile(r"/orders/(?P<id>[0-9a-f]{1,32})"), get_order),
    ("POST", re.compile(r"/orders"), create_order),
]


def answer(status: int, body: Any, **headers: str) -> Answer:
    return {"statusCode": status, "headers": {"Content-Type": "application/json", **headers}, "body": json.dumps(body)}


def with_session(event: Event, reply: Answer) -> Answer:
    if "session" not in SimpleCookie("; ".join(event.get("cookies", []))):
        reply["cookies"] = [f"session={uuid.uuid4().hex}; Path=/; HttpOnly; Secure; SameSite=Lax"]
    return reply
