"""Lists the objects that an S3 notification names, each with a download link that works for fifteen minutes.

Signing a link needs credentials but no network. On AWS they come from the function's role; elsewhere set
``SIGNING_KEY_ID`` and ``SIGNING_SECRET``. With ``TABLE_NAME`` set, each link is also recorded in that DynamoDB table.
"""

import os
import time
from typing import Any
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config

LINK_SECONDS = 900
TABLE_NAME = os.environ.get("TABLE_NAME", "")

# Clients are made at import: loading the service models is the expensive part, and every invocation can share them.
# A key of None leaves the choice to boto3's own chain, which finds the role's credentials on AWS.
session = boto3.Session(
    aws_access_key_id=os.environ.get("SIGNING_KEY_ID"),
    aws_secret_access_key=os.environ.get("SIGNING_SECRET"),
    region_name=os.environ.get("AWS_REGION", "us-east-1"),
)
s3 = session.client("s3", config=Config(signature_version="s3v4"))
dynamodb = session.client("dynamodb")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    expires = int(time.time()) + LINK_SECONDS
    objects = []
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])  # S3 encodes keys as a form does: "a b" arrives as "a+b"
        link = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=LINK_SECONDS)
        objects.append({"key": key, "bytes": record["s3"]["object"]["size"], "link": link})
        if TABLE_NAME:
            item = {"pk": {"S": f"{bucket}/{key}"}, "link": {"S": link}, "expires": {"N": str(expires)}}
            dynamodb.put_item(TableName=TABLE_NAME, Item=item)
    print(f"{len(objects)} links, valid until {time.strftime('%H:%M:%S', time.gmtime(expires))} UTC")
    return {"objects": objects, "expires": expires}
