"""What a function's configuration may hold, and what is said about one that may not be."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.function.config import ConfigError, FunctionConfig, function_config, host_config, legal_name
from lamplighter.function.limits import (
    CONCURRENCY,
    EPHEMERAL_STORAGE_MB,
    HANDLER_PATTERN,
    MEMORY_MB,
    QUEUE,
    RESERVED_KEYS,
    TIMEOUT_S,
    Range,
)

HERE = Path(__file__).parent

RANGES = {
    "memory_mb": MEMORY_MB,
    "timeout_s": TIMEOUT_S,
    "ephemeral_storage_mb": EPHEMERAL_STORAGE_MB,
    "concurrency": CONCURRENCY,
    "queue": QUEUE,
}


def make(**fields: object) -> FunctionConfig:
    return function_config(**{"handler": "app.handler", "code": HERE, **fields})


def violations(**fields: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make(**fields)
    assert str(caught.value) == "\n".join(caught.value.violations)
    return caught.value.violations


def test_a_handler_and_a_directory_are_enough_and_the_rest_is_as_lambda_has_it() -> None:
    assert make() == FunctionConfig(
        name="function",
        handler="app.handler",
        code=str(HERE),
        layers=(),
        memory_mb=128,
        timeout_s=3,
        ephemeral_storage_mb=512,
        environment={},
        parked=1,
        concurrency=100,
        queue=0,
        idle_timeout_s=300.0,
        fresh_per_invocation=False,
        warm_up=(),
        log_format="text",
        log_level="",
        pass_credentials=False,
        pass_environment=False,
    )


def test_the_ranges_are_the_ones_lambda_documents() -> None:
    assert (MEMORY_MB.low, MEMORY_MB.high) == (128, 10_240)
    assert (TIMEOUT_S.low, TIMEOUT_S.high) == (1, 900)
    assert (EPHEMERAL_STORAGE_MB.low, EPHEMERAL_STORAGE_MB.high) == (512, 10_240)


def test_a_configuration_cannot_be_changed_once_made() -> None:
    with pytest.raises(AttributeError):
        make().memory_mb = 256  # type: ignore[misc]


def test_the_struct_itself_refuses_unknown_fields_when_decoded() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `memory`"):
        msgspec.convert({"handler": "a.b", "code": "/", "memory": 1}, FunctionConfig)


@pytest.mark.parametrize("field", RANGES)
@given(data=st.data())
def test_every_whole_number_inside_a_range_is_kept(field: str, data: st.DataObject) -> None:
    allowed = RANGES[field]
    value = data.draw(st.integers(allowed.low, allowed.high))
    assert getattr(make(**{field: value}), field) == value


@pytest.mark.parametrize("field", RANGES)
@given(data=st.data())
def test_every_whole_number_outside_a_range_is_refused_with_the_range(field: str, data: st.DataObject) -> None:
    allowed: Range = RANGES[field]
    value = data.draw(st.integers(max_value=allowed.low - 1) | st.integers(min_value=allowed.high + 1))
    (text,) = violations(**{field: value, **({} if field == "concurrency" else {"parked": 0})})
    assert text.startswith(f"function 'function': {field} is ")
    assert f"allowed: a whole number from {allowed.low} to {allowed.high} ({allowed.unit})" in text


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_parked_environments_are_at_most_as_many_as_the_concurrency(concurrency: int, parked: int) -> None:
    if parked <= concurrency:
        assert make(concurrency=concurrency, parked=parked).parked == parked
    else:
        assert violations(concurrency=concurrency, parked=parked) == (
            (
                f"function 'function': parked is {parked}; allowed: a whole number from 0 to {concurrency} "
                "(environments, no more than concurrency)"
            ),
        )


@given(st.from_regex(r"\A[a-zA-Z0-9-_]{1,64}\Z"))
def test_every_legal_name_is_kept(name: str) -> None:
    assert make(name=name).name == name


@given(st.text().filter(lambda text: not re.fullmatch("[a-zA-Z0-9_-]{1,64}", text)))
def test_every_other_name_is_refused(name: str) -> None:
    (text,) = violations(name=name)
    assert text.endswith("; allowed: 1 to 64 letters, digits, hyphens and underscores")


@given(st.from_regex(HANDLER_PATTERN, fullmatch=True))
def test_any_handler_without_white_space_is_kept_because_lambda_finds_out_at_init(handler: str) -> None:
    assert make(handler=handler).handler == handler


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_any_idle_timeout_above_zero_is_kept(seconds: float) -> None:
    assert make(idle_timeout_s=seconds).idle_timeout_s == seconds


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_is_refused_about_a_variable_never_shows_its_value(key: str, secret: str) -> None:
    hidden = f"hunter2-{secret}-hunter2"
    try:
        assert make(environment={key: hidden}).environment == {key: hidden}
    except ConfigError as fault:
        assert "hunter2" not in str(fault)


WHOLE = "a whole number from"
REFUSED: list[tuple[dict[str, object], str]] = [
    ({"name": ""}, "name is ''; allowed: 1 to 64 letters, digits, hyphens and underscores"),
    (
        {"handler": "app handler"},
        ("handler is 'app handler'; allowed: 1 to 128 characters without white space, such as 'app.handler'"),
    ),
    (
        {"handler": "a" * 129},
        (
            f"handler is '{'a' * 47}...{'a' * 48}'; allowed: 1 to 128 characters without white space, "
            "such as 'app.handler'"
        ),
    ),
    ({"handler": None}, "handler is None; allowed: 1 to 128 characters without white space, such as 'app.handler'"),
    (
        {"handler": "app.handler\n"},
        ("handler is 'app.handler\\n'; allowed: 1 to 128 characters without white space, such as 'app.handler'"),
    ),
    ({"code": "/no/such"}, "code is '/no/such'; allowed: a directory that exists"),
    ({"code": __file__}, f"code is {__file__!r}; allowed: a directory that exists"),
    ({"code": 3}, "code is 3; allowed: a directory that exists"),
    ({"code": ""}, "code is ''; allowed: a directory that exists"),
    ({"code": "a\0b"}, "code is 'a\\x00b'; allowed: a directory that exists"),
    ({"layers": "/"}, "layers is '/'; allowed: a list of directories"),
    ({"layers": ["/"] * 6}, "layers has 6 entries; allowed: at most 5"),
    ({"layers": ["/", "/no/such"]}, "layers is '/no/such'; allowed: a directory that exists"),
    ({"memory_mb": 127}, f"memory_mb is 127; allowed: {WHOLE} 128 to 10240 (MB)"),
    ({"memory_mb": "128"}, f"memory_mb is '128'; allowed: {WHOLE} 128 to 10240 (MB)"),
    ({"memory_mb": 512.0}, f"memory_mb is 512.0; allowed: {WHOLE} 128 to 10240 (MB)"),
    ({"timeout_s": 901}, f"timeout_s is 901; allowed: {WHOLE} 1 to 900 (seconds)"),
    ({"timeout_s": True}, f"timeout_s is True; allowed: {WHOLE} 1 to 900 (seconds)"),
    ({"ephemeral_storage_mb": 511}, f"ephemeral_storage_mb is 511; allowed: {WHOLE} 512 to 10240 (MB)"),
    ({"concurrency": 0, "parked": 0}, f"concurrency is 0; allowed: {WHOLE} 1 to 10000 (environments)"),
    ({"parked": -1}, f"parked is -1; allowed: {WHOLE} 0 to 100 (environments, no more than concurrency)"),
    ({"queue": 100_001}, f"queue is 100001; allowed: {WHOLE} 0 to 100000 (invocations)"),
    ({"idle_timeout_s": 0}, "idle_timeout_s is 0; allowed: a number above 0 (seconds)"),
    ({"idle_timeout_s": float("nan")}, "idle_timeout_s is nan; allowed: a number above 0 (seconds)"),
    ({"idle_timeout_s": float("inf")}, "idle_timeout_s is inf; allowed: a number above 0 (seconds)"),
    ({"idle_timeout_s": True}, "idle_timeout_s is True; allowed: a number above 0 (seconds)"),
    ({"fresh_per_invocation": 1}, "fresh_per_invocation is 1; allowed: true or false"),
    ({"warm_up": "event.json"}, "warm_up is 'event.json'; allowed: a list of event files"),
    (
        {"warm_up": ["/no/such.json"]},
        (
            "warm_up is '/no/such.json', which cannot be read (No such file or directory); "
            "allowed: a file that holds one JSON event"
        ),
    ),
    (
        {"warm_up": ["/"]},
        ("warm_up is '/', which cannot be read (Is a directory); allowed: a file that holds one JSON event"),
    ),
    ({"log_format": "JSON"}, "log_format is 'JSON'; allowed: 'text' or 'json'"),
    (
        {"log_level": "WARNING"},
        ("log_level is 'WARNING'; allowed: '' or 'TRACE' or 'DEBUG' or 'INFO' or 'WARN' or 'ERROR' or 'FATAL'"),
    ),
    ({"environment": ["A=1"]}, "environment is ['A=1']; allowed: a table of names and strings"),
    (
        {"environment": {"A": "1"}},
        ("environment has the key 'A'; allowed: a letter followed by at least one letter, digit or underscore"),
    ),
    (
        {"environment": {"_KEY": "1"}},
        ("environment has the key '_KEY'; allowed: a letter followed by at least one letter, digit or underscore"),
    ),
    ({"environment": {"PORT": 80}}, "environment has a value of type int for 'PORT'; allowed: a string"),
    (
        {"environment": {"KEY": "a\0b"}},
        "environment has a value for 'KEY' that is not text; allowed: UTF-8 without NUL",
    ),
    (
        {"environment": {"KEY": "\udc80"}},
        ("environment has a value for 'KEY' that is not text; allowed: UTF-8 without NUL"),
    ),
    ({"memory": 512}, "'memory' is not a field; did you mean 'memory_mb'?"),
    ({"timeout": 3}, "'timeout' is not a field; did you mean 'timeout_s'?"),
    ({"Layers": []}, "'Layers' is not a field; did you mean 'layers'?"),
]


@pytest.mark.parametrize(("fields", "text"), REFUSED, ids=[text[:60] for _, text in REFUSED])
def test_a_violation_names_the_function_the_field_the_value_and_what_is_allowed(
    fields: dict[str, object], text: str
) -> None:
    name = fields.get("name", "function")
    assert violations(**fields) == (f"function {name!r}: {text}",)


def test_a_field_that_is_like_no_other_is_refused_with_all_there_are() -> None:
    (text,) = violations(xyz=1)
    assert text == f"function 'function': 'xyz' is not a field; allowed: {', '.join(FunctionConfig.__struct_fields__)}"


def test_a_missing_handler_is_said_to_be_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        function_config(code=HERE)
    assert str(caught.value) == (
        "function 'function': handler is missing; allowed: 1 to 128 characters without white space, "
        "such as 'app.handler'"
    )


def test_all_violations_of_a_function_are_told_at_once() -> None:
    found = violations(name="orders", memory_mb=1, timeout_s=0, code="/no/such", tiemout=4)
    assert [text.split(" is ")[0] for text in found] == [
        "function 'orders': 'tiemout'",
        "function 'orders': code",
        "function 'orders': memory_mb",
        "function 'orders': timeout_s",
    ]


@pytest.mark.parametrize("key", sorted(RESERVED_KEYS))
def test_a_key_that_lambda_reserves_is_refused_by_name(key: str) -> None:
    assert violations(environment={key: "x"}) == (
        (
            f"function 'function': environment has the key {key!r}; "
            "allowed: any key that Lambda does not reserve for itself"
        ),
    )


def test_variables_are_measured_as_one_json_object_without_spaces() -> None:
    fits = 4096 - len('{"KEY":""}')
    assert make(environment={"KEY": "x" * fits}).environment["KEY"] == "x" * fits
    assert violations(environment={"KEY": "x" * (fits + 1)}) == (
        (
            "function 'function': environment is 4097 bytes long, measured as JSON without spaces; "
            "allowed: at most 4096 bytes, names and values together"
        ),
    )


def test_variables_are_measured_in_bytes_not_characters() -> None:
    fits = 4096 - len('{"KEY":""}')
    assert make(environment={"KEY": "é" * (fits // 2)})
    assert "4098 bytes" in violations(environment={"KEY": "é" * (fits // 2 + 1)})[0]


def test_relative_paths_start_at_the_directory_given(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "layer").mkdir()
    (tmp_path / "event.json").write_text('{"a": [1, 2]}')
    config = function_config(tmp_path, handler="a.b", code="src", layers=["layer"], warm_up=("event.json",))
    assert config.code == str(tmp_path / "src")
    assert config.layers == (str(tmp_path / "layer"),)
    assert config.warm_up == (str(tmp_path / "event.json"),)
    assert function_config(tmp_path, handler="a.b").code == str(tmp_path)


def test_relative_paths_start_at_the_working_directory_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    assert make(code="src/../src").code == str(tmp_path / "src")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{'a': 1}", b"NaN", b'"\xff"', b"{} {}", b"[" * 100_000], ids=lambda content: content[:9]
)
def test_a_warm_up_event_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    event = tmp_path / "event.json"
    event.write_bytes(content)
    (text,) = violations(warm_up=[event])
    assert text.startswith(f"function 'function': warm_up is '{event}', which is not JSON (")
    assert text.endswith("); allowed: a file that holds one JSON event")


def test_a_warm_up_event_larger_than_lambda_would_deliver_is_refused(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_bytes(b'"' + b"x" * (6_291_456 - 2) + b'"')
    assert make(warm_up=[event]).warm_up == (str(event),)
    event.write_bytes(b'"' + b"x" * (6_291_456 - 1) + b'"')
    assert violations(warm_up=[event]) == (
        f"function 'function': warm_up is '{event}', which is too large; allowed: at most 6291456 bytes of JSON",
    )


def test_credentials_can_only_be_passed_where_the_host_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert violations(pass_credentials=True) == (
        (
            "function 'function': pass_credentials is True and the host's environment has no AWS_ACCESS_KEY_ID; "
            "allowed: only where both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set"
        ),
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    assert make(pass_credentials=True).pass_credentials is True


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("/srv/orders", "orders"),
        ("/srv/my orders (2)", "my-orders-2"),
        ("/srv/orders/.", "orders"),
        ("/srv/orders/src/..", "orders"),
        ("/srv/été", "t"),
        ("/srv/_private_", "_private_"),
        ("/srv/" + "x" * 80, "x" * 64),
        ("/srv/文", "function"),
        ("/", "function"),
    ],
)
def test_a_directorys_name_becomes_a_legal_function_name(directory: str, name: str) -> None:
    assert legal_name(directory) == name


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_whatever_the_directory_the_name_made_of_it_is_legal(directory: str) -> None:
    assert make(name=legal_name("/srv/" + directory))


def test_a_host_serves_each_name_once() -> None:
    with pytest.raises(ConfigError) as caught:
        host_config([make(name="a"), make(name="b"), make(name="a")], report="brief")
    assert caught.value.violations == (
        "host: report is 'brief'; allowed: 'lambda' or 'full'",
        "host: the function name 'a' is given 2 times; allowed: once",
    )


def test_a_host_without_a_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="host: there is no function to serve; allowed: at least one"):
        host_config([])
