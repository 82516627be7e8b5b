"""The decoder: what it learns, what it forgets, what it shares and what never; its faults, its bounds, its dicts."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import random
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lamplighter import _events, events
from lamplighter.events import DecodeError, Decoder
from lamplighter.template import server

OVERHEAD = 300_000
"""What a decoder may hold besides what it has learned: its cache of keys, and the buffers it keeps."""


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def order(number: int, **more: object) -> dict[str, Any]:
    return {"id": f"order-{number}", "region": "eu-central-1", "amount": {"value": number * 1.5, "unit": "EUR"}, **more}


def seen(decoder: Decoder, *bodies: bytes) -> dict[str, int]:
    """What the counters gain while these are decoded, each to what ``json.loads`` makes of it."""
    before = decoder.stats()
    for body in bodies:
        assert decoder.decode(body) == json.loads(body)
    return {name: value - before[name] for name, value in decoder.stats().items()}


# What it learns.


def test_the_first_event_is_learned_and_the_next_of_its_shape_is_a_hit() -> None:
    decoder = Decoder()
    assert seen(decoder, text(order(1))).items() >= {"hits": 0, "misses": 1, "relearns": 0, "shapes": 2}.items()
    assert seen(decoder, text(order(2)), text(order(3))) | {"bytes": 0} == {
        "hits": 2,
        "misses": 0,
        "relearns": 0,
        "shapes": 0,
        "bytes": 0,
    }


def test_of_repeated_records_the_record_is_learned_and_not_how_many_there_are() -> None:
    decoder = Decoder()
    seen(decoder, text({"Records": [order(1)]}))
    gained = seen(decoder, *[text({"Records": [order(n) for n in range(count)]}) for count in (0, 1, 2, 10, 500)])
    assert (gained["hits"], gained["misses"], gained["shapes"]) == (5, 0, 0)


def test_a_key_more_costs_the_object_that_has_it_and_no_other() -> None:
    decoder = Decoder()
    seen(decoder, text({"head": order(1), "tail": order(2)}))
    gained = seen(decoder, text({"head": order(1, note="new"), "tail": order(2)}))
    assert (gained["misses"], gained["relearns"], gained["shapes"]) == (1, 1, 1)
    assert (
        seen(decoder, text({"head": order(3), "tail": order(4)}), text({"head": order(5, note="x"), "tail": order(6)}))[
            "hits"
        ]
        == 2
    )


@pytest.mark.parametrize(
    "other",
    [
        {"b": 2, "a": 1, "c": 3},
        {"a": 1, "b": 2},
        {"a": 1, "b": 2, "c": 3, "d": 4},
        {"z": 0, "a": 1, "b": 2, "c": 3},
        {"a": 1, "x": 2, "c": 3},
        {},
    ],
    ids=["other order", "fewer", "more", "one before", "one between", "none"],
)
def test_another_set_of_keys_is_another_shape_of_the_place_and_both_are_known(other: dict[str, int]) -> None:
    decoder = Decoder()
    one, two = text({"a": 1, "b": 2, "c": 3}), text(other)
    seen(decoder, one, two)
    assert seen(decoder, one, two, two, one, one, two)["hits"] == 6


def test_values_may_change_their_type_within_a_shape() -> None:
    decoder = Decoder()
    values: list[object] = ["text", 1, 2.5, None, True, False, [1, "x"], {"k": 1}, [], {}, "é", 10**30, -1e300]
    seen(decoder, *[text({"a": value, "b": [value, value]}) for value in values])
    assert seen(decoder, *[text({"a": value, "b": [value, value]}) for value in reversed(values)])["misses"] == 0


def test_white_space_makes_another_shape_and_the_same_value() -> None:
    decoder = Decoder()
    value = {"Records": [order(1), order(2)]}
    written = [
        json.dumps(value, indent=indent, separators=style).encode()
        for indent in (None, 1, "\t", "\r\n")
        for style in ((",", ":"), (", ", ": "), (" ,", " :"))
    ]
    seen(decoder, *written, b" \n" + text(value) + b"\t ")
    for body in written:
        for extra in (b" ", b"\n\n", b"\t"):
            for mark in (b":", b",", b"{", b"}", b"]"):
                assert decoder.decode(body.replace(mark, mark + extra)) == value
                assert decoder.decode(body.replace(mark, extra + mark)) == value


def test_the_shapes_used_last_are_kept_and_the_others_forgotten() -> None:
    decoder = Decoder(shapes=2)
    a, b, c = text({"a": 1}), text({"b": 1}), text({"c": 1})
    seen(decoder, a, b, a, c)
    assert decoder.stats()["shapes"] == 2
    assert seen(decoder, a, c, a, c)["hits"] == 4
    assert seen(decoder, b)["misses"] == 1


def test_a_text_of_no_object_is_a_hit() -> None:
    assert seen(Decoder(), b"1", b'"a"', b"[1, [2]]", b"{}", b"[{}, {}]") | {"bytes": 0} == {
        "hits": 5,
        "misses": 0,
        "relearns": 0,
        "shapes": 0,
        "bytes": 0,
    }


def test_a_damaged_event_teaches_nothing_wrong() -> None:
    decoder = Decoder()
    body = text({"Records": [order(1), order(2, note="x")]})
    for end in range(len(body)):
        with pytest.raises(DecodeError):
            decoder.decode(body[:end])
        assert decoder.decode(body) == json.loads(body)


# What it shares, and what never.


def test_equal_strings_of_a_place_are_one_object_and_containers_never_are() -> None:
    decoder = Decoder()
    first, second = (decoder.decode(text({"r": "eu-central-1", "d": {"x": []}, "l": [{}]})) for _ in range(2))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["r"] is second["r"]
    assert first is not second
    assert first["d"] is not second["d"]
    assert first["d"]["x"] is not second["d"]["x"]
    assert first["l"] is not second["l"]
    assert first["l"][0] is not second["l"][0]


def test_what_a_handler_does_to_an_event_does_not_show_in_the_next() -> None:
    decoder = Decoder()
    body = text({"Records": [order(n) for n in range(3)], "flag": True})
    for _ in range(20):
        event: Any = decoder.decode(body)
        assert event == json.loads(body)
        for record in event["Records"]:
            record["amount"].clear()
            record["extra"] = [record]
            record.pop("id")
            for number in range(40):
                record[f"more {number}"] = number
        event["Records"].append(event)
        event |= {"flag": [False], 7: "a key of another kind"}
        del event["Records"]
    assert decoder.stats()["misses"] == 1


def test_keys_are_the_strings_that_code_looks_up_by() -> None:
    decoder = Decoder()
    for _ in range(2):
        event: Any = decoder.decode(b'{"routeKey": {"quite_an_ordinary_key": 1}}')
        assert next(iter(event)) is sys.intern("routeKey")
        assert next(iter(event["routeKey"])) is sys.intern("quite_an_ordinary_key")


def test_strings_that_always_change_are_not_kept() -> None:
    decoder = Decoder()
    bodies = [text({"a": f"{number:0100d}", "b": f"{number:0100d}"}) for number in range(600)]
    seen(decoder, *bodies[:10])
    held = decoder.stats()["bytes"]
    for body in bodies[10:]:
        decoder.decode(body)
        assert decoder.stats()["bytes"] <= held + 2 * 200
    assert decoder.stats()["bytes"] < held + 200


# The dicts.


@pytest.mark.parametrize("known", [False, True], ids=["first sight", "known shape"])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 10, 11, 21, 22, 42, 43, 85, 86, 127, 128, 129, 170, 171, 400, 33_000])
def test_a_dict_is_like_one_that_grew_key_by_key(count: int, known: bool) -> None:
    decoder = Decoder()
    body = text({f"key {number}": number for number in range(count)})
    if known:
        decoder.decode(body)
    ours: Any = decoder.decode(body)
    model: dict[Any, Any] = {}
    for number in range(count):
        model[f"key {number}"] = number
    for both in (lambda d: d, dict, dict.copy, lambda d: {**d}, lambda d: d | {"x": 1}):
        assert list(both(ours).items()) == list(both(model).items())
    for number in random.Random(count).sample(range(count), min(count, 100)):
        assert ours.pop(f"key {number}") == model.pop(f"key {number}") == number
        assert f"key {number}" not in ours
    for number in range(200):
        ours[f"more {number}"] = model[f"more {number}"] = number
    assert ours.setdefault("last", 0) == model.setdefault("last", 0) == 0
    assert ours == model
    assert list(reversed(ours)) == list(reversed(model))
    assert ours.popitem() == model.popitem()
    ours.clear()
    assert ours == {}


@pytest.mark.parametrize("count", [*range(1, 24), 42, 43, 85, 86, 128])
def test_a_dict_takes_as_much_memory_as_one_that_grew_key_by_key(count: int) -> None:
    decoder = Decoder()
    body = text({f"key {number}": number for number in range(count)})
    model: dict[str, int] = {}
    for number in range(count):
        model[f"key {number}"] = number
    assert [sys.getsizeof(decoder.decode(body)) for _ in range(2)] == [sys.getsizeof(model)] * 2


def test_dicts_are_the_garbage_collectors_business_as_those_of_json_are() -> None:
    decoder = Decoder()
    for inner in (1, "text", None, [], {}, [1], {"k": 1}):
        body = text({"a": 1, "b": inner, "c": "x"})
        model = json.loads(body)
        for _ in range(2):
            assert gc.is_tracked(decoder.decode(body)) == gc.is_tracked(model)


def test_cycles_through_decoded_objects_are_collected() -> None:
    decoder = Decoder()

    class Witness:
        pass

    for _ in range(3):
        event: Any = decoder.decode(b'{"a": {"b": [{}]}}')
        event["a"]["b"][0]["event"] = event
        event["a"]["witness"] = Witness()
        del event
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Witness)]


def test_of_equal_keys_the_last_value_counts_at_the_place_of_the_first() -> None:
    decoder = Decoder()
    for body in (b'{"a": 1, "b": 2, "a": 3}', b'{"a": 1, "\\u0061": 2}', b'{"a": {"x": 1}, "a": {"y": 1}, "a": []}'):
        for _ in range(3):
            assert list(decoder.decode(body).items()) == list(json.loads(body).items())  # type: ignore[attr-defined]
        seen(decoder, b'{"a": 1, "b": 2}')


# Its values.


def test_floats_are_rounded_to_the_nearest() -> None:
    chance = random.Random(5)
    written = [
        "0.1",
        "1e22",
        "1e23",
        "9007199254740993",
        "9007199254740993.0",
        "1.7976931348623157e308",
        "1e400",
        "5e-324",
        "2e-324",
        "4.9406564584124654e-324",
        "0.3",
        "123456789012345678e-27",
        "18446744073709551615e27",
        "9999999999999999999e-27",
        "1e-27",
        "0.000000000000000000000000001",
        "6.02214076e23",
        "-0.0",
        "0e5",
        "8.5e-22",
        "36028797018963967e1",
        "9007199254740992.5",
        "9007199254740993.5",
        "45035996273704985e-1",
    ]
    for _ in range(3000):
        bits = chance.getrandbits(64)
        value = struct.unpack("d", struct.pack("Q", bits))[0]
        if math.isfinite(value):
            written.append(repr(value))
        digits = str(chance.getrandbits(chance.randint(1, 72)))
        point = chance.randint(1, len(digits))
        written.append(f"{int(digits[:point])}.{digits[point:] or '0'}e{chance.randint(-50, 50)}")
        written.append(repr(chance.uniform(-1000, 1000)))
        # Half way between two doubles, and next to that.
        half = (chance.getrandbits(53) | 1 << 52) * 2 + 1
        written += [f"{half + more}.0" for more in (-1, 0, 1)] + [f"{half}e{chance.randint(0, 4)}"]
    decoder = Decoder()
    for body in written:
        got, wanted = decoder.decode(body.encode()), float(body)
        assert struct.pack("d", got) == struct.pack("d", wanted), body  # type: ignore[arg-type]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("digit", "0179")
def test_numbers_with_their_point_and_their_end_anywhere(sign: str, digit: str) -> None:
    decoder = Decoder()
    for whole in range(11):
        for fraction in range(11):
            digits = f"{sign}{(digit + '2345678901')[:whole]}.{'0123456789'[-fraction:] if fraction else ''}"
            for number in (digits, digits[:-1], digits.replace(".", "..", 1), digits.replace(".", ".\xff", 1)):
                for end in ("", ",", "]", " ", "e", "e1", "E-2", "e+", ".", ".5", "x", "\xff", "-", ":", "/"):
                    for behind in ("", "]", ", 1]", "       ]", "        ]"):
                        body = f"[{number}{end}{behind}"
                        try:
                            expected = repr(json.loads(body))
                        except ValueError:
                            with pytest.raises(DecodeError):
                                decoder.decode(body.encode("latin-1"))
                        else:
                            assert repr(decoder.decode(body.encode("latin-1"))) == expected


def test_integers_are_exact_however_long() -> None:
    decoder = Decoder()
    for digits in [1, 2, 17, 18, 19, 20, 40, 4000]:
        for number in (10**digits - 1, -(10**digits) + 1, 10 ** (digits - 1)):
            assert decoder.decode(str(number).encode()) == number
    assert decoder.decode(b"-0") == 0
    assert str(decoder.decode(b"-0")) == "0"


def test_an_integer_longer_than_the_interpreter_reads_is_refused() -> None:
    limit = sys.get_int_max_str_digits()
    assert Decoder().decode(b"9" * limit) == 10**limit - 1
    with pytest.raises(DecodeError, match="Integer with more digits") as caught:
        Decoder().decode(b"[1, " + b"9" * (limit + 1) + b"]")
    assert caught.value.pos == 4


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\ud83d"', "\ud83d"),
        (b'"\\ude00\\ud83d"', "\ude00\ud83d"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ud83d😀"),
        (b'"\\ud83d\\u0041"', "\ud83dA"),
        ('"😀é\u20ac"'.encode(), "😀é€"),
        (b'"\\u0000\\u007f\\u0080\\u07ff\\u0800\\uffff"', "\0\x7f\x80\u07ff\u0800\uffff"),
        (b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\/\b\f\n\r\t'),
        (b'"\x7f"', "\x7f"),
    ],
)
def test_strings(body: bytes, value: str) -> None:
    decoder = Decoder()
    for _ in range(2):
        for around in (b"%b", b'{"k": %b}', b"{%b: 1}", b"[%b, 1]"):
            whole = around % body
            assert decoder.decode(whole) == json.loads(whole)
        assert decoder.decode(body) == value


@pytest.mark.parametrize("special", [b'\\"', b"\\u00e9", b"\\n", "é".encode(), "€".encode(), "😀".encode(), b"\\ud800"])
def test_a_special_character_anywhere_in_a_string(special: bytes) -> None:
    decoder = Decoder()
    for size in (*range(70), 200, 300):
        for at in {0, size // 2, size - 1, size} - {-1}:
            body = b'"' + b"x" * at + special + b"y" * (size - at) + b'"'
            assert decoder.decode(body) == json.loads(body)


@pytest.mark.parametrize("widest", ["é", "€", "😀"])
@pytest.mark.parametrize("escape", ["\\n", "\\u0416", "\\ud83d\\ude00", "я"])
def test_plain_runs_of_every_length_around_what_is_wide(widest: str, escape: str) -> None:
    """Runs are written by blocks, but for the last one, which may have no room for a whole block."""
    for before in (0, 1, 7, 15, 16, 17, 31, 32, 33):
        for after in range(36):
            body = f'"{"b" * before}{escape}{"m" * after}{widest}{"a" * after}"'.encode()
            assert Decoder().decode(body) == json.loads(body), body


LETTERS = ["a", "é", "я", "花", "😀", "\\n", "\\u0041", "\\u00e9", "\\u044f", "\\ud83d\\ude00", "\\udc00"]
"""One of each width, in UTF-8 and as an escape, and a surrogate alone."""


@pytest.mark.parametrize("first", LETTERS)
@pytest.mark.parametrize("second", LETTERS)
def test_runs_of_two_kinds_of_characters_of_every_length(first: str, second: str) -> None:
    decoder = Decoder()
    for before in (0, 1, 2, 7, 8, 9, 15, 16, 17, 40):
        for length in range(36):
            # At the end of the text, and with more behind it than is looked at at once.
            for body in (
                f'"{first * before}{second * length}{first}"',
                f'["{first * before}{second * length}", {0:99}]',
            ):
                assert decoder.decode(body.encode()) == json.loads(body)


def test_words_of_any_characters_between_any_others() -> None:
    chance = random.Random(7)
    decoder = Decoder()
    between = ["", " ", ", ", ".", "\\n", '\\"', "\\\\", "0", "abc", "\x7f"]
    for _ in range(3000):
        words = (chance.choice(LETTERS) * chance.randrange(12) for _ in range(chance.randrange(9)))
        body = '"' + "".join(word + chance.choice(between) for word in words) + '"'
        assert decoder.decode(body.encode()) == json.loads(body)


@pytest.mark.parametrize("letter", LETTERS)
def test_strings_longer_than_the_room_there_is(letter: str) -> None:
    for width in (1, 2, 4):
        for size in (1024 // width, 2048 // width):
            for length in range(size - 70, size + 20):
                for body in (
                    f'"{letter}{"x" * length}{letter}"',
                    f'"{"x" * length}{letter}y"',
                    f'"\\n{letter * length}"',
                ):
                    assert Decoder().decode(body.encode()) == json.loads(body)


def test_every_character_is_decoded_by_itself_and_in_a_run() -> None:
    decoder = Decoder()
    for start in range(0, 0x110000, 0x400):
        letters = [chr(number) for number in range(start, start + 0x400)]
        sound = [letter for letter in letters if not "\ud800" <= letter <= "\udfff"]
        for some in (sound, sound[::-1], [letter * 3 + " " for letter in sound]):
            value = "".join(some)
            assert decoder.decode(json.dumps(value, ensure_ascii=False).encode()) == value
        assert decoder.decode(json.dumps(letters).encode()) == letters


UNSOUND = [
    *(b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3\xc3", b"\xdfx", b"\xe0\x80\x80", b"\xe0\x9f\xbf"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xe2\x82", b"\xe2\x82x", b"\xe2x\xac", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98"),
    *(b"\xf0\x9f\x98x", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff"),
]


@pytest.mark.parametrize("before", ["", "a", "é", "я", "花", "😀", "\\n", "\\u044f"])
def test_unsound_utf_8_is_refused_at_its_place_anywhere_in_a_run(before: str) -> None:
    decoder = Decoder()
    for fault in UNSOUND:
        for length in range(20):
            for after in (b"", b'"', b"x" * 20, "я".encode() * 20, "花".encode() * 20):
                body = b'"' + before.encode() * length + fault + after
                with pytest.raises(UnicodeDecodeError) as expected:
                    body.decode()
                with pytest.raises(DecodeError, match="Invalid UTF-8") as caught:
                    decoder.decode(body)
                assert caught.value.pos == expected.value.start


@pytest.mark.parametrize("letter", LETTERS)
def test_a_string_that_is_cut_off_anywhere_is_refused(letter: str) -> None:
    whole = f'"{letter * 20}"'.encode()
    for end in range(1, len(whole)):
        with pytest.raises(DecodeError):
            Decoder().decode(whole[:end])


def test_constants_that_are_no_json_are_taken_as_json_loads_takes_them_or_refused() -> None:
    body = b'{"a": [NaN, Infinity, -Infinity]}'
    assert repr(Decoder().decode(body)) == repr(json.loads(body))
    for name, at in ((b"NaN", 3), (b"Infinity", 3), (b"-Infinity", 3)):
        with pytest.raises(DecodeError, match="JSON has no NaN or Infinity") as caught:
            Decoder(constants=False).decode(b"[1," + name + b"]")
        assert caught.value.pos == at


# What it is given.


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda body: memoryview(bytearray(body))])
def test_bytes_of_every_kind(kind: Any) -> None:
    decoder = Decoder()
    for number in range(3):
        data = kind(text(order(number)))
        assert decoder.decode(data) == order(number)
        if isinstance(data, bytearray):
            data.extend(b" ")  # nothing holds on to it


def test_a_byte_order_mark_is_passed_over() -> None:
    assert Decoder().decode(b"\xef\xbb\xbf {}") == {}


def test_what_is_no_bytes_is_a_type_error() -> None:
    for wrong in ("{}", 1, None, [1]):
        with pytest.raises(TypeError, match=r"decode\(\) takes bytes, bytearray or memoryview, not "):
            Decoder().decode(wrong)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        Decoder().decode(memoryview(b"{ } ")[::2])


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"shapes": 0}, {"shapes": 256}, {"memory": -1}):
        with pytest.raises(ValueError, match="must be"):
            Decoder(**wrong)
    with pytest.raises(TypeError):
        Decoder(8)  # type: ignore[misc]


def test_a_fault_has_its_place_and_its_reason() -> None:
    decoder = Decoder()
    body = '{\n "é": [1,\n  x]}'.encode()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^Expecting value: line 3 column 3 \(byte 15\)$") as caught:
            decoder.decode(body)
        assert isinstance(caught.value, DecodeError)
        fault = caught.value
        assert (fault.msg, fault.pos, fault.lineno, fault.colno) == ("Expecting value", 15, 3, 3)


@pytest.mark.parametrize(
    ("body", "reason", "at"),
    [
        (b"", "Expecting value", 0),
        (b'{"a"', "Expecting ':' delimiter", 4),
        (b'{"a":1', "Expecting ',' delimiter", 6),
        (b'{"a":1,}', "Expecting property name enclosed in double quotes", 7),
        (b"[1 2]", "Expecting ',' delimiter", 3),
        (b"[] []", "Extra data", 3),
        (b'["ab', "Unterminated string starting at", 1),
        (b'"\x1f"', "Invalid control character at", 1),
        (b'"\\x"', "Invalid \\escape", 1),
        (b'"\\u12g4"', "Invalid \\uXXXX escape", 1),
        (b'"a\xc3"', "Invalid UTF-8", 2),
        (b'"\xed\xa0\x80"', "Invalid UTF-8", 1),
        (b'{"\xff": 1}', "Invalid UTF-8", 2),
        (b"[" * 1025, "Nested deeper than 1024", 1024),
    ],
)
def test_each_fault_is_named(body: bytes, reason: str, at: int) -> None:
    with pytest.raises(DecodeError) as caught:
        Decoder().decode(body)
    assert (caught.value.msg, caught.value.pos) == (reason, at)


# Its bounds.


def test_nesting_has_a_limit_and_reaching_it_takes_little_of_a_threads_stack() -> None:
    outcomes: list[object] = []

    def decode_deep() -> None:
        decoder = Decoder()
        for opened, closed, levels in ((b"[", b"]", 1024), (b'{"a":', b"}", 1024), (b'[{"a":', b"}]", 512)):
            for _ in range(3):
                decoder.decode(opened * levels + b"1" + closed * levels)
                with contextlib.suppress(DecodeError):
                    outcomes.append(decoder.decode(opened * (levels + 1) + b"1" + closed * (levels + 1)))
        outcomes.append("done")

    before = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=decode_deep)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(60)
    assert outcomes == ["done"]


def flood(seed: int) -> Iterator[bytes]:
    """Documents no two of which have a key in common."""
    chance = random.Random(seed)
    while True:
        names = iter([f"{chance.getrandbits(80):x}" for _ in range(8)])
        yield text({next(names): {next(names): [{next(names): next(names), next(names): 1}]}, next(names): "v"})


def test_a_flood_of_shapes_stays_within_the_bound_and_leaves_the_known_ones_known() -> None:
    decoder = Decoder(memory=50_000)
    mine = text({"Records": [order(1)]})
    seen(decoder, mine, mine)
    for number, body in enumerate(flood(1)):
        decoder.decode(body)
        if number % 4 == 0:
            assert decoder.decode(mine) == json.loads(mine)
        assert decoder.stats()["bytes"] <= 50_000 + OVERHEAD
        if number == 3000:
            break
    assert decoder.stats()["relearns"] < 50
    assert seen(decoder, mine)["hits"] == 1


def test_in_a_flood_a_shape_that_comes_again_is_learned_all_the_same() -> None:
    decoder = Decoder()
    junk = flood(2)
    for _ in range(200):
        decoder.decode(next(junk))
    mine = [text({"Records": [order(number)]}) for number in range(8)]
    for body in mine[:6]:
        decoder.decode(body)
        decoder.decode(next(junk))
    assert seen(decoder, *mine[6:])["hits"] == 2


def test_when_there_is_no_more_room_all_is_forgotten_and_learned_anew() -> None:
    decoder = Decoder(memory=8_000)
    for body in [text({"kind": {f"{kind} {number}": "x" * 60 for number in range(9)}}) for kind in range(300)]:
        for _ in range(3):
            decoder.decode(body)
            assert decoder.stats()["bytes"] <= 8_000 + OVERHEAD
    mine = text({"a": {"b": 1}})
    for _ in range(100):
        decoder.decode(mine)
    assert seen(decoder, mine)["hits"] == 1


def test_without_memory_nothing_is_learned_and_everything_decoded() -> None:
    decoder = Decoder(memory=0)
    assert seen(decoder, *[text({"Records": [order(number)]}) for number in range(200)])["misses"] == 200
    assert decoder.stats()["shapes"] == 0


def test_objects_too_large_to_learn_are_decoded() -> None:
    decoder = Decoder()
    many = text({f"key {number}": number for number in range(500)})
    long = text({"k" * 1_000: {"inner": 1}})
    wide = b'{"a":' + b" " * 1_000 + b'{"b": 1}' + b" " * 1_000 + b"}"
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    for body in (many, long, wide, deep) * 80:
        assert decoder.decode(body) == json.loads(body)
        mine = text(order(1))
        decoder.decode(mine)
    assert seen(decoder, mine)["hits"] == 1
    assert decoder.stats()["bytes"] < OVERHEAD + (1 << 20)


def test_what_a_large_event_needed_is_given_back() -> None:
    decoder = Decoder()
    held = decoder.stats()["bytes"]
    large = text({"numbers": list(range(400_000)), "escaped": "\n" * 1_000_000, "flat": "x" * 2_000_000})
    assert decoder.decode(large) == json.loads(large)
    assert decoder.stats()["bytes"] < held + OVERHEAD


def test_objects_that_differ_in_white_space_at_every_key_are_decoded_and_bounded() -> None:
    chance = random.Random(3)
    decoder = Decoder()
    for _ in range(300):
        pairs = [
            f'{chance.choice(["", " "])}"k{n}"{chance.choice(["", " "])}:{chance.choice(["", " "])}{n}'
            for n in range(60)
        ]
        body = ("{" + ",".join(pairs) + "}").encode()
        assert decoder.decode(body) == {f"k{n}": n for n in range(60)}
    assert decoder.stats()["bytes"] < OVERHEAD + (1 << 20)


def test_nothing_leaks() -> None:
    good = text({"Records": [order(number, note=["é", 1.5, None, {}]) for number in range(5)], "a": {"b": "c"}})
    bad = [good[:-1], good[:50], good.replace(b"1.5", b"x", 1), b'{"a": 1, "a": [], "b": \xff}', b"[" * 2000]

    def decode_all() -> int:
        decoder = Decoder()
        junk = flood(4)
        for _ in range(60):
            decoder.decode(good)
            decoder.decode(next(junk))
            decoder.decode(b'{"a": {"x": 1}, "b": 2, "a": {"y": []}}')
            for body in bad:
                with pytest.raises(DecodeError):
                    decoder.decode(body)
        del decoder
        gc.collect()
        return sys.getallocatedblocks()

    decode_all()
    counts = [decode_all() for _ in range(6)]
    assert counts[-1] - counts[0] < 60, counts  # one leaked object a decode would be hundreds each time


# Threads, finalizers, forks.


def test_one_decoder_serves_many_threads() -> None:
    decoder = Decoder()
    wrong: list[object] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(400):
            body = text({"Records": [order(chance.randrange(9), **({"note": seed} if chance.random() < 0.3 else {}))]})
            if decoder.decode(body) != json.loads(body):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    stats = decoder.stats()
    assert stats["hits"] + stats["misses"] == 1600


def test_a_finalizer_may_use_the_decoder_in_the_midst_of_a_decode() -> None:
    decoder = Decoder()
    body = text({"Records": [order(number) for number in range(50)]})
    decoded = []

    class Last:
        def __del__(self) -> None:
            decoded.append(decoder.decode(b'{"Records": [{"other": {"id": 1}}]}'))

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(20):
            circle: list[object] = [Last()]
            circle.append(circle)
            del circle
            assert decoder.decode(body) == json.loads(body)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert decoded == [{"Records": [{"other": {"id": 1}}]}] * 20


def test_what_was_learned_before_a_fork_is_known_after_it() -> None:
    decoder = Decoder()
    decoder.decode(text({"Records": [order(1)]}))
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            gained = seen(decoder, text({"Records": [order(2), order(3)]}))
            status = 0 if (gained["hits"], gained["misses"], gained["shapes"]) == (1, 0, 0) else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# Where it stands.


def test_the_worker_decodes_by_it_and_in_the_words_of_aws() -> None:
    assert events.decode(b'{"a": [1, "x"]}') == {"a": [1, "x"]}
    for body in (b'{"a": NaN}', b"[Infinity]"):
        with pytest.raises(events.UnmarshalError, match="Unable to unmarshal input: Expecting value: line 1 column"):
            events.decode(body)


def test_a_rehearsal_does_not_stand_in_the_way_of_the_first_event() -> None:
    from lamplighter.events import codec

    decoder: Decoder = codec._decode.__self__  # type: ignore[attr-defined]
    server.rehearse()
    mine = text({"rehearsed": [order(1)]})
    assert seen(decoder, mine)["misses"] == 1
    assert seen(decoder, mine)["hits"] == 1


def test_here_dicts_are_built_directly() -> None:
    if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 14):
        pytest.skip("an interpreter whose dicts are not known")
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or hasattr(sys, "gettotalrefcount"):
        pytest.skip("free-threaded and debug builds take the public way")
    assert _events.layout == "direct"
