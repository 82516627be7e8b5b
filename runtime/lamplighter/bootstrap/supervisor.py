"""The supervisor: keeps as many workers as were asked for, each at a place of its own, by forking itself.

It is the template: single-threaded, initialised or not, and after its first fork it imports nothing and runs no code of
the function's. It waits in one system call for the end of a worker, a signal, or the time of a launch that was put off.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import time
from typing import NamedTuple

from lamplighter.bootstrap.notes import ANSWERING, ARRIVING, FRESH, Memory, Place
from lamplighter.worker import ending

_WAITED_FOR = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
_STOP_S = 2.0
"""Workers that are told to end get this long, then SIGKILL. The platform gives a runtime no longer (0.3 s to 2 s)."""
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_MOST_FAILURES = 10
"""Workers in a row, of one place, that end without having taken an event: then the pool is given up. Some 25 s."""
_F_SETSIG = 10
"""fcntl's number for which signal O_ASYNC sends (linux/fcntl.h); Python's module does not name it."""

GAVE_UP = 1


class Task(NamedTuple):
    """What a fresh worker has to do: hold ``place``, and first say ``reason`` of an invocation its predecessor left."""

    place: Place
    reason: str
    first: bool
    """No worker of the pool has said anything to the Runtime API yet: for the platform this is still the init phase."""


class Supervisor:
    """Forks a worker for each place, and another when one ends.

    Guarantees: a worker does not outlive the supervisor, however that ends; each worker that ends has a successor, who
    knows of it what there is to be told; places whose workers end without having taken an event are filled later and
    later; SIGTERM and SIGINT go to every worker, and the supervisor ends by the same signal once they have.
    """

    def __init__(self, memory: Memory) -> None:
        self._places = memory.places
        self._workers: dict[int, Place] = {}
        self._events = [0] * len(self._places)
        self._failures = [0] * len(self._places)
        self._due: dict[int, float] = {}
        self._reasons: dict[int, tuple[str, str]] = {}
        """For each place, an invocation that was left unanswered, and why; until somebody has answered it."""
        self._stopping = 0
        # The read end tells workers that the only holder of the write end, this process, has gone.
        self._lifeline, self._life = os.pipe2(os.O_CLOEXEC)

    def run(self) -> Task:
        """Supervise; returns in each worker, with its task, and never in the supervisor, which ends the process."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        # A function may have SIGCHLD ignored: then nobody would be told how its workers end.
        disposition = signal.getsignal(signal.SIGCHLD)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        now = time.monotonic()
        self._due = dict.fromkeys(range(len(self._places)), now)
        while True:
            task = self._launch_due()
            if task is not None:
                signal.signal(signal.SIGCHLD, disposition if disposition is not None else signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                return task
            if self._stopping and not self._workers:
                self._end()
            self._wait()

    def _wait(self) -> None:
        """Until a worker has ended, a signal has come, or something is due."""
        if self._due:
            found = signal.sigtimedwait(_WAITED_FOR, max(0.0, min(self._due.values()) - time.monotonic()))
        else:
            found = signal.sigwaitinfo(_WAITED_FOR)
        if found is None:
            if self._stopping:
                self._due.clear()
                self._tell(signal.SIGKILL)
            return
        if found.si_signo == signal.SIGCHLD:
            self._reap()
        elif not self._stopping:
            self._stop(found.si_signo)

    def _launch_due(self) -> Task | None:
        """Fork what is due; the task in the worker, ``None`` in the supervisor."""
        if self._stopping:
            return None
        now = time.monotonic()
        for number in [number for number, at in self._due.items() if at <= now]:
            place = self._places[number]
            self._events[number] = place.events
            reason = self._reasons.get(number, ("", ""))[1]
            try:
                pid = os.fork()
            except OSError as fault:  # no memory, or too many processes: as if the worker had failed
                self._say(f"cannot fork a worker: {fault.strerror}")
                self._put_off(number)
                continue
            if pid == 0:
                first = all(other.read().step == FRESH for other in self._places)
                self._become_worker(place)
                return Task(place, reason, first)
            del self._due[number]
            self._workers[pid] = place
        return None

    def _become_worker(self, place: Place) -> None:
        os.close(self._life)
        # The kernel sends SIGKILL when the last writer of the pipe goes. Whom to send it to belongs to the open file,
        # which a fork shares: so it is opened once more.
        mine = os.open(f"/proc/self/fd/{self._lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(mine, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(mine, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(mine, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        # Who is late finds it gone. A pipe that was opened after that would not say so; the supervisor's own end does.
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        if poll.poll(0):
            os._exit(GAVE_UP)
        os.close(self._lifeline)
        for other in self._places:
            if other is not place:
                other.close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            place = self._workers.pop(pid, None)
            if place is not None:  # else a process that init left behind
                self._ended(place, os.waitstatus_to_exitcode(status))

    def _ended(self, place: Place, code: int) -> None:
        number = place.number
        note = place.read()
        if ARRIVING <= note.step <= ANSWERING:
            known, _ = self._reasons.get(number, ("", ""))
            if known != note.request_id:
                # A successor that ends before it has answered for its predecessor ended for a reason of its own.
                reason = ending.reason(signal=-code) if code < 0 else ending.reason(status=code)
                self._reasons[number] = note.request_id, reason
        else:
            self._reasons.pop(number, None)
        if place.events != self._events[number]:
            self._failures[number] = 0
            self._due[number] = time.monotonic()
        else:
            self._put_off(number)

    def _put_off(self, number: int) -> None:
        self._failures[number] += 1
        if self._failures[number] > _MOST_FAILURES:
            self._say(f"{_MOST_FAILURES} workers in a row ended without taking an event: giving up")
            self._stopping = -GAVE_UP
            self._begin_stop(signal.SIGTERM)
            return
        delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (self._failures[number] - 1))
        self._due[number] = time.monotonic() + delay

    def _stop(self, signo: int) -> None:
        self._stopping = signo
        self._begin_stop(signo)

    def _begin_stop(self, signo: int) -> None:
        self._tell(signo)
        # The only thing that is due from now on: the end of patience.
        self._due = {-1: time.monotonic() + _STOP_S}

    def _tell(self, signo: int) -> None:
        for pid in self._workers:
            os.kill(pid, signo)  # ours and not reaped yet, so nobody else's

    def _end(self) -> None:
        """End this process as the signal would have ended it; no exit handler of the function's runs here."""
        if self._stopping > 0:
            signal.signal(self._stopping, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._stopping})
            os.kill(os.getpid(), self._stopping)
        os._exit(GAVE_UP)

    def _say(self, message: str) -> None:
        try:
            sys.stderr.write(f"lamplighter: {message}\n")
            sys.stderr.flush()
        except Exception:  # noqa: S110 - init may have closed it
            pass
