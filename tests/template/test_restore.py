"""What a worker must not share with its template: entropy, file positions, and what init left in /tmp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tests.sandbox.conftest import Nests, nests  # noqa: F401 - a fixture

from lamplighter.template import restore


def test_modules_that_remember_entropy_are_made_to_forget_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile
    import uuid

    seeded: list[str] = []
    numpy = types.ModuleType("numpy.random")
    monkeypatch.setattr(numpy, "seed", lambda: seeded.append("numpy"), raising=False)
    monkeypatch.setitem(sys.modules, "numpy.random", numpy)
    tempfile.mktemp()
    monkeypatch.setattr(uuid, "_last_timestamp", 1 << 62)
    assert getattr(tempfile, "_name_sequence") is not None  # noqa: B009 - a private name
    restore.reseed()
    assert getattr(tempfile, "_name_sequence") is None  # noqa: B009 - as above
    assert uuid._last_timestamp is None  # type: ignore[attr-defined]
    assert seeded == ["numpy"]


def test_modules_that_are_not_loaded_stay_so() -> None:
    code = """
import sys
from lamplighter.template import restore
before = set(sys.modules)
restore.reseed()
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_openssl_gives_a_forked_worker_bytes_of_its_own() -> None:
    import ssl

    ssl.RAND_bytes(8)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        restore.reseed()
        os.write(write, ssl.RAND_bytes(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 16) != ssl.RAND_bytes(16)
    os.close(read)
    os.close(write)


def test_a_reopened_file_has_a_position_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one two three four")
    with open(tmp_path / "lines", "rb", buffering=0) as file:
        file.read(4)
        child = os.fork()
        if child == 0:
            restore.reopen_files([file.fileno()])
            os._exit(0 if file.read(3) == b"two" and file.read() == b" three four" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert file.read(4) == b"two ", "the worker has moved the template's position"


def test_a_reopened_file_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deleted"
    path.write_text("still here")
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW)
    os.set_inheritable(fd, True)
    path.unlink()
    before = os.fstat(fd).st_ino
    restore.reopen_files([fd])
    assert os.fstat(fd).st_ino == before
    assert os.get_inheritable(fd)
    assert os.read(fd, 100) == b"still here"
    os.set_inheritable(fd, False)
    restore.reopen_files([fd])
    assert not os.get_inheritable(fd)
    os.close(fd)
    restore.reopen_files([fd])  # closed meanwhile: nobody's any more


def test_only_regular_files_that_are_the_functions_own_are_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with open(tmp_path / "file") as kept, open(tmp_path / "file") as runtimes:
        directory = os.open(tmp_path, os.O_RDONLY)
        read, write = os.pipe()
        found = restore.regular_files({runtimes.fileno()})
        assert kept.fileno() in found
        assert not {runtimes.fileno(), directory, read, write, 0, 1, 2} & set(found)
        for fd in (directory, read, write):
            os.close(fd)


COPY = """
import ctypes, json, os, socket, stat
from lamplighter.template import restore
os.makedirs("/tmp/models/small")
open("/tmp/models/small/weights", "w").write("0.5")
os.chmod("/tmp/models/small/weights", 0o640)
open("/tmp/plain", "w").write("text")
os.symlink("plain", "/tmp/link")
os.symlink("/nowhere", "/tmp/models/dangling")
for path in ("/tmp/fifo", "/tmp/models/fifo"):
    os.mkfifo(path)
for path in ("/tmp/socket", "/tmp/models/socket"):
    socket.socket(socket.AF_UNIX).bind(path)
source = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
assert ctypes.CDLL(None).mount(b"tmpfs", b"/tmp", b"tmpfs", 0, b"mode=1777") == 0
workers = []
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        target = os.open("/proc/self/fd", os.O_RDONLY)
        assert ctypes.CDLL(None).unshare(0x20000) == 0
        assert ctypes.CDLL(None).mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) == 0
        restore.copy_tmp(source)
        found = sorted(os.path.join(top, name) for top, _, names in os.walk("/tmp") for name in names)
        said = [found, open("/tmp/models/small/weights").read(), os.readlink("/tmp/link"),
                oct(stat.S_IMODE(os.stat("/tmp/models/small/weights").st_mode))]
        os.write(1, json.dumps(said).encode() + b"\\n")  # at once: eight of them write here
        os._exit(0)
    workers.append(pid)
for pid in workers:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def test_what_init_left_in_tmp_is_copied_whole_to_each_of_many_workers_at_once(nests: Nests) -> None:  # noqa: F811
    said = nests.python(nests.create(), COPY, forks=True).splitlines()
    assert len(said) == 8
    files = ["/tmp/link", "/tmp/models/dangling", "/tmp/models/small/weights", "/tmp/plain"]
    for line in said:
        assert json.loads(line) == [files, "0.5", "plain", "0o640"]
