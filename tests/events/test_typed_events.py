"""Handlers that name the type of their event."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

from lamplighter.events import TypedHandlerFault, UnmarshalError, ValidationError, decode, encode, reader_of, typed

RUNTIME = Path(sys.modules["lamplighter.events"].__file__ or "").parents[2]


class Order(msgspec.Struct):
    id: str
    amount: int = 0


@dataclasses.dataclass
class OrderClass:
    id: str
    amount: int = 0


class OrderDict(TypedDict):
    id: str
    amount: int


class OrderTuple(NamedTuple):
    id: str
    amount: int


class Positive(msgspec.Struct):
    amount: Annotated[int, msgspec.Meta(gt=0)]


def read(handler: Any, body: bytes) -> Any:
    return reader_of(handler, decode)(body)


@pytest.mark.parametrize("event_type", [Order, OrderClass])
def test_an_event_becomes_what_the_handler_names_and_the_rest_is_skipped(event_type: Any) -> None:
    def handler(event: Any, context: object) -> str:
        return event.id

    handler.__annotations__["event"] = event_type
    assert typed(handler) is handler
    event = read(handler, b'{"id": "a", "unnamed": [1, {"x": null}], "amount": 7}')
    assert event == event_type("a", 7)
    assert handler(event, None) == "a"


def test_typed_dicts_and_named_tuples_too() -> None:
    assert read(typed(OrderDict)(print), b'{"id": "a", "amount": 1, "x": 2}') == {"id": "a", "amount": 1}
    assert read(typed(OrderTuple)(print.__call__), b'["a", 1]') == OrderTuple("a", 1)
    assert read(typed(list[Order])(lambda event, context: None), b'[{"id": "a"}]') == [Order("a")]


def test_the_decorator_reads_annotations_that_are_strings_and_names_what_comes_later() -> None:
    space: dict[str, Any] = {"__name__": "a_module", "typed": typed, "msgspec": msgspec}
    source = "@typed\ndef handler(event: 'Later', context): return event\nclass Later(msgspec.Struct):\n    x: int\n"
    exec(source, space)
    assert read(space["handler"], b'{"x": 3}') == space["Later"](3)


def test_callable_objects_methods_partials_and_wrapped_handlers() -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self, event: Order, context: object) -> str:
            return "object " + event.id

    class Service:
        def handle(self, event: Order, context: object) -> str:
            return "method " + event.id

    def plain(prefix: str, event: Order, context: object) -> str:
        return prefix + event.id

    def logged(handler: Any) -> Any:
        @functools.wraps(handler)
        def wrapper(event: Any, context: Any) -> Any:
            return "wrapped " + handler(event, context)

        return wrapper

    @logged
    @typed
    def decorated(event: Order, context: object) -> str:
        return event.id

    handlers = [
        typed(Slotted()),
        typed(Service().handle),
        typed(Order)(functools.partial(plain, "partial ")),
        decorated,
    ]
    said = [handler(read(handler, b'{"id": "a"}'), None) for handler in handlers]
    assert said == ["object a", "method a", "partial a", "wrapped a"]


def test_constraints_of_the_annotation_hold() -> None:
    @typed
    def handler(event: Positive, context: object) -> None: ...

    with pytest.raises(ValidationError, match=r"Expected `int` >= 1 - at `\$.amount`"):
        read(handler, b'{"amount": 0}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"id": 5}', "Expected `str`, got `int` - at `$.id`"),
        (b"{}", "Object missing required field `id`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'\xef\xbb\xbf{"id": 5}', "Expected `str`, got `int` - at `$.id`"),
    ],
)
def test_an_event_of_another_type_is_refused_with_the_place(body: bytes, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(typed(Order)(lambda event, context: None), body)
    assert str(caught.value) == f"Unable to unmarshal input: {message}"
    assert caught.value.error_type == "Function.ValidationError"


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": "a"} x', b'{"id": "\xff"}', b'{"id": "a", "x": NaN}', b"nul"])
def test_what_is_no_json_is_refused_in_the_words_of_all_handlers(body: bytes) -> None:
    with pytest.raises(UnmarshalError) as untyped:
        decode(body)
    with pytest.raises(UnmarshalError) as caught:
        read(typed(Order)(lambda event, context: None), body)
    assert (type(caught.value), str(caught.value)) == (UnmarshalError, str(untyped.value))


def test_what_only_the_client_takes_for_json_is_taken() -> None:
    handler = typed(Order)(lambda event, context: None)
    assert read(handler, b'\xef\xbb\xbf{"id": "a"}') == Order("a")
    assert read(handler, b'{"id": "\\ud800"}') == Order("\ud800")
    nested = typed(dict[str, Any])(lambda event, context: None)
    with pytest.raises(UnmarshalError, match=r"recursion|Expecting|[Dd]ep|nest"):
        read(nested, b'{"x": ' + b"[" * 100_000)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lambda event, context: None", "the event parameter of the handler '<lambda>' has no annotation"),
        ("lambda: None", "the handler '<lambda>' takes no event"),
        ("named('Nowhere')", "the annotation of the handler 'handler' cannot be resolved: name 'Nowhere'"),
        ("named('set.union')", "the handler 'handler' names a type that no event decodes into"),
    ],
)
def test_a_type_that_is_not_found_or_is_none_is_named(source: str, message: str) -> None:
    def named(annotation: str) -> Any:
        def handler(event: Any, context: object) -> None: ...

        handler.__annotations__["event"] = annotation
        handler.__qualname__ = "handler"
        return handler

    handler = typed(eval(source, {"named": named}))
    with pytest.raises(TypedHandlerFault) as caught:
        reader_of(handler, decode)
    assert message in str(caught.value)


def test_other_handlers_are_read_as_ever() -> None:
    for handler in (lambda event, context: None, print, 5, None, functools.partial(print)):
        assert reader_of(handler, decode) is decode


def test_the_reader_is_made_once() -> None:
    handler = typed(Order)(lambda event, context: None)
    assert reader_of(handler, decode) is reader_of(handler, decode)


def test_an_instance_of_a_type_is_a_result_only_where_the_writer_knows_it() -> None:
    assert encode(OrderTuple("a", 1), ascii_only=True) == (b'{"id": "a", "amount": 1}', True)


def _in_a_process(source: str) -> subprocess.CompletedProcess[str]:
    # -S: no site-packages, and so no msgspec.
    code = f"import sys; sys.path.insert(0, {str(RUNTIME)!r})\n{source}"
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_without_msgspec_the_decorator_says_what_to_install() -> None:
    done = _in_a_process("from lamplighter.events import typed\ntyped(lambda event, context: None)")
    assert done.returncode == 1
    assert "ImportError: typed handlers need msgspec, which cannot be imported" in done.stderr
    assert "pip install msgspec" in done.stderr


def test_importing_events_loads_no_msgspec() -> None:
    code = "import sys; import lamplighter.events, lamplighter.events.sources; print('msgspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_a_large_event_costs_what_is_named_of_it() -> None:
    class First(msgspec.Struct):
        first: int

    body = json.dumps({"ignored": [{"deep": list(range(50))} for _ in range(2000)], "first": 1}).encode()
    assert read(typed(First)(lambda event, context: None), body) == First(1)
