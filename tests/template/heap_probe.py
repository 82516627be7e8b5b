"""What a freeze does to a heap, told as JSON by the interpreter that runs this file: by whichever Python it may be.

Nothing but the package's own extension and the standard library is needed.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import weakref
from pathlib import Path

from lamplighter.template import heap

CROWD = 150_000

gc.disable()
gathered = heap.gather()
crowd = [[number % 200] for number in range(CROWD)]
gone: list[str] = []


class Resource:
    """Something that tells when it is freed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self) -> None:
        gone.append(self.name)


def function(text: str = "a default", *, number: float = 2.5) -> tuple[str, float]:
    return text, number


def closure_over(thing: object) -> object:
    return lambda: thing


def nested(depth: int) -> object:
    tuples: object = ()
    for _ in range(depth):
        tuples = (tuples,)
    return tuples


in_tuple = (Resource("in a tuple"), "text")
in_list = [Resource("in a list")]
in_dict = {"a key of its own, made at run time ".upper(): Resource("in a dict")}
in_bound = [Resource("bound")].__contains__
alone = Resource("alone")
deep = nested(100_000)  # more than a C stack would take, were all of them followed
numbers = {name: 10**18 + at for at, name in enumerate("xyz")}
stepping = (word for word in ["never", "ended"])

subjects = {
    "a function": function,
    "its code": function.__code__,
    "its constants": function.__code__.co_consts,
    "names": json.dumps.__code__.co_names,
    "its defaults": function.__defaults__,
    "a class": Resource,
    "its bases": Resource.__mro__,
    "a module": json,
    "a module's function": json.dumps,
    "a built-in function": len,
    "text": json.dumps.__doc__,
    "a key": next(iter(in_dict)),
    "a number": numbers["x"],
    "an instance": alone,
    "a list": in_list,
    "a dictionary": in_dict,
    "a tuple with an instance": in_tuple,
    "a bound method of a list": in_bound,
    "a generator": stepping,
}


def lasting(thing: object) -> bool:
    """Whether references to it are no longer counted."""
    before = sys.getrefcount(thing)
    more = [thing] * 10
    return sys.getrefcount(thing) == before and bool(more)


def mapping_of(thing: object) -> tuple[int, int]:
    """The mapping that an object lies in: its first address, and its length."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        if start <= id(thing) < end:
            return start, end - start
    raise LookupError(hex(id(thing)))


def huge_pages() -> int:
    """How many the kernel says that this process has."""
    found = re.findall(r"AnonHugePages: +([0-9]+) kB", Path("/proc/self/smaps").read_text())
    return sum(map(int, found)) // 2048


def writable_bytes() -> int:
    """What counts against ``RLIMIT_DATA``."""
    found = re.search(r"VmData:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def freed_in_a_child() -> list[int]:
    """A copy of this process frees the crowd and makes it again: bytes less that are there, bytes less that may be
    written to, the sum of the new ones."""
    receiving, sending = os.pipe()
    if os.fork() == 0:
        resident, writable = heap.resident_bytes(), writable_bytes()
        crowd.clear()
        less = [resident - heap.resident_bytes(), writable - writable_bytes()]
        crowd.extend([number % 200] for number in range(CROWD))
        os.write(sending, json.dumps([*less, sum(item[0] for item in crowd)]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(receiving, 100))  # type: ignore[no-any-return]


before = huge_pages()
made = heap.freeze()
collapsed = heap.collapse()
start, length = mapping_of(crowd[-1])
said = {
    "gathered": [gathered, heap.gather()],
    "together": sum(start <= id(item) < start + length for item in crowd) / CROWD,
    "collapsed": [collapsed, huge_pages() - before],
    "sum": sum(item[0] for item in crowd),
    "child": freed_in_a_child(),
    "made": made,
    "version": sys.version_info[:2],
    "lasting": {name: lasting(thing) for name, thing in subjects.items()},
    "frozen": gc.get_freeze_count(),
}
watched = weakref.ref(alone)
# What only mortal things hold is let go when they are.
subjects.clear()
del in_tuple, in_bound, alone
in_list.clear()
in_dict.clear()
said["gone"] = sorted(gone)
said["watched"] = watched() is None
said["works"] = [function(), closure_over(3)(), type("Later", (Resource,), {})("later").name]  # type: ignore[operator]
print(json.dumps(said))
sys.stdout.flush()
