"""decode and encode, alone; tests/conformance compares them with AWS's client in whole invocations."""

import enum
import json
import math
import random
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lamplighter
from lamplighter.events import CodecFault, MarshalError, UnmarshalError, decode, encode

RUNTIME = lamplighter.__path__[0].removesuffix("/lamplighter")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def text_of(value: object, ascii_only: bool = True) -> str:
    body, is_json = encode(value, ascii_only=ascii_only)
    assert is_json
    return body.decode()


@given(json_values, st.booleans())
def test_what_is_encoded_decodes_to_itself(value: object, ascii_only: bool) -> None:
    assert decode(encode(value, ascii_only=ascii_only)[0]) == value


@given(json_values, st.booleans())
def test_the_slow_path_writes_plain_values_as_the_fast_one_does(value: object, ascii_only: bool) -> None:
    class Key(str):
        """A subclass: it alone sends the whole value down the slow path."""

    fast = text_of({"k": value}, ascii_only)
    assert text_of({Key("k"): value}, ascii_only) == fast
    assert fast == json.dumps({"k": value}, ensure_ascii=ascii_only)


@pytest.mark.parametrize("around", ["{}", " {} ", "\r\n\t{}\n", "\ufeff{}", "\ufeff {} "])
@pytest.mark.parametrize("value", ["1", '"é"', "[1, {}]", "null"])
def test_white_space_and_a_byte_order_mark_may_surround_the_event(around: str, value: str) -> None:
    assert decode(around.replace("{}", value).encode()) == json.loads(value)


# Texts observed on awslambdaric 4.2.2 with simplejson 4.3.0.
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b" ", "Expecting value: line 1 column 2 (char 1)"),
        (b"nul", "Expecting value: line 1 column 1 (char 0)"),
        (b"[", "Expecting value or ']': line 1 column 2 (char 1)"),
        (b"[\n1,\n x]", "Expecting value: line 3 column 2 (char 6)"),
        (b"[1,]", "Illegal trailing comma before end of array: line 1 column 3 (char 2)"),
        (b"[1 2]", "Expecting ',' delimiter or ']': line 1 column 4 (char 3)"),
        (b'{"[": 1 2}', "Expecting ',' delimiter or '}': line 1 column 9 (char 8)"),
        (b'[{"a": []} {', "Expecting ',' delimiter or ']': line 1 column 12 (char 11)"),
        (b"{", "Expecting property name enclosed in double quotes or '}': line 1 column 2 (char 1)"),
        (b"{'a': 1}", "Expecting property name enclosed in double quotes or '}': line 1 column 2 (char 1)"),
        (b'{"a":1,}', "Illegal trailing comma before end of object: line 1 column 7 (char 6)"),
        (b'{"a":1,,}', "Expecting property name enclosed in double quotes: line 1 column 8 (char 7)"),
        (b'{"a" 1}', "Expecting ':' delimiter: line 1 column 6 (char 5)"),
        (b'"abc', "Unterminated string starting at: line 1 column 1 (char 0)"),
        (b'["\\"", "\\u00e9', "Unterminated string starting at: line 1 column 8 (char 7)"),
        (b'"a\nb"', "Invalid control character '\\n' at: line 1 column 3 (char 2)"),
        (b'"\\x"', "Invalid \\X escape sequence 'x': line 1 column 3 (char 2)"),
        (b'"\\u12"', "Invalid \\uXXXX escape sequence: line 1 column 2 (char 1)"),
        (b'["NaN", -Infinity]', "Expecting value: line 1 column 9 (char 8)"),
        (b"NaN", "Expecting value: line 1 column 1 (char 0)"),
        (b"{} x\ny", "Extra data: line 1 column 4 - line 2 column 2 (char 3 - 6)"),
        (b'"\xff"', "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte"),
        (b'"\xed\xa0\x80"', "'utf-8' codec can't decode byte 0xed in position 1: invalid continuation byte"),
    ],
)
def test_a_bad_event_is_refused_with_awss_message(body: bytes, message: str) -> None:
    with pytest.raises(UnmarshalError) as caught:
        decode(body)
    assert str(caught.value) == f"Unable to unmarshal input: {message}"
    assert caught.value.error_type == "Runtime.UnmarshalError"


def test_an_event_nested_too_deep_is_refused_and_the_process_lives() -> None:
    for body in (b"[" * 200_000, b'{"a":' * 200_000):
        with pytest.raises(UnmarshalError, match=r"recursion depth|Stack overflow|Expecting"):
            decode(body)


def test_damaged_events_are_refused_in_simplejsons_words() -> None:
    simplejson = pytest.importorskip("simplejson", reason="AWS's client brings it; it is the oracle here")
    if tuple(map(int, simplejson.__version__.split(".")[:2])) < (4, 3):
        pytest.skip("the words changed in simplejson 4.3")
    chance = random.Random(20)
    sound = [
        '{"a": [1, 2.5e3, -0, "x\\u00e9\\ud83d\\ude00\\n"], "b": {"c": null, "d": [true, {}]}, "": []}',
        '[[], [[]], {"k": "v\\\\"}, "\\"", NaN]',
        ' {\n "x" : [ 1 ,\n 2 ] , "y":-Infinity}\n ',
        '{"s": "NaN [ { \\" ,"}',
    ]
    refused = 0
    for _ in range(4000):
        text = chance.choice(sound)
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(len(text) + 1)
            piece = chance.choice(['"', "{", "}", "[", "]", ",", ":", "\\", "\\u00", "1", "\n", " ", "N", "\x01", "é"])
            text = chance.choice([text[:at] + piece + text[at:], text[:at] + text[at + 1 :], text[:at]])
        try:
            expected = repr(simplejson.loads(text.encode()))
        except Exception as fault:
            expected = f"Unable to unmarshal input: {fault}"
            refused += 1
        try:
            actual = repr(decode(text.encode()))
        except UnmarshalError as fault:
            actual = str(fault)
        assert actual == expected, text
    assert refused > 1000


class Point(NamedTuple):
    x: int
    y: object


class Level(enum.IntEnum):
    LOW = 3


class Loud(int):
    def __repr__(self) -> str:
        return "LOUD"

    __str__ = __repr__


class Money(Decimal):
    pass


class Asked:
    def _asdict(self, question: str) -> dict[str, str]:
        return {"question": question}


class Listed:
    def _asdict(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"a": [1, 2]}, '{"a": [1, 2]}'),
        (Decimal("1.10"), "1.10"),
        ([Decimal("1E+3"), {"p": Decimal("-0.00")}], '[1E+3, {"p": -0.00}]'),
        ([Decimal("NaN"), Decimal("-sNaN"), Decimal("-Infinity")], "[NaN, NaN, -Infinity]"),
        (Money("2.50"), "2.50"),
        ([math.nan, math.inf, -math.inf], "[NaN, Infinity, -Infinity]"),
        ([math.nan, Decimal("1.0")], "[NaN, 1.0]"),
        (Point(1, [Point(2, ())]), '{"x": 1, "y": [{"x": 2, "y": []}]}'),
        (OrderedDict(b=1, a=OrderedDict()), '{"b": 1, "a": {}}'),
        ({"level": Level.LOW, Level.LOW: Loud(5)}, '{"level": 3, "3": 5}'),
        ({1: 1, 2.5: 2, None: 3, False: 4, Loud(6): 5}, '{"1": 1, "2.5": 2, "null": 3, "false": 4, "6": 5}'),
        ([b"text", {b"\xc3\xa9": b""}], '["text", {"\\u00e9": ""}]'),
        ({"a": 1, b"a": 2}, '{"a": 1, "a": 2}'),
        ("é\u2028\x7f", '"\\u00e9\\u2028\\u007f"'),
        (10**40, "1" + "0" * 40),
    ],
)
def test_a_result_is_written_as_aws_writes_it(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("value", [b"", b"\x00\xff", type("Sub", (bytes,), {})(b"raw")])
def test_bytes_are_sent_as_they_are_and_are_not_json(value: bytes) -> None:
    assert encode(value, ascii_only=True) == (bytes(value), False)


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: [text, Decimal(1)]])
def test_beyond_ascii_the_switch_decides(wrap: Any) -> None:
    assert "\\u00e9" in text_of(wrap("é"), ascii_only=True)
    assert "é" in text_of(wrap("é"), ascii_only=False)


@pytest.mark.parametrize("value", ["a\ud800b", ["a\ud800b", Decimal(1)]])
def test_a_lone_surrogate_is_escaped_where_utf8_cannot_hold_it(value: object) -> None:
    assert "a\\ud800b" in text_of(value, ascii_only=False)


circular: list[object] = []
circular.append({"again": [circular, circular]})
tuple_circle = Point(1, [])
tuple_circle.y.append(tuple_circle)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1}, "Object of type set is not JSON serializable"),
        ({"a": [object()]}, "Object of type object is not JSON serializable"),
        ([Decimal(1), {2}], "Object of type set is not JSON serializable"),
        (Point, "Object of type type is not JSON serializable"),
        (Asked(), "Object of type Asked is not JSON serializable"),
        (Listed(), "_asdict() must return a dict, not list"),
        (bytearray(b"x"), "Object of type bytearray is not JSON serializable"),
        ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
        ({Decimal(1): 3}, "keys must be str, int, float, bool or None, not Decimal"),
        (circular, "Circular reference detected"),
        (tuple_circle, "Circular reference detected"),
        ([b"\xff"], "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_result_without_a_json_form_is_refused_with_awss_message(value: object, message: str) -> None:
    with pytest.raises(MarshalError) as caught:
        encode(value, ascii_only=True)
    assert str(caught.value) == f"Unable to marshal response: {message}"
    assert caught.value.error_type == "Runtime.MarshalError"


def test_one_object_in_two_places_is_no_circle() -> None:
    shared = [Decimal("1.0")]
    assert text_of({"a": shared, "b": [shared, shared]}) == '{"a": [1.0], "b": [[1.0], [1.0]]}'


def test_a_result_nested_too_deep_is_refused_and_the_process_lives() -> None:
    value: list[object] = []
    for _ in range(200_000):
        value = [value]
    with pytest.raises(MarshalError, match="maximum recursion depth exceeded while encoding a JSON object"):
        encode(value, ascii_only=True)
    while value:  # unwound by hand: freeing it at once would recurse as deep
        value = value.pop()  # type: ignore[assignment]


def test_an_exception_in_a_results_own_method_is_a_marshal_error() -> None:
    class Hostile(OrderedDict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("no")

    with pytest.raises(MarshalError, match="Unable to marshal response: no"):
        encode(Hostile(a=1), ascii_only=True)


def test_an_exit_in_a_results_own_method_is_not_caught() -> None:
    class Leaving(OrderedDict[str, int]):
        def items(self) -> Any:
            sys.exit(3)

    with pytest.raises(SystemExit):
        encode(Leaving(a=1), ascii_only=True)


def test_both_faults_are_codec_faults() -> None:
    assert issubclass(MarshalError, CodecFault)
    assert issubclass(UnmarshalError, CodecFault)


def test_coding_plain_events_and_results_imports_nothing() -> None:
    code = (
        "import sys; from lamplighter.events import decode, encode; before = set(sys.modules);"
        "encode(decode(b'{\"a\": [1, 2.5, null, \"x\"]}'), ascii_only=True); encode(b'raw', ascii_only=True);"
        "print(set(sys.modules) - before, 'json' in sys.modules)"
    )
    command = [sys.executable, "-S", "-I", "-c", f"import sys; sys.path.insert(0, {RUNTIME!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set() False\n"
