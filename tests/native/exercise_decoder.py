"""Decode much, by the extension named on the command line, beside ``json``; print its layout and its scanner.

A script of its own, so that it runs in an interpreter with other allocators or preloaded sanitizers, with an extension
that is not the installed one. Ends with status 0 if nothing differs.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import random
import sys
from typing import Any

specification = importlib.util.spec_from_file_location("_events", sys.argv[1])
assert specification is not None
assert specification.loader is not None
extension: Any = importlib.util.module_from_spec(specification)
specification.loader.exec_module(extension)

chance = random.Random(11)


def leaf() -> object:
    return chance.choice(
        [
            None,
            True,
            chance.randrange(10 ** chance.randint(1, 30)),
            chance.uniform(-1e6, 1e6),
            "",
            "x" * chance.randrange(90),
            'é€😀\n"\\' * chance.randrange(9) + "y" * chance.randrange(40),
            "eu-central-1",
        ]
    )


def value(depth: int) -> object:
    if depth == 0 or chance.random() < 0.3:
        return leaf()
    if chance.random() < 0.4:
        return [value(depth - 1) for _ in range(chance.randrange(5))]
    return {chance.choice("abcdefgh") * chance.randint(1, 20): value(depth - 1) for _ in range(chance.randrange(9))}


def with_other_leaves(of: Any) -> object:
    if isinstance(of, dict):
        return {key: with_other_leaves(inner) for key, inner in of.items() if chance.random() < 0.97}
    if isinstance(of, list):
        return [with_other_leaves(inner) for inner in of]
    return leaf()


def used(event: Any) -> None:
    """What handlers do to dicts, so that a wrong one shows."""
    for inner in list(event.values()) if isinstance(event, dict) else event if isinstance(event, list) else ():
        used(inner)
    if isinstance(event, dict):
        for key in list(event)[::2]:
            event[key + "!"] = event.pop(key)
        event.update((f"more {number}", number) for number in range(chance.randrange(12)))
        copied = dict(event)
        event.clear()
        event.update(copied)


def compare(decoder: Any, body: bytes) -> None:
    try:
        expected = json.loads(body.decode())
    except (ValueError, RecursionError):
        try:
            decoder.decode(body)
        except ValueError:
            return
        raise AssertionError(f"accepted: {body!r}") from None
    found = decoder.decode(body)
    assert repr(found) == repr(expected), body
    used(found)


def damaged(body: bytes) -> bytes:
    at = chance.randrange(len(body))
    return chance.choice(
        [
            body[:at],
            body[:at] + bytes([chance.choice(b' "\\{}[]:,0a\x00\x80\xc3')]) + body[at + 1 :],
            body[:at] + body[at + 1 :],
            body[:at] + body[at:][: chance.randrange(20)] + body[at:],
        ]
    )


shared = extension.Decoder()
for _ in range(120):
    model = value(4)
    decoder = chance.choice([shared, extension.Decoder(shapes=2, memory=chance.choice([0, 500, 5000]))])
    for _ in range(4):
        body = json.dumps(with_other_leaves(model), ensure_ascii=chance.random() < 0.5).encode()
        compare(decoder, body)
        for _ in range(4):
            compare(decoder, damaged(body))
for size in (1, 5, 6, 10, 11, 127, 128, 129, 300, 2000):
    flat = json.dumps({f"key {number}": number for number in range(size)}).encode()
    for _ in range(3):
        compare(shared, flat)
for body in (b"[" * 1024 + b"]" * 1024, b'{"a":' * 1024 + b"1" + b"}" * 1024, b"[" * 5000, b'{"a":' * 5000):
    for _ in range(2):
        try:
            shared.decode(body)
        except extension.DecodeError:
            assert len(body) >= 5000
gc.collect()
print(extension.layout)
print(extension.scanner)
