"""Runs one stage of .ci/run to its end, and to nothing else: neither for ever, nor with something left running.

``python3 tools/stage.py SECONDS COMMAND ARGUMENT...`` exits with the command's status; with 124 if it was not done in
time, and with 125 if it left processes behind. Either way what still runs is named and killed, so that nobody who waits
for the end of this output waits for a process that was forgotten. Only the standard library; Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

TOO_LATE, LEFT_BEHIND = 124, 125
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 3.0  # what has been told to go, and is going, is not left behind


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    limit_s, command = float(arguments[0]), arguments[1:]
    # Orphans of whatever is started here become children of this process, in whatever session or namespace they are.
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print("stage: cannot become a child subreaper", file=sys.stderr)
        return 2
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + limit_s
    while (status := _status(process)) is None and time.monotonic() < until:
        time.sleep(0.05)
    if status is None:
        print(f"stage: {' '.join(command)}: not done within {limit_s:g} s. Still running:", file=sys.stderr)
        _end(_descendants())
        return TOO_LATE
    until = time.monotonic() + _GRACE_S
    while (left := _descendants()) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        print(f"stage: {' '.join(command)}: left running:", file=sys.stderr)
        _end(left)
        return status or LEFT_BEHIND
    return status


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """The command's exit status, once it has one; orphans that are dead are reaped meanwhile."""
    while True:
        facts = None
        with contextlib.suppress(ChildProcessError):
            facts = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if facts is None or facts.si_pid == process.pid:
            status = process.poll()
            return status if status is None or status >= 0 else 128 - status
        os.waitpid(facts.si_pid, 0)


def _descendants() -> list[int]:
    """Living processes below this one, parents first."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        children.setdefault(int(parent), []).append(int(name))
        if state in "ZX":
            dead.add(int(name))
    for pid in dead.intersection(children.get(os.getpid(), ())):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    found = list(children.get(os.getpid(), ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return [pid for pid in found if pid not in dead]


def _end(pids: list[int]) -> None:
    """Name and kill processes, and whatever they have started meanwhile."""
    named: set[int] = set()
    until = time.monotonic() + 10.0
    while pids and time.monotonic() < until:
        for pid in pids:
            if pid not in named:
                named.add(pid)
                print(f"  {pid}: {_command_line(pid)}", file=sys.stderr, flush=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        pids = _descendants()


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:500] or "(no command line)"
    except OSError:
        return "(gone)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
