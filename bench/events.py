"""Events as AWS sends them, no two alike: of API Gateway's HTTP API (format 2.0), about 1 KB; of SQS, about 60 KB."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FUNCTION = "function"
"""The only name the emulator knows a function by; ours goes by it too, so that all requests are the same bytes."""

INVOKE_PATH = f"/2015-03-31/functions/{FUNCTION}/invocations"


class Prepared(NamedTuple):
    """One request ready to send. ``marker`` is its request id, which a right answer holds and no other does."""

    wire: bytes
    marker: bytes


def http_api_event(rng: random.Random) -> dict[str, Any]:
    """One HTTP API v2 event whose ids, path, query, address and time come from ``rng``."""
    request_id = f"{rng.getrandbits(64):016x}-{rng.getrandbits(64):016x}"
    order = f"{rng.getrandbits(48):012x}"
    page = rng.randrange(1, 90)
    path = f"/orders/{order}"
    epoch = 1_760_000_000_000 + rng.randrange(10**10)
    return {
        "version": "2.0",
        "routeKey": "GET /orders/{order}",
        "rawPath": path,
        "rawQueryString": f"page={page}&sort=placed",
        "headers": {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate, br",
            "content-length": "0",
            "host": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "x-amzn-trace-id": f"Root=1-{epoch // 1000:08x}-{rng.getrandbits(96):024x}",
            "x-forwarded-for": f"203.0.113.{rng.randrange(1, 255)}",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "queryStringParameters": {"page": str(page), "sort": "placed"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "a1b2c3d4e5",
            "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.9"},
            "requestId": request_id,
            "stage": "$default",
            "timeEpoch": epoch,
        },
        "pathParameters": {"order": order},
        "isBase64Encoded": False,
    }


def queue_event(rng: random.Random) -> dict[str, Any]:
    """One batch of 40 SQS messages, about 60 KB; ids, times, quantities and texts come from ``rng``."""
    return {"Records": [_message(rng) for _ in range(40)]}


def _message(rng: random.Random) -> dict[str, Any]:
    sent = 1_760_000_000_000 + rng.randrange(10**10)
    lines = [
        {
            "sku": f"{rng.getrandbits(40):010x}",
            "title": " ".join(rng.choice(_WORDS) for _ in range(5)),
            "quantity": rng.randrange(1, 20),
            "price": rng.randrange(100, 100_000) / 100,
            "gift": rng.random() < 0.2,
        }
        for _ in range(6)
    ]
    body = {"order": f"{rng.getrandbits(48):012x}", "placed": sent, "lines": lines}
    return {
        "messageId": f"{rng.getrandbits(64):016x}-{rng.getrandbits(64):016x}",
        "receiptHandle": f"{rng.getrandbits(640):0160x}",
        "body": json.dumps(body),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(sent),
            "SenderId": "AIDAEXAMPLE",
            "ApproximateFirstReceiveTimestamp": str(sent + rng.randrange(1, 90)),
        },
        "messageAttributes": {},
        "md5OfBody": f"{rng.getrandbits(128):032x}",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:orders",
        "awsRegion": "us-east-1",
    }


_WORDS = ("lamp", "brass", "w\u00e4rmer", "oil", "\u201cdusk\u201d", "hook", "glass", "nine", "post", "street")


def warm_up_event(directory: Path) -> Path:
    """Write one event for ``--warm-up`` into ``directory``, readable for a host under any uid; the file."""
    path = directory / "event.json"
    path.write_text(json.dumps(http_api_event(random.Random(7))))
    directory.chmod(0o755)
    return path


def prepared(event: dict[str, Any]) -> Prepared:
    """The Invoke call for ``event``, as it travels on a keep-alive connection."""
    body = json.dumps(event, separators=(",", ":")).encode()
    head = f"POST {INVOKE_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    wire = b"%sContent-Length: %d\r\n\r\n%s" % (head.encode(), len(body), body)
    return Prepared(wire, event["requestContext"]["requestId"].encode())


def prepared_requests(seed: int) -> Iterator[Prepared]:
    """Endless requests; the same seed gives the same ones, so every peer is sent the same bytes."""
    rng = random.Random(seed)
    while True:
        yield prepared(http_api_event(rng))
