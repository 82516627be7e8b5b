"""Children of this process that nobody knows.

Code in a nest can make its own children ours (``CLONE_PARENT`` is open to every process), and a template can die
between the fork of a worker and its reply. Such a process is killed with its nest; but the kernel does not end a pid
namespace before each of its processes has been reaped, and only we can reap these.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection

from lamplighter.sandbox import processes


def zombie(known: Collection[int]) -> int:
    """The pid of a dead child that nobody will ask for; 0 if there is none to be seen now.

    A dead child that is in ``known`` hides others until its owner has reaped it.
    """
    try:
        facts = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return facts.si_pid if facts is not None and facts.si_pid not in known else 0


def reap(known: Collection[int]) -> None:
    """Reap dead children that are not in ``known``."""
    while pid := zombie(known):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return


def living(known: Collection[int]) -> set[int]:
    """Children of this process that nobody knows and that live: orphans of an environment without a pid namespace."""
    return {pid for pid in processes.children(os.getpid()) if pid not in known}


def end(pids: Collection[int]) -> None:
    """Kill children of ours that nobody knows, and all below them, and reap those that are dead."""
    processes.kill_below(pids)
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # a child of ours: its pid is its own until we reap it
            os.waitpid(pid, os.WNOHANG)
