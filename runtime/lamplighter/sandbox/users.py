"""Other users for functions, where root can isolate them no better, as in a plain container."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

_FIRST = (0x4C00_0000, 40_000)
"""Where to look for uids that nobody has: above what is handed out by default; and below 65,536, which is all that a
container with remapped users may have."""
_TRIAL_S = 20.0
_LOADS = "import lamplighter.host.process"


def available() -> tuple[int, str]:
    """The first of a few thousand uids that can run this Python; or 0, and why there are none. Found by running it."""
    problem = "only root can give them others"
    for first in _FIRST if os.geteuid() == 0 else ():
        problem = _try(first)
        if not problem:
            return first, ""
    return 0, problem


def _try(user: int) -> str:
    """What stands in the way of running Python with this package as ``user``."""
    out, theirs = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.chdir("/")
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(theirs, 1)
            os.dup2(theirs, 2)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.execv(sys.executable, [sys.executable, "-P", "-c", _LOADS])  # noqa: S606 - no shell is wanted
        except OSError as fault:
            os.write(theirs, str(fault.strerror).encode())
        finally:
            os._exit(1)
    os.close(theirs)
    status = _ended(child)
    os.set_blocking(out, False)
    said = b""
    with contextlib.suppress(BlockingIOError):
        said = os.read(out, 4096)
    os.close(out)
    if status == 0:
        return ""
    lines = said.decode(errors="replace").strip().splitlines()
    return f"uid {user} cannot run {sys.executable}: {lines[-1] if lines else f'exit status {status}'}"


def _ended(child: int) -> int:
    until = time.monotonic() + _TRIAL_S
    while (facts := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(facts[1])
