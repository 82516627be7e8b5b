"""What handlers return: the values that the encoders are measured on.

Each maker takes a ``random.Random`` and returns one result, made anew: an encoder may keep the UTF-8 form of a string
with the string, and a value that is encoded twice would show the second time only.
"""

from __future__ import annotations

import json
import random
from typing import Any, Protocol

_WORDS = ("заказ", "принят", "и", "будет", "доставлен", "завтра", "до", "обеда", "спасибо", "за", "покупку", "номер")
_FRENCH = ("élève", "forêt", "déjà", "maison", "très", "bientôt", "ça", "livraison", "garçon", "à", "bien", "reçue")


class Maker(Protocol):
    def __call__(self, rng: random.Random, /) -> object: ...


def http_response(rng: random.Random) -> dict[str, Any]:
    """An API Gateway response whose body is JSON in a string, full of quotes."""
    lines = [
        {"sku": f"A-{rng.randrange(10**5):05}", "quantity": rng.randrange(1, 20), "price": rng.randrange(10**5) / 100}
        for _ in range(4)
    ]
    return {
        "statusCode": 200,
        "headers": {
            "content-type": "application/json",
            "cache-control": "no-store",
            "x-request-id": f"{rng.getrandbits(64):016x}",
        },
        "body": json.dumps({"order": f"{rng.getrandbits(48):012x}", "lines": lines, "placed": True, "note": None}),
        "isBase64Encoded": False,
    }


def metrics(rng: random.Random) -> dict[str, int | float]:
    """Counts, amounts with two decimals, and averages with all their digits, in equal parts."""
    found: dict[str, int | float] = {}
    for i in range(8):
        found[f"count_{i}"] = rng.randrange(10**6)
        found[f"amount_{i}"] = rng.randrange(10**6) / 100
        found[f"average_{i}"] = rng.random() * 1000
    return found


def records(rng: random.Random) -> list[dict[str, Any]]:
    """Twenty rows of a table."""
    return [
        {
            "id": f"{rng.getrandbits(64):016x}",
            "name": f"customer {rng.randrange(10**4)}",
            "age": rng.randrange(18, 90),
            "score": rng.randrange(100) / 10,
            "tags": ["new", f"tag-{rng.randrange(9)}"],
            "active": rng.random() < 0.5,
            "manager": None,
        }
        for _ in range(20)
    ]


def batch_item_failures(rng: random.Random) -> dict[str, Any]:
    """A queue handler's partial failure: three messages of a batch."""
    return {"batchItemFailures": [{"itemIdentifier": f"{rng.getrandbits(128):032x}"} for _ in range(3)]}


def cyrillic(rng: random.Random) -> dict[str, Any]:
    """Text whose characters take two bytes in UTF-8."""
    return {"сообщение": " ".join(rng.choices(_WORDS, k=40)), "status": "ok", "слово": rng.choice(_WORDS)}


def french(rng: random.Random) -> dict[str, Any]:
    """Text in which some characters are beyond ASCII."""
    return {"message": " ".join(rng.choices(_FRENCH, k=60)), "status": "ok"}


RETURNS: dict[str, Maker] = {
    "API Gateway response": http_response,
    "dict of numbers": metrics,
    "list of records": records,
    "batchItemFailures": batch_item_failures,
    "Cyrillic text": cyrillic,
    "French text": french,
}


def values(maker: Maker, seed: int, count: int) -> list[object]:
    """``count`` results; the same seed gives equal ones, and never the same objects."""
    rng = random.Random(seed)
    return [maker(rng) for _ in range(count)]
