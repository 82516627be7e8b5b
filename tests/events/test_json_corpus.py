"""Every text of the corpus, decoded by a decoder that has seen nothing and by decoders that know its surroundings.

``json.loads`` is the judge: of the value to the last bit, type and order of keys, and of whether there is one.
"""

from __future__ import annotations

import pytest
from tests.events.corpus import CASES, Case

from judging import Refused, expected, found, judge
from lamplighter.events import Decoder

STAND_INS = (
    b"null",
    b"1",
    b"1.5",
    b'"text"',
    b"[]",
    b"{}",
    b"true",
    b'{"a":1}',
    b'["a",{"a":1}]',
    b'"\\n"',
    b'"\xc3\xa9"',
)
AROUND = b'{"before":"x","case":%s,"after":[true,{"id":"%d","case":%s}],"last":0}'


def around(body: bytes, number: int) -> bytes:
    return AROUND % (body, number, body)


def named(case: Case) -> str:
    return case.name


def test_there_are_hundreds_of_cases_and_the_judge_agrees_with_their_names() -> None:
    assert len({case.body for case in CASES}) > 700
    assert [case.name for case in CASES if case.verdict == "y" and isinstance(expected(case.body), Refused)] == []
    assert [case.name for case in CASES if case.verdict == "n" and not isinstance(expected(case.body), Refused)] == []


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_decoder_that_has_seen_nothing(case: Case) -> None:
    judge(Decoder().decode, case.body)
    judge(Decoder().decode, around(case.body, 1))


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_decoder_that_knows_the_shape_around_the_case(case: Case) -> None:
    decoder = Decoder()
    for number in range(3):
        for stand_in in STAND_INS:
            judge(decoder.decode, around(stand_in, number))
    for number in range(3):
        judge(decoder.decode, around(case.body, number))
    judge(decoder.decode, around(b'"text"', 4))


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_decoder_that_knows_the_case_itself(case: Case) -> None:
    decoder = Decoder()
    for _ in range(4):
        judge(decoder.decode, case.body)
        judge(decoder.decode, around(case.body, 1))


def test_one_decoder_for_all_of_them_twice() -> None:
    decoder = Decoder()
    for case in CASES * 2:
        judge(decoder.decode, case.body)
        judge(decoder.decode, around(case.body, 1))


def test_constants_are_refused_where_that_was_asked_for() -> None:
    decoder = Decoder(constants=False)
    for case in CASES:
        constant = case.name.startswith("y_constant")
        assert isinstance(found(decoder.decode, case.body), Refused) == (
            constant or isinstance(expected(case.body), Refused)
        ), case.name
        judge(decoder.decode, b'{"NaN":"Infinity","-Infinity":["NaN"]}')


def test_a_fault_is_an_error_with_its_position_and_reason() -> None:
    decoder = Decoder()
    for case in CASES:
        value = found(decoder.decode, case.body)
        if isinstance(value, Refused) and hasattr(value.reason, "pos"):
            assert isinstance(value.reason, ValueError)
            assert 0 <= value.reason.pos <= len(case.body), case.name
            assert value.reason.msg in str(value.reason)  # type: ignore[attr-defined]
            assert f"(byte {value.reason.pos})" in str(value.reason)
    positions = {b"": 0, b"[1,x]": 3, b'{"a":1,}': None, b'["ab\x01"]': 4, b"[1]x": 3, b'"\\q"': None, b'["\xff"]': 2}
    for body, position in positions.items():
        with pytest.raises(ValueError) as caught:
            decoder.decode(body)
        assert position is None or caught.value.pos == position  # type: ignore[attr-defined]
