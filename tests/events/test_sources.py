"""The ready-made types decode what AWS's services send, and name all that they say they do."""

from __future__ import annotations

import datetime
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import sources
from lamplighter.events import ValidationError, reader_of, typed
from lamplighter.events.sources import api_gateway, dynamodb, eventbridge, function_url, kinesis, s3, sns, sqs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def read(event_type: Any, body: bytes) -> Any:
    handler = typed(event_type)(lambda event, context: event)
    return reader_of(handler, json.loads)(body)


def made(name: str) -> tuple[Any, bytes]:
    event = sources.SOURCES[name](random.Random(name))
    return event, sources.body(event)


def unnamed(info: msgspec.inspect.Type, value: Any) -> set[str]:
    """The keys of ``value``, at any depth, that the type has no field for."""
    match info:
        case msgspec.inspect.StructType():
            fields = {field.encode_name: field.type for field in info.fields}
            named = [unnamed(fields[key], inner) for key, inner in value.items() if key in fields]
            return set().union(value.keys() - fields.keys(), *named)
        case msgspec.inspect.ListType():
            return set().union(*(unnamed(info.item_type, inner) for inner in value))
        case msgspec.inspect.UnionType() if value is not None:
            return set().union(*(unnamed(one, value) for one in info.types))
    return set()


def test_an_http_apis_request() -> None:
    event, body = made("API Gateway v2")
    found = read(api_gateway.HttpRequest, body)
    assert found.raw_path == event["rawPath"]
    assert found.headers == event["headers"]
    assert found.cookies == event["cookies"]
    assert found.request_context.http.source_ip == event["requestContext"]["http"]["sourceIp"]
    assert found.request_context.time_epoch == event["requestContext"]["timeEpoch"]
    assert found.path_parameters == event["pathParameters"]
    assert found.body == event["body"]
    assert found.is_base64_encoded is False


def test_a_rest_apis_request() -> None:
    event, body = made("API Gateway v1")
    found = read(api_gateway.RestRequest, body)
    assert found.multi_value_headers == event["multiValueHeaders"]
    assert found.stage_variables is None
    assert found.request_context.identity.source_ip == event["requestContext"]["identity"]["sourceIp"]
    assert found.request_context.request_time_epoch == event["requestContext"]["requestTimeEpoch"]
    assert found.body == event["body"]


@pytest.mark.parametrize("name", ["event-get.json", "event-post.json"])
def test_the_examples_requests(name: str) -> None:
    body = (EXAMPLES / "http_api" / name).read_bytes()
    event = json.loads(body)
    found = read(api_gateway.HttpRequest, body)
    assert found.request_context.http.method == event["requestContext"]["http"]["method"]
    assert found.body == event.get("body")


def test_a_function_urls_request() -> None:
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "a=1&a=2",
        "headers": {"host": "abc.lambda-url.eu-central-1.on.aws"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "authentication": None,
            "domainName": "abc.lambda-url.eu-central-1.on.aws",
            "domainPrefix": "abc",
            "http": {
                "method": "GET",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/8.5.0",
            },
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Nov/2026:10:11:12 +0000",
            "timeEpoch": 1794478272000,
        },
        "isBase64Encoded": False,
    }
    found = read(function_url.Request, sources.body(event))
    assert found.request_context.http.user_agent == "curl/8.5.0"
    assert found.request_context.account_id == "anonymous"
    assert found.body is None
    assert found.query_string_parameters == {}


def test_an_s3_notification_and_the_decoded_key() -> None:
    event, body = made("S3")
    (found,) = read(s3.Event, body).records
    assert found.s3.object.size == event["Records"][0]["s3"]["object"]["size"]
    assert found.s3.object.e_tag == event["Records"][0]["s3"]["object"]["eTag"]
    assert found.event_time.tzinfo is datetime.UTC
    assert found.event_time.isoformat(timespec="milliseconds")[:23] == event["Records"][0]["eventTime"][:-1]
    event["Records"][0]["s3"]["object"] = {"key": "a+b%2B%C3%A9.txt", "sequencer": "0A"}
    deleted = read(s3.Event, sources.body(event)).records[0].s3.object
    assert (deleted.decoded_key, deleted.size) == ("a b+é.txt", None)


def test_an_sqs_batch() -> None:
    event, _ = made("SQS x10")
    event["Records"][3]["messageAttributes"] = {
        "n": {"stringValue": "1", "stringListValues": [], "binaryListValues": [], "dataType": "Number"},
        "b": {"binaryValue": "AAH/", "dataType": "Binary.raw"},
    }
    found = read(sqs.Event, sources.body(event)).records
    assert [record.message_id for record in found] == [record["messageId"] for record in event["Records"]]
    assert [record.body for record in found] == [record["body"] for record in event["Records"]]
    assert found[3].message_attributes["b"].binary_value == b"\x00\x01\xff"
    assert found[3].message_attributes["n"].string_value == "1"
    assert found[0].event_source_arn == event["Records"][0]["eventSourceARN"]
    assert found[0].md5_of_body == event["Records"][0]["md5OfBody"]
    assert read(sqs.Event, (EXAMPLES / "queue" / "event.json").read_bytes()).records


def test_an_sns_message() -> None:
    event, body = made("SNS")
    (found,) = read(sns.Event, body).records
    sent = event["Records"][0]["Sns"]
    assert (found.sns.message, found.sns.subject) == (sent["Message"], sent["Subject"])
    assert found.sns.message_attributes["priority"].value == sent["MessageAttributes"]["priority"]["Value"]
    assert found.sns.signing_cert_url == sent["SigningCertUrl"]
    assert found.sns.timestamp.year == int(sent["Timestamp"][:4])


def test_a_dynamodb_stream_and_its_values_in_pythons_types() -> None:
    event, body = made("DynamoDB x10")
    found = read(dynamodb.Event, body).records
    assert len(found) == 10
    image = event["Records"][0]["dynamodb"]["NewImage"]
    assert {name: value.python() for name, value in found[0].dynamodb.new_image.items()} == {
        "Order": image["Order"]["S"],
        "Line": Decimal(image["Line"]["N"]),
        "Status": image["Status"]["S"],
        "Total": Decimal(image["Total"]["N"]),
        "Gift": image["Gift"]["BOOL"],
        "Tags": set(image["Tags"]["SS"]),
        "Address": {"City": image["Address"]["M"]["City"]["S"], "Zip": image["Address"]["M"]["Zip"]["S"]},
    }
    value = b'{"L": [{"NULL": true}, {"B": "AP8="}, {"NS": ["1", "2.50"]}, {"BS": ["AA=="]}, {"S": ""}, {"M": {}}]}'
    assert msgspec.json.decode(value, type=dynamodb.AttributeValue).python() == [
        None,
        b"\x00\xff",
        {Decimal(1), Decimal("2.50")},
        {b"\x00"},
        "",
        {},
    ]


def test_a_kinesis_batch() -> None:
    event, body = made("Kinesis x10")
    found = read(kinesis.Event, body).records
    assert json.loads(found[2].kinesis.data)["order"]
    assert found[2].kinesis.sequence_number == event["Records"][2]["kinesis"]["sequenceNumber"]
    assert found[2].event_id == event["Records"][2]["eventID"]


def test_an_eventbridge_event_and_one_whose_detail_has_a_type() -> None:
    class StateChange(msgspec.Struct, rename="kebab"):
        instance_id: str
        state: str

    event, body = made("EventBridge")
    assert read(eventbridge.Event, body).detail == event["detail"]
    found = read(eventbridge.Envelope[StateChange], body)
    assert (found.detail.instance_id, found.detail_type) == (event["detail"]["instance-id"], event["detail-type"])


@pytest.mark.parametrize(
    ("event_type", "name", "skipped"),
    [
        (api_gateway.HttpRequest, "API Gateway v2", set()),
        (sqs.Event, "SQS x10", {"eventSource"}),
        (sns.Event, "SNS", {"EventSource", "EventVersion"}),
        (kinesis.Event, "Kinesis x10", {"eventSource", "eventVersion", "invokeIdentityArn"}),
        (dynamodb.Event, "DynamoDB x10", {"eventVersion", "eventSource"}),
        (eventbridge.Event, "EventBridge", set()),
    ],
)
def test_only_constants_of_a_source_are_skipped(event_type: Any, name: str, skipped: set[str]) -> None:
    event, _ = made(name)
    assert unnamed(msgspec.inspect.type_info(event_type), event) == skipped


def test_a_wrong_event_is_refused_with_the_place() -> None:
    event, _ = made("SQS x10")
    event["Records"][7]["body"] = 5
    with pytest.raises(ValidationError, match=r"Expected `str`, got `int` - at `\$\.Records\[7\]\.body`"):
        read(sqs.Event, sources.body(event))
