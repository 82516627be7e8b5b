"""Logging that is set up when it is first imported, in processes of its own: what a function sees is Lambda's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lamplighter

RUNTIME = Path(lamplighter.__file__).parents[1]
START = """
import sys
from lamplighter.worker.initialise import initialise
handler = initialise("app.handler", logging_late=True)
handler({}, None)
"""


def run(tmp_path: Path, code: str, before: str = "", **environment: str) -> str:
    """What a function's module and handler print."""
    (tmp_path / "app.py").write_text(f"{code}\n")
    done = subprocess.run(
        [sys.executable, "-c", before + START],
        env={"PYTHONPATH": f"{RUNTIME}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b"", done.stderr.decode()
    return done.stdout.decode("latin-1")


HANDLER = "def handler(event, context):\n    pass\n"


def test_a_function_that_does_not_log_never_loads_it(tmp_path: Path) -> None:
    code = "import sys\ndef handler(event, context):\n    print('logging' in sys.modules, len(sys.meta_path))\n"
    plain = "import sys\nprint(len(sys.meta_path))\n"
    base = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, timeout=60, check=True).stdout
    assert run(tmp_path, code) == f"False {int(base) + 1}\n"


@pytest.mark.parametrize("where", ["module", "handler"])
def test_the_root_logger_is_lambdas_when_the_import_returns(tmp_path: Path, where: str) -> None:
    use = "import logging; root = logging.getLogger(); print([type(h).__name__ for h in root.handlers], root.level)"
    code = f"{use}\n{HANDLER}" if where == "module" else f"def handler(event, context):\n    {use}\n"
    assert run(tmp_path, code, AWS_LAMBDA_LOG_LEVEL="DEBUG") == "['LambdaLoggerHandlerWithFrameType'] 10\n"


def test_nothing_of_the_hook_is_left_after_it(tmp_path: Path) -> None:
    code = (
        "import sys\nbefore = len(sys.meta_path)\nimport logging\nprint(before - len(sys.meta_path))\n"
        "print(type(logging.__spec__.loader).__name__, type(logging.__loader__).__name__)\n"
        # As ever: a module that is loaded again starts afresh.
        "import importlib; importlib.reload(logging)\nprint(len(logging.getLogger().handlers))\n" + HANDLER
    )
    assert run(tmp_path, code) == "1\nSourceFileLoader SourceFileLoader\n0\n"


def test_basic_config_finds_it_set_up_as_on_lambda(tmp_path: Path) -> None:
    code = f"import logging\nlogging.basicConfig(level=10, format='mine')\nlogging.info('not shown')\n{HANDLER}"
    assert run(tmp_path, code) == ""


@pytest.mark.parametrize("way", ["import logging.handlers", "from logging import config", "import asyncio"])
def test_every_way_to_import_it_counts(tmp_path: Path, way: str) -> None:
    code = f"{way}\nimport sys\nprint(len(sys.modules['logging'].getLogger().handlers))\n{HANDLER}"
    assert run(tmp_path, code) == "1\n"


def test_a_module_that_was_loaded_before_is_set_up_at_once(tmp_path: Path) -> None:
    code = f"import sys\nprint(len(sys.modules['logging'].getLogger().handlers))\n{HANDLER}"
    assert run(tmp_path, code, before="import logging\n") == "1\n"


def test_a_look_for_the_module_does_not_set_it_up(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\nspec = importlib.util.find_spec('logging')\n"
        "print(spec.name, 'logging' in sys.modules)\n"
        f"import logging\nprint(len(logging.getLogger().handlers))\n{HANDLER}"
    )
    assert run(tmp_path, code) == "logging False\n1\n"


def test_two_threads_that_import_it_at_once_set_it_up_once(tmp_path: Path) -> None:
    code = (
        "import threading\nbarrier = threading.Barrier(4)\nseen = []\n"
        "def use():\n    barrier.wait(20)\n    import logging\n    seen.append(len(logging.getLogger().handlers))\n"
        "def handler(event, context):\n    threads = [threading.Thread(target=use) for _ in range(4)]\n"
        "    [t.start() for t in threads]\n    [t.join(20) for t in threads]\n    print(seen)\n"
    )
    assert run(tmp_path, code) == "[1, 1, 1, 1]\n"


def test_the_level_is_that_of_the_start(tmp_path: Path) -> None:
    code = (
        "import os\nos.environ['AWS_LAMBDA_LOG_LEVEL'] = 'DEBUG'\n"
        f"import logging\nprint(logging.getLogger().level)\n{HANDLER}"
    )
    assert run(tmp_path, code, AWS_LAMBDA_LOG_LEVEL="ERROR") == "40\n"


def test_the_contexts_log_goes_to_the_telemetry_descriptor_though_nobody_logs(tmp_path: Path) -> None:
    code = (
        "from lamplighter.worker.context import FunctionFacts, LambdaContext\n"
        "from lamplighter.worker.event import Event\n"
        "def handler(event, context):\n"
        "    LambdaContext(Event(b'', 'id'), FunctionFacts.read({})).log('line')\n    print('after')\n"
    )
    out = run(tmp_path, code, _LAMBDA_TELEMETRY_LOG_FD="1")
    # A frame's head, of which the time is not known, and the message; print() goes past the frames.
    assert (out[:8], out[16:]) == ("\xa5\x5a\x00\x03\x00\x00\x00\x04", "lineafter\n")
