"""The decoder against ``json.loads``: random documents, damaged ones, mixtures of two, and what it may not leak."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import sources
from judging import containers, difference, judge
from lamplighter.events import Decoder

texts = st.text(max_size=40) | st.sampled_from(["", "a", "id", '"', "\\", "\n", "\ud800", "\U0001f600", "é" * 17])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.integers(-(2**70), 2**70)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=8), max_leaves=40
)
spaces = st.text(" \t\n\r", max_size=3)


def as_text(value: object, ascii_only: bool = True) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")


def other_values(value: Any, rng: random.Random) -> Any:
    """A document of the same shape with other leaves, now and then of another type."""
    if isinstance(value, dict):
        return {key: other_values(inner, rng) for key, inner in value.items()}
    if isinstance(value, list):
        return [other_values(inner, rng) for inner in value]
    return rng.choice(
        [value, value, rng.random(), rng.randrange(10**12), "", "té\n", "x" * rng.randrange(60), None, True]
    )


@given(documents, st.booleans())
def test_any_document(value: object, ascii_only: bool) -> None:
    decoder = Decoder()
    for _ in range(3):
        judge(decoder.decode, as_text(value, ascii_only))


@given(documents, st.randoms(use_true_random=False))
def test_documents_of_a_learned_shape_with_other_values(value: object, rng: random.Random) -> None:
    decoder = Decoder()
    for _ in range(6):
        judge(decoder.decode, as_text(other_values(value, rng), rng.random() < 0.5))


@given(st.lists(documents, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_shapes_that_take_turns(values: list[object], rng: random.Random) -> None:
    decoder = Decoder(shapes=2, memory=rng.choice([0, 300, 2000, 1 << 20]))
    for _ in range(12):
        judge(decoder.decode, as_text(other_values(rng.choice(values), rng)))


@given(documents, st.integers(0), st.integers(0, 255), st.sampled_from(["change", "insert", "delete", "cut", "repeat"]))
def test_a_learned_document_damaged_anywhere(value: object, place: int, byte: int, how: str) -> None:
    body = as_text(value, ascii_only=False)
    decoder = Decoder()
    for _ in range(2):
        judge(decoder.decode, body)
    judge(decoder.decode, damaged(body, place % (len(body) + 1), byte, how))
    judge(decoder.decode, body)


def damaged(body: bytes, at: int, byte: int, how: str) -> bytes:
    match how:
        case "change":
            return body[:at] + bytes([byte]) + body[at + 1 :]
        case "insert":
            return body[:at] + bytes([byte]) + body[at:]
        case "delete":
            return body[:at] + body[at + 1 :]
        case "cut":
            return body[:at]
    return body[:at] + body[max(0, at - byte) :]


ODD_BYTES = b'"\\{}[]:, \n0-.eEtn\x00\x1f\x80\xc3\xff'


@pytest.mark.parametrize("name", ["API Gateway v2", "S3", "EventBridge", "SNS"])
def test_a_learned_event_damaged_at_every_byte(name: str) -> None:
    bodies = sources.bodies(sources.SOURCES[name], 5, 8)
    decoder = Decoder()
    for body in bodies[:-1]:
        judge(decoder.decode, body)
    last = bodies[-1]
    rng = random.Random(name)
    for at in range(len(last)):
        judge(decoder.decode, damaged(last, at, rng.choice(ODD_BYTES), "change"))
        judge(decoder.decode, damaged(last, at, rng.choice(ODD_BYTES), "insert"))
        judge(decoder.decode, damaged(last, at, 0, rng.choice(["delete", "cut"])))
        if at % 64 == 0:
            judge(decoder.decode, rng.choice(bodies))


@given(documents, documents, st.integers(0), st.integers(0))
def test_two_learned_documents_spliced(one: object, other: object, cut: int, join: int) -> None:
    first, second = as_text(one), as_text(other)
    decoder = Decoder()
    for body in (first, second, first, second):
        judge(decoder.decode, body)
    judge(decoder.decode, first[: cut % (len(first) + 1)] + second[join % (len(second) + 1) :])
    judge(decoder.decode, first)


def test_two_events_spliced_at_every_comma() -> None:
    rng = random.Random(9)
    makers = list(sources.SOURCES.values())
    for _ in range(150):
        first, second = (sources.body(rng.choice(makers)(rng)) for _ in range(2))
        decoder = Decoder()
        for body in (first, second, first, second):
            judge(decoder.decode, body)
        for _ in range(6):
            cut = rng.choice([at for at, byte in enumerate(first) if byte in b',{}[]:"'][:2000])
            join = rng.choice([at for at, byte in enumerate(second) if byte in b',{}[]:"'][:2000])
            judge(decoder.decode, first[:cut] + second[join:])


@given(documents, st.data())
def test_white_space_anywhere_between_tokens_of_a_learned_document(value: object, data: st.DataObject) -> None:
    body = as_text(value)
    decoder = Decoder()
    for _ in range(2):
        judge(decoder.decode, body)
    pieces = []
    quoted = escaped = False
    for byte in body:
        piece = bytes([byte])
        if not quoted and byte in b"{}[],:":
            pieces += [data.draw(spaces).encode(), piece, data.draw(spaces).encode()]
        else:
            pieces.append(piece)
        if quoted and escaped:
            escaped = False
        elif quoted and byte == ord("\\"):
            escaped = True
        elif byte == ord('"'):
            quoted = not quoted
    judge(decoder.decode, b"".join(pieces))
    judge(decoder.decode, json.dumps(value, indent=2).encode())


@given(st.lists(st.tuples(st.sampled_from("abcé"), scalars), max_size=12))
def test_keys_that_come_twice_and_in_any_order(pairs: list[tuple[str, object]]) -> None:
    body = b"{%s}" % b",".join(as_text(key) + b":" + as_text(value) for key, value in pairs)
    unique = as_text(dict(pairs))
    decoder = Decoder()
    for _ in range(2):
        for one in (unique, body, b"[%s,%s]" % (unique, body)):
            judge(decoder.decode, one)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "at", "of", "é", ""]), scalars), min_size=1, max_size=30))
def test_records_of_any_number_and_with_keys_that_come_and_go(records: list[dict[str, object]]) -> None:
    decoder = Decoder()
    for count in (1, len(records), len(records) // 2, len(records)):
        judge(decoder.decode, as_text({"Records": records[:count]}))


@pytest.mark.parametrize("name", sources.SOURCES)
def test_events_of_every_source(name: str) -> None:
    decoder = Decoder()
    for body in sources.bodies(sources.SOURCES[name], 6, 12):
        for form in (body, bytearray(body), memoryview(body)):
            assert not difference(decoder.decode(form), json.loads(body))
    assert decoder.stats()["hits"] > decoder.stats()["misses"]


def test_unknown_documents_one_after_the_other_stay_within_the_bound() -> None:
    decoder = Decoder(memory=100_000)
    most = 0
    for body in sources.bodies(sources.unknown, 7, 400):
        judge(decoder.decode, body)
        most = max(most, decoder.stats()["bytes"])
    assert most < 100_000 + 400_000  # the shapes, and the buffers and the key table that every decoder has


def test_a_flood_of_keys_and_shapes_stays_within_the_bound() -> None:
    decoder = Decoder(memory=50_000)
    before = decoder.stats()["bytes"]
    for start in range(60):
        keys = {f"{start}-{number}": number for number in range(2000)}
        judge(decoder.decode, as_text(keys))
        judge(decoder.decode, as_text([{f"{start}-{number}": [number]} for number in range(500)]))
    assert decoder.stats()["bytes"] < before + 50_000 + 400_000


def test_containers_are_nobody_elses() -> None:
    decoder = Decoder()
    rng = random.Random(8)
    maker = sources.SOURCES["SQS x10"]
    kept = [decoder.decode(sources.body(maker(rng))) for _ in range(20)]
    seen: set[int] = set()
    for value in kept:
        ids = containers(value)
        assert not ids & seen
        seen |= ids
    kept[0]["Records"][0]["attributes"]["SenderId"] = "changed"
    kept[0]["Records"].clear()
    again = sources.body(maker(rng))
    judge(decoder.decode, again)


def test_what_a_handler_does_to_its_event_does_not_reach_the_next() -> None:
    decoder = Decoder()
    body = b'{"a":{"b":{},"c":[]},"d":"x","e":{"f":1,"g":2,"h":3}}'
    for number in range(20):
        event = decoder.decode(body)
        assert not difference(event, json.loads(body))
        event["a"]["b"][number] = number
        event["a"]["c"].append(number)
        event["new"] = event.pop("d")
        del event["e"]["f"]
        event["e"].update({str(key): key for key in range(50)})
        event.clear()


def test_decoders_in_threads_share_nothing_but_the_code() -> None:
    shared = Decoder()
    faults: list[BaseException] = []

    def work(seed: int) -> None:
        own = Decoder()
        try:
            for body in sources.bodies(sources.SOURCES["API Gateway v2"], seed, 60):
                judge(own.decode, body)
                judge(shared.decode, body)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []


def _mixed(seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    makers = [*list(sources.SOURCES.values())[:6], sources.unknown]
    bodies = [sources.body(rng.choice(makers)(rng)) for _ in range(400)]
    bodies += [body[: rng.randrange(len(body))] for body in bodies[:100]]
    while True:
        yield rng.choice(bodies)


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.timeout(900)
def test_memory_is_flat_over_many_decodes_and_refusals() -> None:
    """10^5 decodes; LAMPLIGHTER_DECODES=1000000 makes it a million."""
    count = int(os.environ.get("LAMPLIGHTER_DECODES", "100000"))
    decoder = Decoder()
    bodies = _mixed(10)

    def run(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(ValueError):
                decoder.decode(next(bodies))

    run(5000)
    gc.collect()
    before, blocks = _resident_kib(), sys.getallocatedblocks()
    run(count)
    gc.collect()
    # One lost object in a hundred decodes would be a thousand. On 3.12 an interned string is never freed, and so many
    # keys may be interned.
    kept = 1 << 16 if sys.version_info[:2] == (3, 12) else 0
    assert sys.getallocatedblocks() - blocks < 2000 + kept
    assert _resident_kib() - before < 4096


def test_no_reference_to_a_shared_string_or_constant_is_lost_or_kept() -> None:
    decoder = Decoder()
    body = b'{"key of some length":"a value of some length","none":null,"yes":true,"small":7,"again":["key"]}'
    for _ in range(10):
        event = decoder.decode(body)
    (key, *_), value = event.keys(), event["key of some length"]
    counted = [key, value, None, True, 7]
    before = [sys.getrefcount(one) for one in counted]
    for _ in range(10_000):
        decoder.decode(body)
        with pytest.raises(ValueError):
            decoder.decode(body[:-2])
    changes = [abs(sys.getrefcount(one) - was) for one, was in zip(counted, before, strict=True)]
    assert max(changes) < 1000


def test_deep_documents_end_in_an_error_or_a_value_and_never_in_a_crash() -> None:
    decoder = Decoder()
    for depth in (100, 400, 800):
        judge(decoder.decode, b"[" * depth + b"]" * depth)
        judge(decoder.decode, b'{"a":' * depth + b"1" + b"}" * depth)
    for opener in (b"[", b'{"a":', b'[{"a":', b'{"a":1,"b":['):
        for depth in (10**4, 10**5, 10**6):
            with pytest.raises((ValueError, RecursionError)):
                decoder.decode(opener * depth)
        judge(decoder.decode, b'{"a":1}')


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    judge(Decoder().decode, body)


@pytest.mark.parametrize("data", ["{}", None, 5, [b"{}"], memoryview(b"{ } ")[::2]])
def test_what_is_not_contiguous_bytes_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        Decoder().decode(data)


def test_six_megabytes() -> None:
    decoder = Decoder()
    rng = random.Random(3)
    records = [sources.dynamodb(1)(rng)["Records"][0] for _ in range(6_000_000 // 900)]
    for _ in range(2):
        judge(decoder.decode, sources.body({"Records": records}))
    judge(decoder.decode, json.dumps({"body": "x\u00e9\n" * 1_000_000}).encode())
