"""A function that is large in memory and slow to import: numpy, and an AWS client made at init.

The credentials are the documentation's example keys, for the reason given in ``boto3_client``.
"""

from __future__ import annotations

from typing import Any

import boto3
import numpy

dynamodb = boto3.client(
    "dynamodb",
    region_name="us-east-1",
    aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
    aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
)
WEIGHTS = numpy.linspace(0.0, 1.0, 256, dtype=numpy.float64)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in; a small weighted sum over its path, and the request's id, out."""
    path = numpy.frombuffer(event["rawPath"].encode().ljust(256)[:256], dtype=numpy.uint8)
    return {"statusCode": 200, "score": float(path @ WEIGHTS), "body": event["requestContext"]["requestId"]}
