"""Build this machine's wheel, install it into an empty virtual environment as a user would, and serve with it.

    python tools/try_wheel.py [--dist DIRECTORY]

The wheel is left in ``dist`` (or DIRECTORY). Exit status 0 when the function answered; 1, with what failed, otherwise.
Only the standard library is used: nothing of this checkout, nor of the environment it is developed in, may help.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FUNCTION = "def handler(event, context):\n    return {'hello': event['name'], 'memory': context.memory_limit_in_mb}\n"
_LISTENING = re.compile(r"listening on http://([0-9.]+):([0-9]+)")
_MODULES = ("lamplighter._events", "lamplighter._http", "lamplighter._sandbox", "lamplighter._template")


class WheelFault(Exception):
    """What did not work, in words."""


def run(command: Sequence[str], seconds: float, **variables: str) -> str:
    """Run to the end, away from the checkout and with a clean environment; what it wrote."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "CC") if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
    try:
        done = subprocess.run(
            command,
            cwd=tempfile.gettempdir(),
            env={**kept, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise WheelFault(f"{' '.join(command[:4])} … took more than {seconds:g} s") from fault
    if done.returncode != 0:
        raise WheelFault(f"{' '.join(command[:4])} … ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def build(dist: Path) -> Path:
    """The wheel, made in ``dist`` by pip, which fetches what building needs.

    From a copy of the sources: what earlier builds left in the checkout would find its way into the wheel.
    """
    with tempfile.TemporaryDirectory() as fresh:
        source = Path(fresh) / "source"
        source.mkdir()
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        built = shutil.ignore_patterns("*.so", "_keeper", "__pycache__", "*.egg-info")
        for name in ("native", "runtime"):
            shutil.copytree(ROOT / name, source / name, ignore=built)
        run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", fresh, str(source)], 300)
        wheels = list(Path(fresh).glob("lamplighter-*.whl"))
        if len(wheels) != 1:
            raise WheelFault(f"building made {len(wheels)} wheels")
        dist.mkdir(parents=True, exist_ok=True)
        target = dist / wheels[0].name
        target.write_bytes(wheels[0].read_bytes())
    return target


def try_out(wheel: Path, directory: Path) -> str:
    """Install ``wheel`` into an empty environment in ``directory``, and serve a function with it; the version."""
    venv.create(directory / "venv", with_pip=True)
    programs = directory / "venv" / "bin"
    run([str(programs / "python"), "-m", "pip", "install", "--quiet", str(wheel)], 300)
    found = run([str(programs / "python"), "-c", f"import {', '.join(_MODULES)}; print({_MODULES[0]}.__file__)"], 60)
    if not found.startswith(str(directory)):
        raise WheelFault(f"the extension was found at {found.strip()}, not in the new environment")
    version = run([str(programs / "lamplighter"), "--version"], 60).strip()
    (directory / "code").mkdir()
    (directory / "code" / "app.py").write_text(_FUNCTION)
    answer = serve_once([str(programs / "lamplighter"), "serve", "app.handler", "--code", str(directory / "code")])
    if answer != {"hello": "user", "memory": "128"}:
        raise WheelFault(f"the function answered {answer!r}")
    return version


def serve_once(command: Sequence[str]) -> object:
    """Start the host, invoke its function once, end it with SIGTERM."""
    process = subprocess.Popen(
        [*command, "--function-name", "function", "--listen", "127.0.0.1:0"],
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Whatever it does or does not say, reading ends: with the process, killed after a minute.
    watch = threading.Timer(60, process.kill)
    watch.start()
    said: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if (listening := _LISTENING.search(line)) is not None:
                break
        else:
            raise WheelFault(f"the host did not listen:\n{''.join(said)}")
        connection = http.client.HTTPConnection(listening[1], int(listening[2]), timeout=30)
        connection.request("POST", "/2015-03-31/functions/function/invocations", b'{"name": "user"}')
        answer = json.loads(connection.getresponse().read())
        connection.close()
        process.terminate()
        if process.wait(30) != 0:
            raise WheelFault(f"the host ended with status {process.returncode}:\n{''.join(said)}")
        return answer
    finally:
        watch.cancel()
        process.kill()
        process.wait(10)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the wheel goes (dist)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as directory:
            wheel = build(options.dist)
            version = try_out(wheel, Path(directory))
    except WheelFault as fault:
        print(f"try_wheel: {fault}", file=sys.stderr)
        return 1
    print(f"{wheel}: {version}, installed into an empty environment, serves")
    return 0


if __name__ == "__main__":
    sys.exit(main())
