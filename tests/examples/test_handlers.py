"""The example functions, each on its own event files, called as Lambda would: ``handler(event, context)``."""

from __future__ import annotations

import base64
import copy
import hashlib
import importlib.util
import io
import json
import logging
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.stub import Stubber
from PIL import Image

from bootstrap.running import OURS, running
from bootstrap.scripted import ScriptedAPI, events
from bootstrap.scripted import event as api_event

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIG = tomllib.loads((EXAMPLES / "lamplighter.toml").read_text())["functions"]


def load(name: str) -> ModuleType:
    """A fresh import of one example, as a new execution environment makes one."""
    spec = importlib.util.spec_from_file_location(f"{name}_app", EXAMPLES / name / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event(path: str) -> Any:
    return json.loads((EXAMPLES / path).read_text())


# --- the folder as a whole


def test_every_function_of_the_configuration_has_its_code_and_its_warm_up_events() -> None:
    # The one with a Dockerfile is served by its image: tests/images.
    folders = [path.parent for path in EXAMPLES.glob("*/app.py")]
    assert set(CONFIG) == {folder.name for folder in folders if not (folder / "Dockerfile").exists()}
    for function in CONFIG.values():
        assert (EXAMPLES / function["code"] / "app.py").is_file()
        assert function["warm_up"]
        for path in function["warm_up"]:
            assert isinstance(event(path), dict)


def test_no_example_imports_lamplighter() -> None:
    for path in EXAMPLES.glob("*/app.py"):
        assert not re.search(r"^\s*(from|import)\s+lamplighter", path.read_text(), re.MULTILINE)


# --- thumbnail


@pytest.fixture(scope="module")
def thumbnail() -> ModuleType:
    return load("thumbnail")


@pytest.fixture
def left_in_tmp() -> Iterator[None]:
    before = set(Path("/tmp").glob("thumbnail-*"))
    yield
    assert set(Path("/tmp").glob("thumbnail-*")) <= before


def photo(width: int, height: int, orientation: int = 1) -> str:
    image, file, exif = Image.new("RGB", (width, height), "navy"), io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(file, "JPEG", exif=exif)
    return base64.b64encode(file.getvalue()).decode()


def opened(answer: dict[str, Any]) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(answer["image"], validate=True)))
    image.load()
    return image


@pytest.mark.usefixtures("left_in_tmp")
def test_the_photograph_becomes_a_jpeg_of_the_width_that_was_asked_for(thumbnail: ModuleType) -> None:
    answer = thumbnail.handler(event("thumbnail/event.json"), None)
    image = opened(answer)
    assert (image.format, image.size) == ("JPEG", (160, 120))
    assert (answer["width"], answer["height"], answer["contentType"]) == (160, 120, "image/jpeg")
    assert answer["bytes"] == len(base64.b64decode(answer["image"]))
    original = (EXAMPLES / "thumbnail/raccoon.jpg").stat().st_size
    assert answer["original"] == {"width": 1024, "height": 768, "bytes": original}
    assert answer["bytes"] < original / 10
    assert len(image.resize((16, 12)).getcolors(16 * 12) or []) > 20  # a picture, not one flat colour


@pytest.mark.usefixtures("left_in_tmp")
def test_an_image_in_the_event_needs_no_file(thumbnail: ModuleType) -> None:
    assert opened(thumbnail.handler({"image": photo(400, 200), "width": 100}, None)).size == (100, 50)


def test_a_photograph_taken_on_its_side_is_turned_upright_before_its_width_is_judged(thumbnail: ModuleType) -> None:
    answer = thumbnail.handler({"image": photo(400, 200, orientation=6), "width": 100}, None)
    assert opened(answer).size == (100, 200)
    assert (answer["original"]["width"], answer["original"]["height"]) == (200, 400)


def test_a_small_image_is_never_enlarged(thumbnail: ModuleType) -> None:
    assert opened(thumbnail.handler({"image": photo(64, 48), "width": 160}, None)).size == (64, 48)


@pytest.mark.usefixtures("left_in_tmp")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"key": "raccoon.jpg", "width": "160"}, "'width' is '160'; it must be a whole number from 16 to 2048"),
        ({"key": "raccoon.jpg", "width": True}, "'width' is True; it must be a whole number"),
        ({"key": "raccoon.jpg", "width": 15}, "'width' is 15; it must be a whole number from 16 to 2048"),
        ({}, "the event needs 'image' (a JPEG in base64) or 'key'"),
        ({"key": 5}, "the event needs 'image' (a JPEG in base64) or 'key'"),
        ({"key": "missing.jpg"}, "'key' is 'missing.jpg'; the deployment package has no such file"),
        ({"key": "../queue/event.json"}, "the deployment package has no such file"),
        ({"key": "/etc/hostname"}, "the deployment package has no such file"),
        ({"image": "not base64!"}, "'image' is not base64"),
        ({"image": 7}, "'image' is not base64"),
        ({"image": base64.b64encode(b"GIF89a" + bytes(40)).decode()}, "the image is not a JPEG"),
    ],
)
def test_an_event_without_a_usable_image_or_width_is_refused(
    thumbnail: ModuleType, bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        thumbnail.handler(bad, None)


# --- http_api


@pytest.fixture
def http_api() -> ModuleType:
    return load("http_api")


def request(method: str, path: str, body: str | None = None, **more: Any) -> dict[str, Any]:
    made = event("http_api/event-get.json")
    made["rawPath"] = made["requestContext"]["http"]["path"] = path
    made["requestContext"]["http"]["method"] = method
    return {**made, **({} if body is None else {"body": body}), **more}


def test_an_order_is_read_by_its_id(http_api: ModuleType) -> None:
    answer = http_api.handler(event("http_api/event-get.json"), None)
    assert answer["statusCode"] == 200
    assert answer["headers"]["Content-Type"] == "application/json"
    assert json.loads(answer["body"]) == {"id": "1001", "sku": "lantern-brass", "quantity": 2, "totalCents": 17800}


def test_a_placed_order_can_be_read_where_location_says(http_api: ModuleType) -> None:
    placed = http_api.handler(event("http_api/event-post.json"), None)
    assert placed["statusCode"] == 201
    order = json.loads(placed["body"])
    assert (order["sku"], order["quantity"], order["totalCents"]) == ("lamp-oil-1l", 3, 3 * 1290)
    read = http_api.handler(request("GET", placed["headers"]["Location"]), None)
    assert (read["statusCode"], json.loads(read["body"])) == (200, order)


def test_a_body_in_base64_is_the_same_order(http_api: ModuleType) -> None:
    plain = event("http_api/event-post.json")
    encoded = {**plain, "body": base64.b64encode(plain["body"].encode()).decode(), "isBase64Encoded": True}
    first, second = (json.loads(http_api.handler(one, None)["body"]) for one in (plain, encoded))
    assert first["id"] != second["id"]
    assert {**first, "id": ""} == {**second, "id": ""}


def test_a_visitor_without_a_session_cookie_gets_one_and_keeps_it(http_api: ModuleType) -> None:
    first = http_api.handler(event("http_api/event-post.json"), None)
    [cookie] = first["cookies"]
    assert re.fullmatch(r"session=[0-9a-f]{32}; Path=/; HttpOnly; Secure; SameSite=Lax", cookie)
    again = request("GET", "/orders/1001", cookies=["theme=dark", cookie.partition(";")[0]])
    assert "cookies" not in http_api.handler(again, None)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/orders/4711", 404, "no order 4711"),
        ("GET", "/", 404, "nothing at /"),
        ("GET", "/orders/1001/items", 404, "nothing at /orders/1001/items"),
        ("DELETE", "/orders/1001", 405, "DELETE is not possible here; allowed: GET"),
        ("GET", "/orders", 405, "GET is not possible here; allowed: POST"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is_wrong(
    http_api: ModuleType, method: str, path: str, status: int, error: str
) -> None:
    answer = http_api.handler(request(method, path), None)
    assert (answer["statusCode"], json.loads(answer["body"])) == (status, {"error": error})
    assert ("Allow" in answer["headers"]) is (status == 405)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (None, "the body is not JSON"),
        ('{"sku": ', "the body is not JSON"),
        ("[1, 2]", "the body must be a JSON object with 'sku' and 'quantity'"),
        ('{"sku": "moon", "quantity": 1}', "sku is 'moon'; we sell lamp-oil-1l, wick-10, lantern-brass"),
        ('{"sku": ["wick-10"], "quantity": 1}', "sku is ['wick-10']; we sell"),
        ('{"sku": "wick-10", "quantity": 0}', "quantity is 0; it must be a whole number from 1 to 99"),
        ('{"sku": "wick-10", "quantity": true}', "quantity is True; it must be a whole number from 1 to 99"),
        ('{"sku": "moon"}', "we sell lamp-oil-1l, wick-10, lantern-brass; quantity is None"),
    ],
)
def test_an_order_that_cannot_be_is_answered_400_and_not_kept(
    http_api: ModuleType, body: str | None, error: str
) -> None:
    before = copy.deepcopy(http_api.ORDERS)
    answer = http_api.handler(request("POST", "/orders", body), None)
    assert answer["statusCode"] == 400
    assert error in json.loads(answer["body"])["error"]
    assert before == http_api.ORDERS


def test_a_body_that_claims_base64_and_is_not_is_answered_400(http_api: ModuleType) -> None:
    answer = http_api.handler(request("POST", "/orders", "{}x", isBase64Encoded=True), None)
    assert answer["statusCode"] == 400


# --- queue


@pytest.fixture
def queue() -> Iterator[ModuleType]:
    level = logging.getLogger().level
    yield load("queue")
    logging.getLogger().setLevel(level)


def test_the_batch_is_a_real_one_of_ten() -> None:
    records = event("queue/event.json")["Records"]
    assert len({record["messageId"] for record in records}) == 10
    for record in records:
        digest = hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
        assert record["md5OfBody"] == digest


def test_only_the_two_poison_messages_go_back(
    queue: ModuleType, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = event("queue/event.json")
    poison = [batch["Records"][index]["messageId"] for index in (3, 7)]
    with caplog.at_level(logging.INFO):
        answer = queue.handler(batch, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": message} for message in poison]}
    assert capsys.readouterr().out == "8 of 10 messages settled\n"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"message {poison[0]} failed on attempt 3: the body is not JSON" in warnings[0]
    assert warnings[1] == f"message {poison[1]} failed on attempt 2: amount is -12.5; it must be a number above 0"


def test_amounts_are_added_without_binary_rounding(queue: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    template = event("queue/event.json")["Records"][0]
    records = [{**template, "body": '{"currency": "EUR", "amount": 0.1}'} for _ in range(3)]
    with caplog.at_level(logging.INFO):
        assert queue.handler({"Records": records}, None) == {"batchItemFailures": []}
    assert "settled 0.3 EUR" in caplog.text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "the body is not JSON"),
        ("[]", "the body needs 'currency' and 'amount'"),
        ("null", "the body needs 'currency' and 'amount'"),
        ('{"currency": "EUR"}', "the body needs 'currency' and 'amount'"),
        ('{"currency": ["EUR"], "amount": 1}', "currency is ['EUR']; allowed are EUR, GBP, USD"),
        ('{"currency": "XAU", "amount": 1}', "currency is 'XAU'; allowed are EUR, GBP, USD"),
        ('{"currency": "EUR", "amount": "1"}', "amount is 1; it must be a number above 0"),
        ('{"currency": "EUR", "amount": NaN}', "amount is nan; it must be a number above 0"),
        ('{"currency": "EUR", "amount": 0}', "amount is 0; it must be a number above 0"),
    ],
)
def test_a_poison_message_says_what_is_wrong_with_it(queue: ModuleType, body: str, why: str) -> None:
    with pytest.raises(queue.PoisonMessage, match=re.escape(why)):
        queue.payment(body)


# --- object_lister


@pytest.fixture
def object_lister(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Neither the machine's own credentials nor any metadata service may have a part in this.
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TABLE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name, value in CONFIG["object_lister"]["environment"].items():
        monkeypatch.setenv(name, value)
    return load("object_lister")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the function opened a connection")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("socket.getaddrinfo", refused)


@pytest.mark.usefixtures("no_network")
def test_every_object_of_the_notification_gets_a_signed_link_without_any_network(object_lister: ModuleType) -> None:
    answer = object_lister.handler(event("object_lister/event.json"), None)
    assert [item["key"] for item in answer["objects"]] == [
        "reports/2025/november summary.pdf",
        "exports/orders-2025-11-22.parquet",
        "photos/München bei Nacht.jpg",
    ]
    for item in answer["objects"]:
        link = urlsplit(item["link"])
        signed = {name: value for name, [value] in parse_qs(link.query, strict_parsing=True).items()}
        assert (link.scheme, link.hostname) == ("https", "example-shared-files.s3.amazonaws.com")
        assert unquote(link.path) == f"/{item['key']}"
        assert signed["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
        assert signed["X-Amz-Expires"] == "900"
        assert signed["X-Amz-Credential"].startswith("AKIAIOSFODNN7EXAMPLE/")
        assert re.fullmatch(r"[0-9a-f]{64}", signed["X-Amz-Signature"])


def test_with_a_table_each_link_is_recorded_until_it_expires(
    object_lister: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lister, "TABLE_NAME", "links")
    notification = event("object_lister/event.json")
    notification["Records"] = notification["Records"][:1]
    with Stubber(object_lister.dynamodb) as stubber:
        written: list[Any] = []
        stubber.add_response("put_item", {})
        object_lister.dynamodb.meta.events.register_first(
            "provide-client-params.dynamodb.PutItem", lambda params, **_: written.append(params)
        )
        answer = object_lister.handler(notification, None)
        stubber.assert_no_pending_responses()
    key, link = answer["objects"][0]["key"], answer["objects"][0]["link"]
    item = {"pk": {"S": f"example-shared-files/{key}"}, "link": {"S": link}, "expires": {"N": str(answer["expires"])}}
    assert written == [{"TableName": "links", "Item": item}]


# --- through the runtime interface client


@pytest.mark.parametrize("name", CONFIG)
def test_every_example_runs_through_the_bootstrap(name: str) -> None:
    function = CONFIG[name]
    bodies = [(EXAMPLES / path).read_bytes() for path in function["warm_up"]]
    answering = events(*(api_event(body, f"id-{number}") for number, body in enumerate(bodies)))
    environment = {**function.get("environment", {}), "AWS_EC2_METADATA_DISABLED": "true"}
    with (
        ScriptedAPI(answering) as api,
        running(OURS, api.address, function["handler"], code=EXAMPLES / function["code"], environment=environment),
    ):
        posts = api.answers(len(bodies))
    for number, post in enumerate(posts):
        assert post.path == f"/2018-06-01/runtime/invocation/id-{number}/response", post.body
        assert isinstance(json.loads(post.body), dict)
