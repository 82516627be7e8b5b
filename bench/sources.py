"""Events as AWS's services send them, and documents of no known shape: what the decoders are measured and tested on.

Each maker takes a ``random.Random`` and returns one event. Keys and their order are the service's; ids, times,
addresses, headers and bodies come from the generator, so that no two events of a source are the same bytes and none of
them can be decoded by remembering another. What a service sends unchanged (versions, regions, ARNs of the one bucket or
queue) does not change here either.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Maker = Callable[[random.Random], Event]

_ACCOUNT = "123456789012"
_REGION = "eu-central-1"
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "okhttp/4.12.0",
    "python-requests/2.32.4",
)
_LANGUAGES = ("de-DE,de;q=0.9,en;q=0.5", "en-GB", "fr-FR,fr;q=0.8", "en-US,en;q=0.9", "ja")
_NAMES = ("Ada", "Grace", "Katherine", "Zoë", "Søren", "Łukasz", "Иван", "花子")


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _uuid(rng: random.Random) -> str:
    return "-".join(_hex(rng, digits) for digits in (8, 4, 4, 4, 12))


def _token(rng: random.Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


def _address(rng: random.Random) -> str:
    return ".".join(str(rng.randrange(1, 255)) for _ in range(4))


def _epoch_ms(rng: random.Random) -> int:
    return 1_760_000_000_000 + rng.randrange(10**10)


def _date(rng: random.Random) -> str:
    return f"20{rng.randrange(24, 27)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"


def _time(rng: random.Random) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"


def _order(rng: random.Random) -> Event:
    """What a shop's client sends: the body of a request, or of a message."""
    return {
        "order": _hex(rng, 12),
        "customer": {
            "name": rng.choice(_NAMES),
            "mail": f"{_hex(rng, 6)}@example.com",
            "since": rng.randrange(2010, 2026),
        },
        "lines": [
            {
                "sku": f"A-{rng.randrange(10**5):05}",
                "quantity": rng.randrange(1, 20),
                "price": rng.randrange(10**5) / 100,
            }
            for _ in range(rng.randrange(1, 5))
        ],
        "gift": rng.random() < 0.2,
        "note": rng.choice([None, "leave it at the door", "ring twice \U0001f514", 'he said "now"']),
    }


def api_gateway_v2(rng: random.Random) -> Event:
    """An HTTP API's event, payload format 2.0: a POST with cookies and a JSON body."""
    order, host, address = _hex(rng, 12), "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com", _address(rng)
    path, agent, epoch = f"/orders/{order}", rng.choice(_AGENTS), _epoch_ms(rng)
    body = json.dumps(_order(rng), ensure_ascii=False)
    return {
        "version": "2.0",
        "routeKey": "POST /orders/{order}",
        "rawPath": path,
        "rawQueryString": f"page={rng.randrange(99)}&sort=placed",
        "cookies": [f"session={_token(rng, 24)}", f"seen={rng.randrange(10**6)}"],
        "headers": {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate, br",
            "accept-language": rng.choice(_LANGUAGES),
            "authorization": f"Bearer {_token(rng, 96)}",
            "content-length": str(len(body.encode())),
            "content-type": "application/json",
            "host": host,
            "user-agent": agent,
            "x-amzn-trace-id": f"Root=1-{_hex(rng, 8)}-{_hex(rng, 24)}",
            "x-forwarded-for": address,
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "queryStringParameters": {"page": str(rng.randrange(99)), "sort": "placed"},
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": "a1b2c3d4e5",
            "domainName": host,
            "domainPrefix": "a1b2c3d4e5",
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": address,
                "userAgent": agent,
            },
            "requestId": _token(rng, 11),
            "routeKey": "POST /orders/{order}",
            "stage": "$default",
            "time": f"{rng.randrange(1, 29):02}/Nov/2026:{_time(rng)} +0000",
            "timeEpoch": epoch,
        },
        "pathParameters": {"order": order},
        "body": body,
        "isBase64Encoded": False,
    }


def api_gateway_v1(rng: random.Random) -> Event:
    """A REST API's event with the proxy integration: each header once as text and once as a list."""
    order, host, address = _hex(rng, 12), "1234567890.execute-api.eu-central-1.amazonaws.com", _address(rng)
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Accept-Language": rng.choice(_LANGUAGES),
        "CloudFront-Forwarded-Proto": "https",
        "CloudFront-Is-Desktop-Viewer": rng.choice(["true", "false"]),
        "CloudFront-Viewer-Country": rng.choice(["DE", "GB", "FR", "US", "JP"]),
        "Host": host,
        "User-Agent": rng.choice(_AGENTS),
        "Via": f"1.1 {_hex(rng, 32)}.cloudfront.net (CloudFront)",
        "X-Amz-Cf-Id": _token(rng, 42),
        "X-Amzn-Trace-Id": f"Root=1-{_hex(rng, 8)}-{_hex(rng, 24)}",
        "X-Forwarded-For": f"{address}, {_address(rng)}",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    query = {"page": str(rng.randrange(99)), "sort": "placed"}
    return {
        "resource": "/orders/{order}",
        "path": f"/orders/{order}",
        "httpMethod": "PUT",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()},
        "pathParameters": {"order": order},
        "stageVariables": None,
        "requestContext": {
            "resourceId": "123456",
            "resourcePath": "/orders/{order}",
            "httpMethod": "PUT",
            "extendedRequestId": _token(rng, 11),
            "requestTime": f"{rng.randrange(1, 29):02}/Nov/2026:{_time(rng)} +0000",
            "path": f"/prod/orders/{order}",
            "accountId": _ACCOUNT,
            "protocol": "HTTP/1.1",
            "stage": "prod",
            "domainPrefix": "1234567890",
            "requestTimeEpoch": _epoch_ms(rng),
            "requestId": _uuid(rng),
            "identity": {
                "cognitoIdentityPoolId": None,
                "accountId": None,
                "cognitoIdentityId": None,
                "caller": None,
                "sourceIp": address,
                "principalOrgId": None,
                "accessKey": None,
                "cognitoAuthenticationType": None,
                "cognitoAuthenticationProvider": None,
                "userArn": None,
                "userAgent": headers["User-Agent"],
                "user": None,
            },
            "domainName": host,
            "apiId": "1234567890",
        },
        "body": json.dumps(_order(rng), ensure_ascii=False),
        "isBase64Encoded": False,
    }


def s3(rng: random.Random) -> Event:
    """A bucket's notification of one new object."""
    name = "".join(rng.choices(string.ascii_lowercase, k=rng.randrange(4, 20)))
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": _REGION,
        "eventTime": f"{_date(rng)}T{_time(rng)}.{rng.randrange(1000):03}Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": f"AWS:AROA{_hex(rng, 16).upper()}:{name}"},
        "requestParameters": {"sourceIPAddress": _address(rng)},
        "responseElements": {"x-amz-request-id": _hex(rng, 16).upper(), "x-amz-id-2": _token(rng, 56)},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "828aa6fc-f7b5-4305-8584-487c791949c1",
            "bucket": {
                "name": "lambda-artifacts-deafc19498e3f2df",
                "ownerIdentity": {"principalId": "A3I5XTEXAMAI3E"},
                "arn": "arn:aws:s3:::lambda-artifacts-deafc19498e3f2df",
            },
            "object": {
                "key": f"in/{_date(rng)}/{name}.jpg",
                "size": rng.randrange(10**7),
                "eTag": _hex(rng, 32),
                "sequencer": _hex(rng, 18).upper(),
            },
        },
    }
    return {"Records": [record]}


def sns(rng: random.Random) -> Event:
    """A topic's delivery of one message."""
    topic = "arn:aws:sns:eu-central-1:123456789012:orders"
    subscription = f"{topic}:21be56ed-a058-49f5-8c98-aedd2564c486"
    certificate = (
        "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-7ff5318490ec183fbaddaa2a969abfda.pem"
    )
    notification = {
        "Type": "Notification",
        "MessageId": _uuid(rng),
        "TopicArn": topic,
        "Subject": rng.choice(["order placed", "order paid", "order sent", None]),
        "Message": json.dumps(_order(rng)),
        "Timestamp": f"{_date(rng)}T{_time(rng)}.{rng.randrange(1000):03}Z",
        "SignatureVersion": "1",
        "Signature": _token(rng, 256),
        "SigningCertUrl": certificate,
        "UnsubscribeUrl": f"https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={subscription}",
        "MessageAttributes": {
            "tenant": {"Type": "String", "Value": _hex(rng, 8)},
            "priority": {"Type": "Number", "Value": str(rng.randrange(10))},
        },
    }
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription,
        "Sns": notification,
    }
    return {"Records": [record]}


def eventbridge(rng: random.Random) -> Event:
    """A bus's delivery of one change of an EC2 instance's state."""
    instance = f"i-{_hex(rng, 17)}"
    return {
        "version": "0",
        "id": _uuid(rng),
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": _ACCOUNT,
        "time": f"{_date(rng)}T{_time(rng)}Z",
        "region": _REGION,
        "resources": [f"arn:aws:ec2:eu-central-1:123456789012:instance/{instance}"],
        "detail": {"instance-id": instance, "state": rng.choice(["running", "pending", "stopped", "terminated"])},
    }


def sqs(records: int) -> Maker:
    """A queue's batch of ``records`` messages."""

    def one(rng: random.Random) -> Event:
        sent = _epoch_ms(rng)
        return {
            "messageId": _uuid(rng),
            "receiptHandle": _token(rng, 128),
            "body": json.dumps(_order(rng)),
            "attributes": {
                "ApproximateReceiveCount": str(rng.randrange(1, 4)),
                "SentTimestamp": str(sent),
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": str(sent + rng.randrange(5000)),
            },
            "messageAttributes": {},
            "md5OfBody": _hex(rng, 32),
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:orders",
            "awsRegion": _REGION,
        }

    return lambda rng: {"Records": [one(rng) for _ in range(records)]}


def dynamodb(records: int) -> Maker:
    """A stream's batch of ``records`` changed items, new image and old."""

    def image(rng: random.Random, key: Event) -> Event:
        return {
            **key,
            "Status": {"S": rng.choice(["placed", "paid", "sent"])},
            "Total": {"N": f"{rng.randrange(10**6) / 100:.2f}"},
            "Gift": {"BOOL": rng.random() < 0.3},
            "Tags": {"SS": [_hex(rng, 4), _hex(rng, 4)]},
            "Address": {"M": {"City": {"S": rng.choice(_NAMES)}, "Zip": {"S": str(rng.randrange(10**5))}}},
        }

    def one(rng: random.Random) -> Event:
        key = {"Order": {"S": _hex(rng, 12)}, "Line": {"N": str(rng.randrange(50))}}
        return {
            "eventID": _hex(rng, 32),
            "eventName": "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": _REGION,
            "dynamodb": {
                "ApproximateCreationDateTime": float(_epoch_ms(rng) // 1000),
                "Keys": key,
                "NewImage": image(rng, key),
                "OldImage": image(rng, key),
                "SequenceNumber": str(rng.randrange(10**24, 10**25)),
                "SizeBytes": rng.randrange(100, 400),
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
            "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
        }

    return lambda rng: {"Records": [one(rng) for _ in range(records)]}


def kinesis(records: int) -> Maker:
    """A stream's batch of ``records`` records."""

    def one(rng: random.Random) -> Event:
        sequence = str(rng.randrange(10**55, 10**56))
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": _hex(rng, 8),
                "sequenceNumber": sequence,
                "data": base64.b64encode(json.dumps(_order(rng)).encode()).decode(),
                "approximateArrivalTimestamp": _epoch_ms(rng) / 1000,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"shardId-000000000006:{sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": _REGION,
            "eventSourceARN": "arn:aws:kinesis:eu-central-1:123456789012:stream/lambda-stream",
        }

    return lambda rng: {"Records": [one(rng) for _ in range(records)]}


SOURCES: dict[str, Maker] = {
    "API Gateway v2": api_gateway_v2,
    "API Gateway v1": api_gateway_v1,
    "S3": s3,
    "SNS": sns,
    "EventBridge": eventbridge,
    "SQS x10": sqs(10),
    "DynamoDB x10": dynamodb(10),
    "DynamoDB x100": dynamodb(100),
    "Kinesis x10": kinesis(10),
}

JUDGED = ("API Gateway v2", "API Gateway v1", "S3", "SNS", "EventBridge", "SQS x10", "DynamoDB x10")
"""The sources that the bars on repeated shapes speak of."""


def body(event: object) -> bytes:
    """The event as the services send it: no white space, UTF-8."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def bodies(maker: Maker, seed: int, count: int) -> list[bytes]:
    """``count`` events, no two alike; the same seed gives the same ones."""
    rng = random.Random(seed)
    made = [body(maker(rng)) for _ in range(count)]
    assert len(set(made)) == count, "two events are the same bytes"
    return made


def _scalar(rng: random.Random) -> object:
    match rng.randrange(8):
        case 0:
            return rng.randrange(-(10 ** rng.randrange(1, 18)), 10 ** rng.randrange(1, 18))
        case 1:
            return rng.choice([rng.random(), rng.randrange(10**6) / 100, rng.random() * 10 ** rng.randrange(-20, 20)])
        case 2:
            return rng.choice([None, True, False])
        case 3:
            return "".join(rng.choices('aé ü"\\\n花\U0001f600 xyz', k=rng.randrange(12)))
        case _:
            return "".join(rng.choices(string.ascii_letters + string.digits + " -_/", k=rng.randrange(40)))


def _value(rng: random.Random, depth: int) -> object:
    roll = rng.random()
    if depth > 0 and roll < 0.3:
        return _object(rng, depth - 1)
    if depth > 0 and roll < 0.45:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(6))]
    return _scalar(rng)


def _object(rng: random.Random, depth: int) -> Event:
    keys = ("".join(rng.choices(string.ascii_letters, k=rng.randrange(2, 16))) for _ in range(rng.randrange(2, 12)))
    return {key: _value(rng, depth) for key in keys}


def unknown(rng: random.Random) -> Event:
    """A document of a shape that no other has: keys, order, nesting and types come from ``rng``. 8 KB on average."""
    return _object(rng, 4)


def small_unknown(rng: random.Random) -> Event:
    """The same with less in it: half a kilobyte."""
    return _object(rng, 1)


def numbers(rng: random.Random) -> Event:
    """A document of numbers, most of them with a fraction, under keys that no other has."""
    return {f"{rng.getrandbits(40):x}": [rng.uniform(-180, 180) for _ in range(20)] for _ in range(5)}


def strings(rng: random.Random) -> Event:
    """A document of long strings with escapes and characters beyond ASCII, under keys that no other has."""
    letters = string.ascii_letters + '   \n"éß€花'
    return {f"{rng.getrandbits(40):x}": "".join(rng.choices(letters, k=rng.randrange(400))) for _ in range(10)}


UNKNOWN: dict[str, Maker] = {
    "unknown shapes": unknown,
    "small unknown shapes": small_unknown,
    "unknown shapes of numbers": numbers,
    "unknown shapes of strings": strings,
}
"""Documents of a new shape every time."""
