"""The fork, from the template's side: a worker placed in its cgroups and namespaces at birth, and its memory after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lamplighter._sandbox import ffi, lib
from lamplighter.sandbox.native import SandboxFault, fault, raised


class Forked(NamedTuple):
    """``pid`` is 0 in the worker; in the template, the descriptors are the caller's to send on and close.

    ``stages`` are microseconds: ``nest``, ``clone`` in the template; ``touch``, ``place``, ``mount``, ``filter`` in the
    worker.
    """

    pid: int
    pidfd: int
    keeper_pidfd: int
    stages: dict[str, float]
    problem: SandboxFault | None


def fork(
    *,
    isolated: bool,
    pid: int,
    program: int,
    tmp_bytes: int,
    tmp_inodes: int,
    placement: Sequence[int],
    cgroup2: int,
    tmp_mount: int = -1,
    network: int = -1,
    filtered: bool = False,
    scopes: int = 0,
    ranges: bytes = b"",
) -> Forked:
    """Fork this single-threaded process; returns in both, as ``os.fork`` does.

    ``problem`` is set in a worker that could not be placed or isolated: it must say so and exit. Raises
    :class:`SandboxFault` in the template if there is no worker. ``tmp_mount`` is a descriptor of what becomes the
    worker's /tmp; -1 makes a tmpfs of ``tmp_bytes`` and ``tmp_inodes``. ``network`` is a
    network namespace for it. ``filtered`` tightens the template's filter in the worker, and ``scopes`` are Landlock's
    for it. ``ranges`` (as :func:`populate` takes them)
    are pages that the worker is going to write to: it copies them first, a tenth cheaper than fault by fault.
    """
    fds = ffi.new("int[]", list(placement))
    pages = ffi.from_buffer(ranges)
    spec = ffi.new(
        "struct ll_fork_spec *",
        {
            "isolated": isolated,
            "pid": pid,
            "keeper_fd": program,
            "network": network,
            "tmp_mount": tmp_mount,
            "filtered": filtered,
            "scopes": scopes,
            "tmp_bytes": tmp_bytes,
            "tmp_inodes": tmp_inodes,
            "placement": fds,
            "placement_count": len(placement),
            "cgroup2": cgroup2,
            "ranges": ffi.cast("struct ll_range *", pages),
            "range_count": len(ranges) // ffi.sizeof("struct ll_range"),
        },
    )
    record, result = fault(), ffi.new("struct ll_fork_result *")
    outcome = lib.ll_fork(spec, result, record)
    if result.worker.pid == 0:
        stages = {
            "touch": result.touch_us,
            "place": result.place_us,
            "mount": result.mount_us,
            "filter": result.filter_us,
        }
        return Forked(0, -1, -1, stages, raised(record) if outcome < 0 else None)
    if outcome < 0:
        raise raised(record)
    stages = {"nest": result.nest_us, "clone": result.clone_us}
    return Forked(result.worker.pid, result.worker.pidfd, result.keeper.pidfd, stages, None)


def populate(ranges: bytes) -> int:
    """Make pages of this process private before it writes to them; returns how many ranges could be.

    ``ranges`` are pairs of native ``u64``: a page number (address / page size) and a count of pages.
    """
    count = len(ranges) // ffi.sizeof("struct ll_range")
    return int(lib.ll_populate(ffi.cast("struct ll_range *", ffi.from_buffer(ranges)), count))
