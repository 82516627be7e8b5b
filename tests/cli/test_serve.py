"""``lamplighter serve``: what the host is asked to run, and what is refused before it is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from lamplighter.cli import main
from lamplighter.function.config import FunctionConfig, HostConfig


class FakeHost(ModuleType):
    """In the place of ``lamplighter.host.server``: remembers what it was asked to run."""

    def __init__(self) -> None:
        super().__init__("lamplighter.host.server")
        self.asked: list[HostConfig] = []
        self.status = 0

    def run(self, config: HostConfig) -> int:
        self.asked.append(config)
        return self.status


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost()
    monkeypatch.setitem(sys.modules, "lamplighter.host.server", fake)
    return fake


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the working directory, named "my orders"."""
    directory = tmp_path / "my orders"
    (directory / "layer").mkdir(parents=True)
    (directory / "event.json").write_text("{}")
    (directory / "lamplighter.toml").write_text('[host]\nreport = "full"\n[functions.mail]\nhandler = "mail.send"\n')
    monkeypatch.chdir(directory)
    return directory


def serve(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["serve", *arguments])


def test_a_handler_alone_is_served_with_lambdas_defaults_under_the_directorys_name(
    host: FakeHost, project: Path
) -> None:
    result = serve("app.handler")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "lamplighter: serving app.handler as function 'my-orders'; --function-name gives another\n"
    assert host.asked == [
        HostConfig(functions=(FunctionConfig(name="my-orders", handler="app.handler", code=str(project)),))
    ]


def test_every_option_arrives_where_it_belongs(host: FakeHost, project: Path) -> None:
    result = serve(
        "app.handler", "--code", "..", "--function-name", "orders", "--memory", "512", "--timeout", "30",
        "--ephemeral-storage", "1024", "--env", "TABLE=orders", "--env", "QUERY=a=b", "--layer", "layer", "--parked",
        "2", "--concurrency", "20", "--queue", "5", "--idle-timeout", "1.5", "--fresh-per-invocation", "--warm-up",
        "event.json", "--listen", "[::1]:0", "--log-format", "json", "--log-level", "debug", "--report", "full",
        "--region", "eu-central-1", "--account", "000000000001",
    )  # fmt: skip
    assert (result.exit_code, result.output) == (0, "")
    assert host.asked == [
        HostConfig(
            functions=(
                FunctionConfig(
                    name="orders",
                    handler="app.handler",
                    code=str(project.parent),
                    layers=(str(project / "layer"),),
                    memory_mb=512,
                    timeout_s=30,
                    ephemeral_storage_mb=1024,
                    environment={"TABLE": "orders", "QUERY": "a=b"},
                    parked=2,
                    concurrency=20,
                    queue=5,
                    idle_timeout_s=1.5,
                    fresh_per_invocation=True,
                    warm_up=(str(project / "event.json"),),
                    log_format="json",
                    log_level="DEBUG",
                ),
            ),
            listen_host="::1",
            listen_port=0,
            report="full",
            region="eu-central-1",
            account="000000000001",
            log_format="json",
        )
    ]


def test_credentials_are_passed_when_asked(host: FakeHost, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert serve("a.b", "--pass-credentials").exit_code == 0
    assert host.asked[0].functions[0].pass_credentials is True


def test_the_shells_variables_are_passed_when_asked(host: FakeHost, project: Path) -> None:
    assert serve("a.b", "--pass-environment").exit_code == 0
    assert serve("a.b").exit_code == 0
    assert [asked.functions[0].pass_environment for asked in host.asked] == [True, False]


def test_the_hosts_exit_status_is_the_commands(host: FakeHost, project: Path) -> None:
    host.status = 3
    assert serve("app.handler").exit_code == 3


def test_a_file_is_served_and_the_hosts_options_win_over_it(host: FakeHost, project: Path) -> None:
    assert serve("--config", "lamplighter.toml", "--listen", "127.0.0.1:0").exit_code == 0
    assert host.asked == [
        HostConfig(
            functions=(FunctionConfig(name="mail", handler="mail.send", code=str(project)),),
            listen_port=0,
            report="full",
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Error: Give a HANDLER such as app.handler, or --config FILE.\n"),
        (
            ["a.b", "--config", "lamplighter.toml"],
            "Error: HANDLER (a.b) and --config (lamplighter.toml) exclude each other.\n",
        ),
        (
            ["--config", "lamplighter.toml", "--memory", "128", "--env", "A=b"],
            (
                "Error: --env, --memory and --config exclude each other: say it in lamplighter.toml. "
                "Only --account, --allow-unisolated, --listen, --region, --report, --require, --tmp-store may be given "
                "beside it.\n"
            ),
        ),
        (["--config", "none.toml"], "lamplighter: none.toml: cannot be read: No such file or directory\n"),
        (["a.b", "--memory", "64"], "Error: Invalid value for '--memory': 64 is not in the range 128<=x<=10240.\n"),
        (["a.b", "--timeout", "901"], "Error: Invalid value for '--timeout': 901 is not in the range 1<=x<=900.\n"),
        (["a.b", "--env", "KEY"], "Error: Invalid value for '--env': 'KEY' has no '='; allowed: KEY=VALUE.\n"),
        (
            ["a.b", "--env", "KEY=a", "--env", "KEY=b"],
            "Error: Invalid value for '--env': 'KEY' is given twice; allowed: once.\n",
        ),
        (
            ["a.b", "--function-name", "f", "--code", "/no/such", "--env", "_HANDLER=x"],
            (
                "lamplighter: function 'f': code is '/no/such'; allowed: a directory that exists\n"
                "lamplighter: function 'f': environment has the key '_HANDLER'; "
                "allowed: any key that Lambda does not reserve for itself\n"
            ),
        ),
        (
            ["a.b", "--function-name", "f", "--listen", "9000"],
            (
                "lamplighter: host: listen is '9000'; allowed: HOST:PORT with a port from 0 to 65535, "
                "such as 127.0.0.1:9000 or [::1]:9000\n"
            ),
        ),
        (
            ["a.b", "--function-name", "f", "--idle-timeout", "nan"],
            "lamplighter: function 'f': idle_timeout_s is nan; allowed: a number above 0 (seconds)\n",
        ),
    ],
)
def test_what_cannot_be_served_ends_with_2_and_a_clear_text_before_the_host_is_asked(
    host: FakeHost, project: Path, arguments: list[str], text: str
) -> None:
    result = serve(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.endswith(text)
    assert host.asked == []


def test_help_shows_every_option_under_a_heading_with_its_range_and_default() -> None:
    result = CliRunner().invoke(main, ["serve", "--help"], terminal_width=100)
    shown = " ".join(result.stdout.split())  # lines are wrapped to the terminal's width
    for heading in ("Function:", "Limits:", "Environments:", "Host:", "Logs:", "Examples:"):
        assert f"\n{heading}\n" in result.stdout or f"  {heading}\n" in result.stdout
    for text in ("[default: 128; 128<=x<=10240]", "[default: 3; 1<=x<=900]", "[default: 512; 512<=x<=10240]"):
        assert text in shown
    for parameter in main.get_command(None, "serve").params:  # type: ignore[arg-type, union-attr]
        assert parameter.name == "handler" or parameter.opts[0] in result.stdout
