"""The command as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from lamplighter.cli import main


def test_help_lists_the_subcommands() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "serve " in result.stdout
    assert "invoke " in result.stdout


def test_the_module_can_be_run_in_place_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lamplighter", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lamplighter ")


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["invoke", "--help"]])
def test_help_is_answered_without_importing_the_host_or_what_is_slow_to_import(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from lamplighter.cli import main\n"
        f"main({arguments!r}, prog_name='lamplighter', standalone_mode=False)\n"
        "slow = {'lamplighter.host', 'lamplighter.bootstrap', 'msgspec', 'rich', 'http.client', 'asyncio', 'uvloop'}\n"
        "sys.exit(f'imported: {slow & set(sys.modules)}' if slow & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: lamplighter" in done.stdout
