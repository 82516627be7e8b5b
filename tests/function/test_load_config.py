"""Reading ``lamplighter.toml``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.function.config import ConfigError, HostConfig, load_config, parse_listen


def write(directory: Path, text: str) -> Path:
    path = directory / "lamplighter.toml"
    path.write_text(text)
    return path


def violations(path: Path, **host_fields: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, **host_fields)
    return [text.removeprefix(f"{path}: ") for text in caught.value.violations]


def test_a_file_with_everything_in_it_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "layer").mkdir()
    (tmp_path / "event.json").write_text("{}")
    path = write(
        tmp_path,
        """
        [host]
        listen = "[::1]:8080"
        report = "full"
        region = "eu-central-1"
        account = "000000000001"
        log_format = "json"

        [functions.orders]
        handler = "app.handler"
        code = "src"
        layers = ["layer"]
        memory_mb = 512
        timeout_s = 30
        ephemeral_storage_mb = 1024
        environment = { TABLE = "orders" }
        parked = 2
        concurrency = 20
        queue = 50
        idle_timeout_s = 60
        fresh_per_invocation = true
        warm_up = ["event.json"]
        log_format = "json"
        log_level = "DEBUG"

        [functions.mail]
        handler = "mail.send"
        """,
    )
    config = load_config(path)
    orders, mail = config.functions
    assert (config.listen_host, config.listen_port, config.report) == ("::1", 8080, "full")
    assert (config.region, config.account, config.log_format) == ("eu-central-1", "000000000001", "json")
    assert (orders.name, orders.handler, orders.code) == ("orders", "app.handler", str(tmp_path / "src"))
    assert (orders.layers, orders.warm_up) == ((str(tmp_path / "layer"),), (str(tmp_path / "event.json"),))
    assert (orders.memory_mb, orders.timeout_s, orders.ephemeral_storage_mb) == (512, 30, 1024)
    assert (orders.environment, orders.parked, orders.concurrency) == ({"TABLE": "orders"}, 2, 20)
    assert (orders.queue, orders.idle_timeout_s, orders.fresh_per_invocation) == (50, 60.0, True)
    assert (orders.log_format, orders.log_level) == ("json", "DEBUG")
    assert (mail.name, mail.code, mail.memory_mb) == ("mail", str(tmp_path), 128)


def test_a_file_of_one_function_is_served_on_the_loopback_in_us_east_1(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, '[functions.a]\nhandler = "a.b"'))
    assert config == HostConfig(
        functions=config.functions,
        listen_host="127.0.0.1",
        listen_port=9000,
        report="lambda",
        region="us-east-1",
        account="123456789012",
        log_format="text",
    )


def test_relative_paths_start_at_the_file_not_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project" / "src").mkdir(parents=True)
    path = write(tmp_path / "project", '[functions.a]\nhandler = "a.b"\ncode = "src"')
    monkeypatch.chdir(tmp_path)
    config = load_config(path.relative_to(tmp_path))
    assert config.functions[0].code == str(tmp_path / "project" / "src")


def test_what_the_caller_says_about_the_host_takes_the_place_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[host]\nlisten = "nonsense"\nreport = "full"\n[functions.a]\nhandler = "a.b"')
    config = load_config(path, listen="127.0.0.1:0")
    assert (config.listen_port, config.report) == (0, "full")
    assert violations(path, listen="127.0.0.1:0", report="x") == [
        "[host]: report is 'x'; allowed: 'lambda' or 'full'",
    ]


def test_the_violations_of_all_functions_and_of_the_host_are_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [host]
        lisen = "127.0.0.1:1"
        region = "Frankfurt"
        account = 123456789012
        [functions.a]
        handler = "a.b"
        memory_mb = 64
        [functions."b c"]
        timeout = 3
        [functions.d]
        name = "e"
        handler = "a.b"
        """,
    )
    assert violations(path) == [
        "function 'a': memory_mb is 64; allowed: a whole number from 128 to 10240 (MB)",
        "function 'b c': 'timeout' is not a field; did you mean 'timeout_s'?",
        "function 'b c': name is 'b c'; allowed: 1 to 64 letters, digits, hyphens and underscores",
        "function 'b c': handler is missing; allowed: 1 to 128 characters without white space, such as 'app.handler'",
        "function 'd': name stands inside its table; allowed: only in the table's header",
        "[host]: 'lisen' is not a field; did you mean 'listen'?",
        "[host]: region is 'Frankfurt'; allowed: a region's name, such as 'us-east-1'",
        "[host]: account is 123456789012; allowed: a string of 12 digits",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["there is no function to serve; allowed: at least one table [functions.NAME]"]),
        ("functions = 3", ["functions is 3; allowed: a table"]),
        ("functions.a = 3", ["function 'a' is 3; allowed: a table of fields"]),
        ('host = "x"\n[functions.a]\nhandler = "a.b"', ["host is 'x'; allowed: a table"]),
        ('[function.a]\nhandler = "a.b"', ["'function' is not a field; did you mean 'functions'?"]),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, found: list[str]) -> None:
    assert violations(write(tmp_path, text)) == found


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    assert violations(tmp_path / "none.toml") == ["cannot be read: No such file or directory"]


@pytest.mark.parametrize("content", [b"[functions", b"a = \xff"])
def test_a_file_that_is_not_toml_is_said_to_be_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lamplighter.toml"
    path.write_bytes(content)
    (text,) = violations(path)
    assert text.startswith("is not TOML: ")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65_535)),
        ("[::1]:9000", ("::1", 9000)),
        ("[::]:80", ("::", 80)),
    ],
)
def test_an_address_to_listen_at_is_split_into_host_and_port(listen: str, address: tuple[str, int]) -> None:
    assert parse_listen(listen) == address


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "9000",
        ":9000",
        "localhost",
        "localhost:",
        "::1:9000",
        "[::1]",
        "[1.2.3.4]:1",
        "a b:1",
        "a:65536",
        "a:-1",
        "*:1",
        "a:\u0663",
        9000,
    ],
)
def test_any_other_address_is_refused_with_the_form_allowed(tmp_path: Path, listen: object) -> None:
    path = write(tmp_path, '[functions.a]\nhandler = "a.b"')
    assert violations(path, listen=listen) == [
        (
            f"[host]: listen is {listen!r}; allowed: HOST:PORT with a port from 0 to 65535, "
            "such as 127.0.0.1:9000 or [::1]:9000"
        )
    ]


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_address_and_port_can_be_listened_at(address: object, port: int) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)
    assert parse_listen(f"{host}:{port}") == (str(address), port)
