"""The init phase, in a process of its own: it sets up that process. Log bytes are compared in tests/conformance."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lamplighter.worker import channel

RUNTIME = Path(channel.__file__).parents[2]

PROCESS = """
import sys
assert "logging" not in sys.modules
from lamplighter.worker.initialise import initialise, report_init_fault
from lamplighter.worker.handler import InitFault
import lamplighter.worker.loop
assert "logging" not in sys.modules, "the worker imports logging before it is asked to"
try:
    handler = initialise("function.handler")
except InitFault as fault:
    body = report_init_fault(fault)
    print(body.decode(), file=sys.stderr)
    sys.exit(1)
print(handler(None, None))
"""


def run(source: str, folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "function.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-S", *options, "-c", PROCESS],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{RUNTIME}:{folder}", "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_logging_is_set_up_and_output_unbuffered_before_the_handlers_module_runs(
    options: list[str], tmp_path: Path
) -> None:
    source = "import logging, os\nlogging.warning('at init')\nprint('so far', end='')\nos._exit(7)\n"
    done = run(source, tmp_path, *options)
    assert done.returncode == 7
    assert done.stdout.startswith("[WARNING]\t")
    assert done.stdout.endswith("\t\tat init\nso far")


def test_the_handler_comes_back_ready_to_call(tmp_path: Path) -> None:
    assert run("def handler(event, context):\n    return 'called'\n", tmp_path).stdout == "called\n"


def test_an_exception_at_import_is_reported_by_its_class_with_the_import_machinerys_frames(tmp_path: Path) -> None:
    done = run("raise LookupError('no: \u20ac')\n", tmp_path)
    payload = json.loads(done.stderr)
    assert done.returncode == 1
    assert (payload["errorType"], payload["errorMessage"], payload["requestId"]) == ("LookupError", "no: \u20ac", "")
    assert "importlib" in payload["stackTrace"][0]
    assert f'"{tmp_path}/function.py", line 1' in payload["stackTrace"][-1]
    warning = done.stdout.split("\n")[0]
    assert warning.split("\t")[3].startswith("LAMBDA_WARNING: Unhandled exception.")
    assert "[ERROR] LookupError: no: \u20ac" in done.stdout


def test_an_exit_at_import_leaves_with_its_status(tmp_path: Path) -> None:
    done = run("import sys\nsys.exit(4)\n", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")


def test_a_typed_handler_without_msgspec_is_an_import_fault_that_says_what_to_install(tmp_path: Path) -> None:
    source = "from lamplighter.events import typed\n@typed\ndef handler(event: dict, context): ...\n"
    done = run(source, tmp_path)
    assert done.returncode == 1
    assert "Runtime.ImportModuleError" in done.stderr
    assert "Unable to import module 'function': typed handlers need msgspec" in done.stderr


def test_a_typed_handlers_annotation_is_resolved_at_init(tmp_path: Path) -> None:
    msgspec = pytest.importorskip("msgspec")
    places = [str(RUNTIME), str(tmp_path), str(Path(msgspec.__file__).parents[1])]
    source = "from lamplighter.events import typed\n@typed\ndef handler(event: 'Nowhere', context): ...\n"
    done = run(source, tmp_path, PYTHONPATH=":".join(places))
    assert done.returncode == 1
    assert '"errorType": "TypedHandlerFault"' in done.stderr
    assert "the annotation of the handler 'handler' cannot be resolved: name 'Nowhere' is not defined" in done.stderr
