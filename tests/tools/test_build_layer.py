"""The layer: its two archives, and functions that run from one unpacked, as AWS starts them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.bootstrap.pool_api import PoolAPI

from bench import processes

ROOT = Path(__file__).resolve().parents[2]
BARE = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
"""This Python without the virtual environment, in which the package is not installed."""

FUNCTION = """
import sys
import lamplighter, lamplighter._events, lamplighter.worker.loop as loop
def handler(event, context):
    return {"package": lamplighter.__file__, "decoder": lamplighter._events.__file__, "bytecode": loop.__cached__,
            "path": sys.path, "version": list(sys.version_info[:2]), "echo": event}
"""


def _build(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "build_layer.py"), "--out", str(out), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("layer")
    done = _build(out, "--machine", _own(), "--python", BARE)
    assert done.returncode == 0, done.stderr
    return out / f"lamplighter-layer-{_own()}.zip"


def _own() -> str:
    return {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]


@pytest.fixture(scope="module")
def opt(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer unpacked, with the permissions that are in it, read-only as on Lambda."""
    directory = tmp_path_factory.mktemp("opt")
    with zipfile.ZipFile(built) as archive:
        for entry in archive.infolist():
            archive.extract(entry, directory)
            (directory / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
    return directory


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(FUNCTION)
    return tmp_path


def _invoke(command: list[str], task: Path, api: PoolAPI, **environment: str) -> dict[str, Any]:
    """Start ``command`` as Lambda does, run one invocation, and end it; the result."""
    process = subprocess.Popen(
        command,
        cwd=task,
        env={
            "PATH": "/usr/bin:/bin",
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "_HANDLER": "app.handler",
            "LAMBDA_TASK_ROOT": str(task),
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        one = api.invoke(b'{"through": "the layer"}').wait()
        assert one.kind == "response", one.answer
        result: dict[str, Any] = json.loads(one.answer)
        return result
    finally:
        processes.end(process)


def _require_from(result: dict[str, Any], opt: Path, task: Path) -> None:
    assert result["echo"] == {"through": "the layer"}
    assert result["package"] == str(opt / "python" / "lamplighter" / "__init__.py")
    assert Path(result["decoder"]).parent == opt / "python" / "lamplighter"
    assert Path(result["bytecode"]).is_relative_to(opt / "python")
    assert Path(result["bytecode"]).is_file()
    assert result["path"][0] == str(task), "the function's own directory comes first, as on Lambda"


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    assert _build(tmp_path, "--machine", _own(), "--python", BARE).returncode == 0
    assert (tmp_path / built.name).read_bytes() == built.read_bytes()


def test_it_is_small_and_holds_no_more_than_runs_on_aws(built: Path) -> None:
    assert built.stat().st_size < 1_000_000
    with zipfile.ZipFile(built) as archive:
        rooms = {name.split("/")[2] for name in archive.namelist() if name.count("/") > 2}
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert rooms == {"bootstrap", "worker", "template", "events", "__pycache__"}
    assert modes["bootstrap"] == modes["lamplighter"] == stat.S_IFREG | 0o755


def test_the_layer_for_the_other_machine_has_that_machines_extensions(tmp_path: Path) -> None:
    other = {"x86_64": ("arm64", "aarch64", 183), "arm64": ("x86_64", "x86_64", 62)}[_own()]
    if shutil.which(f"{other[1]}-linux-gnu-gcc") is None:
        pytest.skip(f"no cross compiler for {other[0]}")
    done = _build(tmp_path, "--machine", other[0], "--python", BARE)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / f"lamplighter-layer-{other[0]}.zip") as archive:
        heads = {name: archive.read(name)[:20] for name in archive.namelist() if name.endswith(".so")}
    assert len(heads) == 3
    for name, head in heads.items():
        assert name.endswith(f"-{other[1]}-linux-gnu.so")
        assert head[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", head, 18) == (other[2],)


def test_the_executable_bootstrap_runs_a_function_with_a_python_that_was_brought(opt: Path, task: Path) -> None:
    with PoolAPI(1) as api:
        result = _invoke([str(opt / "bootstrap")], task, api, LAMPLIGHTER_PYTHON=BARE)
    _require_from(result, opt, task)


def test_the_wrapper_runs_a_function_in_place_of_awss_own_runtime(opt: Path, task: Path) -> None:
    with PoolAPI(1) as api:
        command = [str(opt / "lamplighter"), BARE, "-s", "/var/runtime/bootstrap.py"]
        result = _invoke(command, task, api, AWS_EXECUTION_ENV="AWS_Lambda_python3.12", PYTHONPATH="/var/runtime")
    _require_from(result, opt, task)
    assert result["path"].index(str(opt / "python")) < result["path"].index("/var/runtime")


def test_the_pool_runs_from_the_layer(opt: Path, task: Path) -> None:
    with PoolAPI(2) as api:
        result = _invoke([str(opt / "bootstrap")], task, api, LAMPLIGHTER_PYTHON=BARE, AWS_LAMBDA_MAX_CONCURRENCY="2")
    _require_from(result, opt, task)


def test_packages_of_other_layers_are_importable(opt: Path, task: Path) -> None:
    packages = opt / "python" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "of_a_layer.py").write_text("")
    (task / "app.py").write_text(f"import of_a_layer\n{FUNCTION}")
    try:
        with PoolAPI(1) as api:
            _require_from(_invoke([str(opt / "lamplighter"), BARE], task, api), opt, task)
    finally:
        shutil.rmtree(opt / "python" / "lib")


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["lamplighter"], 64, "is started with a runtime's command line"),
        (["lamplighter", "/var/lang/bin/node", "index.mjs"], 64, "is not Python: /var/lang/bin/node"),
        (["lamplighter", "/nowhere/python3.12"], 127, "/nowhere/python3.12"),
        (["lamplighter", "{not executable}/python3.12"], 126, "python3.12"),
        (["bootstrap"], 127, "there is no Python here"),
    ],
)
def test_what_cannot_be_run_is_said_with_the_status_that_lambda_knows(
    opt: Path, tmp_path: Path, command: list[str], status: int, words: str
) -> None:
    (tmp_path / "python3.12").write_text("")
    name, *rest = [word.replace("{not executable}", str(tmp_path)) for word in command]
    done = subprocess.run(
        [str(opt / name), *rest],
        env={"PATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert words in done.stderr


def test_every_python_that_is_found_runs_from_one_layer(tmp_path: Path, task: Path) -> None:
    done = _build(tmp_path, "--machine", _own())
    assert done.returncode == 0, done.stderr
    opt = tmp_path / "opt"
    with zipfile.ZipFile(tmp_path / f"lamplighter-layer-{_own()}.zip") as archive:
        archive.extractall(opt)
        tags = [name for name in archive.namelist() if "/_events." in name]
    found = subprocess.run(
        [sys.executable, "-c", "import build_layer; print(*(one.path for one in build_layer.found_pythons()))"],
        cwd=ROOT / "tools",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert len(found) == len(tags) > 0
    versions = []
    for python in found:
        bare = str(Path(python).resolve())
        with PoolAPI(1) as api:
            result = _invoke(["/bin/sh", str(opt / "lamplighter"), bare], task, api)
        _require_from(result, opt, task)
        versions.append(tuple(result["version"]))
    assert sorted(set(versions)) == versions


def test_an_interpreter_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    done = _build(tmp_path, "--python", "/bin/true")
    assert done.returncode == 1
    assert done.stderr == "build_layer.py: /bin/true is no CPython 3.11 or 3.12 or 3.13 or 3.14 with its headers\n"
