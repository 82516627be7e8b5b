"""What stands in the way of a fork, each in a process of its own that has just that, and by what words it is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest


def _obstacles(setup: str, own: tuple[int, ...] = (0, 1, 2), after: str = "") -> list[str]:
    code = f"""
import json, os, socket, sys, threading
{setup}
from lamplighter.template import safety
print(json.dumps(safety.obstacles(frozenset({own!r}), alone=False)))
{after}
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_process_that_has_only_imported_code_may_be_forked() -> None:
    assert _obstacles("import decimal, http.client, logging, sqlite3, ssl") == []


def test_a_file_that_is_open_for_reading_is_no_obstacle() -> None:
    assert _obstacles("kept = open('/etc/passwd')") == []


def test_a_thread_is_named() -> None:
    setup = "stop = threading.Event(); threading.Thread(target=stop.wait, name='poller', daemon=True).start()"
    assert _obstacles(setup) == ["thread 'poller' is running"]


def test_a_thread_that_has_ended_is_no_obstacle() -> None:
    assert _obstacles("t = threading.Thread(target=len, args=('',)); t.start(); t.join()") == []


def test_a_thread_that_threading_does_not_know_is_called_a_native_one() -> None:
    setup = """
import _thread
begun, stop = _thread.allocate_lock(), _thread.allocate_lock()
begun.acquire()
stop.acquire()
def run():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
        comm.write("poller-7")
    begun.release()
    stop.acquire()
_thread.start_new_thread(run, ())
begun.acquire()
"""
    assert _obstacles(setup) == ["native thread 'poller-7' (not Python's) is running"]


def test_a_child_process_is_named_by_its_pid() -> None:
    setup = "import subprocess; child = subprocess.Popen(['/bin/sleep', '1000'], close_fds=True)"
    (line,) = _obstacles(setup, after="child.kill(); child.wait()")
    assert re.fullmatch(r"child process \d+ is running", line)


@pytest.mark.parametrize(
    ("setup", "line"),
    [
        ("kept = socket.socketpair()[0]; fd = kept.fileno()", r"descriptor \d+ is a socket"),
        ("r, w = os.pipe(); os.close(w)", r"descriptor \d+ is a pipe \(pipe:\[\d+\]\)"),
        ("kept = os.eventfd(0)", r"descriptor \d+ is an eventfd"),
        ("import select; kept = select.epoll()", r"descriptor \d+ is an epoll instance"),
        ("kept = os.pidfd_open(os.getpid())", r"descriptor \d+ is a pidfd"),
        ("kept = os.memfd_create('cache')", r"descriptor \d+ is the file /memfd:cache \(deleted\), open for writing"),
        (
            "import tempfile; kept = tempfile.NamedTemporaryFile(prefix='out')",
            r"descriptor \d+ is the file /.*/out.*, open for writing",
        ),
        (
            "import mmap; kept = mmap.mmap(-1, 8192)",
            r"/dev/zero \(deleted\) is mapped shared and writable at [0-9a-f]+-[0-9a-f]+",
        ),
    ],
    ids=["socket", "pipe", "eventfd", "epoll", "pidfd", "memfd", "file", "shared memory"],
)
def test_a_descriptor_that_a_fork_would_share_is_named(setup: str, line: str) -> None:
    found = _obstacles(setup)
    assert len(found) == 1, found
    assert re.fullmatch(line, found[0]), found


def test_a_connection_is_named_with_its_other_end() -> None:
    setup = """
listening = socket.create_server(("127.0.0.1", 0))
address = listening.getsockname()
os.dup2(listening.fileno(), 60)
listening.close()
kept = socket.create_connection(address)
"""
    (line,) = _obstacles(setup, own=(0, 1, 2, 60))
    assert re.fullmatch(r"descriptor \d+ is a socket connected to \('127\.0\.0\.1', \d+\)", line)


def test_memory_that_is_mapped_shared_to_be_read_or_private_is_no_obstacle() -> None:
    setup = """
import mmap
file = open("/etc/passwd", "rb")
read = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
file.close()
private = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""
    assert _obstacles(setup + "read_again = open('/etc/group')") == []


def test_descriptors_of_the_runtime_are_no_obstacle() -> None:
    assert (
        _obstacles("kept = socket.socketpair()[0]; os.dup2(kept.fileno(), 60); kept.close()", own=(0, 1, 2, 60)) == []
    )


def test_every_obstacle_is_told_at_once() -> None:
    setup = "stop = threading.Event(); threading.Thread(target=stop.wait, daemon=True).start(); kept = os.eventfd(0)"
    assert len(_obstacles(setup)) == 2


NATIVE_THREAD = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
static sem_t stop;
static pthread_t thread;
static int running;
static void *wait_for_work(void *nothing) { sem_wait(&stop); return nothing; }
void start(void) { sem_init(&stop, 0, 0); pthread_create(&thread, 0, wait_for_work, 0); running = 1; }
static void rest(void) { if (running) { sem_post(&stop); pthread_join(thread, 0); running = 0; } }
void know_of_forks(void) { pthread_atfork(rest, 0, 0); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library with a thread of its own, as OpenBLAS has: ended before a fork, where it was told to know of forks."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "threads.c").write_text(NATIVE_THREAD)
    target = folder / "threads.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", target, folder / "threads.c", "-lpthread"], check=True, timeout=60)
    return str(target)


@pytest.mark.parametrize(("knows", "left"), [(True, 0), (False, 1)])
def test_a_library_that_knows_of_forks_is_asked_to_end_its_threads(library: str, knows: bool, left: int) -> None:
    code = f"""
import ctypes, json, os
from lamplighter.template import safety
library = ctypes.CDLL({library!r})
library.start()
if {knows}: library.know_of_forks()
before = safety.obstacles(frozenset((0, 1, 2)), alone=False)
after = safety.lasting_obstacles(frozenset((0, 1, 2)), alone=False)
print(json.dumps([before, after, safety.children()]), flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=60
    )
    before, after, children = json.loads(done.stdout)
    assert len(before) == 1
    assert before[0].startswith("native thread")
    assert len(after) == left
    assert children == []
    assert done.stderr == ""
