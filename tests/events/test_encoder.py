"""The encoder in C, alone: it writes what lamplighter/events/writer.py writes, to the byte, or leaves it to Python."""

from __future__ import annotations

import decimal
import enum
import gc
import math
import random
import re
import struct
import sys
import weakref
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter import _events
from lamplighter.events import encode, writer

ROOT = Path(__file__).resolve().parents[2]


class LeftToPython(Exception):
    """The encoder in C did not take a value."""


def _left(result: object, ascii_only: bool) -> tuple[bytes, bool]:
    raise LeftToPython(type(result).__name__)


in_c = _events.encoder(_left)


def by_writer(value: object, ascii_only: bool) -> bytes:
    return writer.write(value, ascii_only).encode("utf-8", "backslashreplace")


def same(value: object) -> None:
    for ascii_only in (True, False):
        assert in_c(value, ascii_only=ascii_only) == (by_writer(value, ascii_only), True)


characters = st.characters(codec=None) | st.sampled_from(
    '"\\\x00\x1f\x7f\x80\xff\u07ff\u0800\ud800\udfff\uffff\U0010ffff'
)
texts = st.text(characters, max_size=80) | st.text(st.characters(max_codepoint=255), max_size=80)
keys = texts | st.integers() | st.floats() | st.booleans() | st.none()
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.lists(inner).map(tuple),
    max_leaves=30,
)


@given(plain)
def test_plain_values_are_written_as_the_writer_writes_them(value: object) -> None:
    same(value)


@given(texts)
def test_strings_are_written_as_the_writer_writes_them(text: str) -> None:
    same(text)
    same({text: text})


@pytest.mark.parametrize("filler", ["x", "\xe9", "\u0416", "\u20ac", "\U0001f600"])
def test_an_odd_character_is_found_at_every_place_of_a_string_of_every_length(filler: str) -> None:
    for size in range(70):
        same(filler * size)
        for at in range(size):
            for odd in ('"', "\\", "\n", "\x00", "\x1f", "\x7f", "\x80", "\xff", "\ud800", "\U0001f600"):
                text = filler * at + odd + filler * (size - at - 1)
                assert in_c(text, ascii_only=False)[0] == by_writer(text, False)
                assert in_c(text, ascii_only=True)[0] == by_writer(text, True)


def test_every_character_is_written_as_the_writer_writes_it() -> None:
    for start in range(0, 0x110000, 0x1000):
        text = "".join(map(chr, range(start, start + 0x1000)))
        same(text)
    for code in range(0x3000):
        same(chr(code))


def test_strings_and_their_keys_longer_than_any_buffer() -> None:
    for size in (2000, 2047, 2048, 2049, 5000, 100_000):
        for filler in ("a", '"', "\x01", "\xe9", "\u0416", "\U0001f600", "\ud800"):
            same(filler * size)
            same([{filler * size: [filler * size, "b"]}, "c"])


def test_deep_and_wide_containers_grow_the_text_where_it_may_break() -> None:
    for depth in range(400):
        value: Any = 1.5
        for level in range(depth):
            value = [value] if level % 2 else {"": value}
        assert in_c(value, ascii_only=True)[0].count(b"[") == depth // 2
    for count in range(600, 720):
        same([[]] * count)
        same([{}] * count)
        same([123] * count)
        same([-1.7976931348623157e308] * (count // 8))


def test_random_doubles_are_written_as_repr_writes_them() -> None:
    chance = random.Random(11)
    for _ in range(200):
        found = [x for x in struct.unpack("<500d", chance.randbytes(4000)) if math.isfinite(x)]
        assert in_c(found, ascii_only=True)[0].decode() == repr(found)


def test_doubles_at_the_edges_are_written_as_repr_writes_them() -> None:
    found = [0.0, -0.0, 1e22, 1e23, 9007199254740993.0, 5e-324, 2.2250738585072014e-308, sys.float_info.max, 0.1 + 0.2]
    powers = [math.ldexp(1.0, exponent) for exponent in range(-1074, 1024)]
    powers += [float(f"{digits}e{exponent}") for digits in (1, 5, 9, 25, 123456789) for exponent in range(-330, 300)]
    for power in powers:
        found += [power, -power, math.nextafter(power, math.inf), math.nextafter(power, 0)]
    assert in_c(found, ascii_only=True)[0].decode() == repr(found)


def test_decimals_between_every_count_of_digits_and_exponent() -> None:
    chance = random.Random(12)
    found = [round(chance.random() * 10 ** chance.randrange(18), chance.randrange(18)) for _ in range(50_000)]
    assert in_c(found, ascii_only=True)[0].decode() == repr(found)


def test_integers_of_every_size() -> None:
    found = [
        sign * (base**power + near)
        for base in (2, 10)
        for power in range(140)
        for near in (-1, 0, 1)
        for sign in (1, -1)
    ]
    assert in_c(found, ascii_only=True)[0].decode() == repr(found)
    same(found)


def test_the_table_of_powers_is_exact() -> None:
    text = (ROOT / "native" / "events" / "powers.c").read_text()
    entries = re.findall(r"\{0x([0-9a-f]{16})u, 0x([0-9a-f]{16})u\}, /\* (-?\d+) \*/", text)
    assert [int(power) for _, _, power in entries] == list(range(-342, 325))
    for high, low, power in entries:
        found, exponent = int(high + low, 16), int(power)
        assert 2**127 <= found < 2**128
        if exponent >= 0:
            assert found == (10**exponent << 128) >> (10**exponent).bit_length()
        else:
            assert found == (1 << ((10**-exponent - 1).bit_length() + 127)) // 10**-exponent


class Text(str):
    pass


class Point(NamedTuple):
    x: int


class Level(enum.IntEnum):
    LOW = 3


class Items(list[int]):
    pass


class Money(Decimal):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        Point(1),
        Level.LOW,
        Items([1]),
        Money(1),
        OrderedDict(a=1),
        b"",
        bytearray(b""),
        {1},
        object(),
        {b"a": 1},
        {(1,): 1},
        {Text("a"): 1},
        {Level.LOW: 1},
        {Decimal(1): 1},
        range(3),
        float,
        type("Number", (float,), {})(1.5),
    ],
)
def test_whatever_is_not_plain_is_left_to_python_whole(value: object) -> None:
    for result in (value, [1, value], {"a": value}, (value,)):
        with pytest.raises(LeftToPython, match=type(result).__name__):
            in_c(result, ascii_only=True)


def test_what_cannot_be_written_is_left_to_python_without_a_trace_of_the_attempt() -> None:
    circular: list[object] = []
    circular.append({"again": circular})
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circular, deep, [10**5000], {10**5000: 1}):
        with pytest.raises(LeftToPython) as caught:
            in_c(value, ascii_only=False)
        assert caught.value.__context__ is None
    while deep:
        deep = deep.pop()  # type: ignore[assignment]
    circular.clear()


def test_a_result_as_deep_as_python_may_recurse_is_written() -> None:
    value: list[object] = []
    for _ in range(500):
        value = [value]
    assert in_c(value, ascii_only=True)[0] == b"[" * 501 + b"]" * 501


def test_decimals_follow_the_context_and_nan_has_one_form() -> None:
    with decimal.localcontext(capitals=0):
        assert in_c(Decimal("1E+30"), ascii_only=True)[0] == b"1e+30"
    for text in ("NaN", "-NaN", "sNaN", "-sNaN12", "NaN7"):
        assert in_c([Decimal(text)], ascii_only=True)[0] == b"[NaN]"
    for text in ("Infinity", "-Infinity", "0E-10", "-0", "1.10"):
        assert in_c({"d": Decimal(text)}, ascii_only=True)[0] == b'{"d": %s}' % text.encode()


@pytest.mark.parametrize("call", [encode, lambda: encode(1), lambda: encode(1, True), lambda: encode(1, asci=1)])
def test_ascii_only_is_given_by_name_and_must_be(call: Any) -> None:
    with pytest.raises(TypeError, match="ascii_only"):
        call()


def test_what_the_slow_function_raises_comes_through() -> None:
    def leaving(result: object, ascii_only: bool) -> Any:
        sys.exit(4)

    with pytest.raises(SystemExit):
        _events.encoder(leaving)({1}, ascii_only=True)


def test_no_reference_is_kept_or_lost() -> None:
    class Held:
        pass

    held = Held()
    watch = weakref.ref(held)
    value = {"text": "t" * 5, "n": 10**30, "d": Decimal("1.5"), "l": [1.5, None, {"x": ("y",)}], 10**25: "k", 1.5: 2}
    odd = [value, held]
    counted = [*value.values(), *value.keys(), value, None, True, Decimal]
    before = [sys.getrefcount(one) for one in counted]
    for _ in range(2000):
        in_c(value, ascii_only=True)
        with pytest.raises(LeftToPython):
            in_c(odd, ascii_only=True)
    after = [sys.getrefcount(one) for one in counted]
    # None and True are used by everybody; the others are not.
    assert [b - a for a, b in zip(before, after, strict=True) if abs(b - a) > 50] == []
    del held, odd[:]
    gc.collect()
    assert watch() is None


def test_many_results_leave_memory_as_it_was() -> None:
    value = {"a": ["text \u20ac", 1.25, 7, None, Decimal("2.50")], "b": "x" * 3000}

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(2000):
        in_c(value, ascii_only=False)
    before = resident()
    for _ in range(30_000):
        in_c(value, ascii_only=False)
    assert resident() - before < 256  # pages: a leak of one object a result would be thousands
