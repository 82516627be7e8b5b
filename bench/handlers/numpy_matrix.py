"""A function that computes with numpy: init is one large import, an invocation a small product of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

WEIGHTS = np.random.default_rng(7).standard_normal((64, 64))


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in; a norm that depends on the event's time, and the request's id, out."""
    request_id = event["requestContext"]["requestId"]
    vector = np.full(64, float(event["requestContext"]["timeEpoch"] % 1000))
    return {"statusCode": 200, "headers": {"x-norm": f"{np.linalg.norm(WEIGHTS @ vector):.6f}"}, "body": request_id}
