"""A function whose AWS client is made at init and used at invoke, without a network: it signs a URL.

The credentials are the documentation's example keys, given in the code: with none given, botocore would ask the
instance metadata service, and the benchmark would measure a network timeout.
"""

from __future__ import annotations

from typing import Any

import boto3

s3 = boto3.client(
    "s3",
    region_name="us-east-1",
    aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
    aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in; a presigned URL for an object named after the request's id out."""
    request_id = event["requestContext"]["requestId"]
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "example-bucket", "Key": f"orders/{request_id}"})
    return {"statusCode": 302, "headers": {"location": url}, "body": request_id}
