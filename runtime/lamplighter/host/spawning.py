"""Starting ``lamplighter.host.process`` in a nest: as a function's template, or as an environment that is not forked.

All of this blocks for some milliseconds and runs in the host's executor. Nothing here knows what comes of the process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Literal

from lamplighter.function.config import FunctionConfig
from lamplighter.function.environment import TASK_ROOT, base_environment
from lamplighter.sandbox import root
from lamplighter.sandbox.cgroups import MIB, Leaf
from lamplighter.sandbox.confine import Confinement, Grant, scopes
from lamplighter.sandbox.native import Process
from lamplighter.sandbox.nest import Nest

if TYPE_CHECKING:
    from lamplighter.host.server import Host

_BACKSTOP = 1024 * MIB
Mode = Literal["template", "environment"]


def data_limit(memory_mb: int) -> int:
    """``RLIMIT_DATA`` for a function whose memory is only watched: far enough above its limit that nothing which would
    fit meets it (stacks of threads count as a whole), and near enough that a machine survives it."""
    return 2 * memory_mb * MIB + _BACKSTOP


def make_nest(host: Host, config: FunctionConfig, slot: int) -> Nest:
    """A nest for a function, with the uid range of ``slot`` if it is root's; the null nest where none can be built.

    Raises ``OSError``.
    """
    if not host.isolated:
        return Nest.without(host.keeper_program, max(0, host.survey.user_of(slot)))
    tmp_bytes = config.ephemeral_storage_mb * MIB
    return Nest.create(
        staging=host.workspace.staging(),
        slot=slot,
        code=config.code,
        layers=config.layers,
        tmp_bytes=tmp_bytes,
        disk=None if host.disks.obstacle else host.disks.make(tmp_bytes),
        program=host.keeper_program,
        lifeline=host.ground.lifeline,
        kind=host.survey.nests,
        own_network=config.network == "none",
    )


def confinement(host: Host, config: FunctionConfig, nest: Nest) -> Confinement:
    """What is laid on a function's processes, as far as this host can."""
    filtered = host.enforcement["seccomp"] == "seccomp"
    if host.enforcement["landlock"] != "landlock":
        return Confinement(filtered)
    grants: list[Grant] = []
    if not nest.isolated:
        seen = [*root.system_paths(), *root.python_paths(), config.code, *config.layers, "/proc", "/dev"]
        written = ["/tmp", host.workspace.tmp(), *root.device_paths()]  # noqa: S108 - the host's, where nothing is mounted
        grants = [Grant(path) for path in seen] + [Grant(path, writable=True) for path in written]
    return Confinement(filtered, scopes(isolated=nest.isolated), tuple(grants))


def spawn(
    host: Host, config: FunctionConfig, nest: Nest, mode: Mode, sock: int, leaf: Leaf, stream: str
) -> tuple[Process, int]:
    """Start the process with ``sock`` as its control socket or channel; returns it and the read end of its log.

    Raises :class:`~lamplighter.sandbox.native.SandboxFault`, and ``OSError`` if a warm-up event cannot be read.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    task_root = TASK_ROOT if nest.isolated else config.code
    layers = ("/opt",) if nest.isolated else config.layers
    variables = base_environment(
        config, region=host.config.region, python_version=version, task_root=task_root, layer_roots=layers
    )
    variables["AWS_LAMBDA_LOG_STREAM_NAME"] = stream
    log_read, log_write = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    order = os.memfd_create("lamplighter-order", os.MFD_CLOEXEC)
    try:
        with open(order, "wb", closefd=False) as file:
            file.write(json.dumps(_order(host, config, nest, mode, task_root, layers, version)).encode())
        fds = [null, log_write, log_write, sock, nest.program, order]
        start = "from lamplighter.host.process import main; main()"
        command = root.python_command(start, isolated=nest.isolated)
        watched = host.survey.watched()
        laid = confinement(host, config, nest)
        process = nest.spawn(
            command,
            variables,
            task_root,
            fds,
            leaf,
            forks=mode == "template",
            data=data_limit(config.memory_mb) if "memory" in watched else 0,
            file_size=config.ephemeral_storage_mb * MIB if "tmp" in watched else 0,
            confinement=laid,
        )
    except BaseException:
        os.close(log_read)
        raise
    finally:
        for fd in (null, order, log_write):
            os.close(fd)
    os.set_blocking(log_read, False)
    return process, log_read


def _order(
    host: Host, config: FunctionConfig, nest: Nest, mode: Mode, task_root: str, layers: tuple[str, ...], version: str
) -> dict[str, object]:
    """What the process is to do; :mod:`lamplighter.host.process` describes the fields."""
    path = [task_root]
    for layer in layers:
        path += [f"{layer}/python/lib/python{version}/site-packages", f"{layer}/python"]
    events = []
    for name in config.warm_up if mode == "template" else ():
        with open(name, encoding="utf-8") as file:
            events.append(file.read())
    tmp_bytes = config.ephemeral_storage_mb * MIB
    return {
        "mode": mode,
        "handler": config.handler,
        "path": path,
        "isolated": nest.isolated,
        "tmp_bytes": tmp_bytes,
        "tmp_inodes": root.inodes(tmp_bytes),
        "disk": nest.isolated and not host.disks.obstacle,
        "network": nest.own_network,
        "filtered": host.enforcement["seccomp"] == "seccomp",
        "scopes": scopes(isolated=nest.isolated) if host.enforcement["landlock"] == "landlock" else 0,
        "birth": host.births,
        "tmp": "" if nest.isolated else host.workspace.tmp(),
        "warm_up": events,
    }
