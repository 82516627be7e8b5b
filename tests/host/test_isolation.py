"""What code inside cannot do, at init and in a handler: see, change or signal anything of the host or a neighbour."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.host.serving import RUNS, Serving, needs_root, serving_many

import lamplighter

pytestmark = needs_root

ATTEMPTS = '''
import ctypes, errno, os, signal, socket

_libc = ctypes.CDLL(None, use_errno=True)


def _tried(attempt):
    """What came of it: "done", or the name of the error."""
    try:
        returned = attempt()
    except OSError as fault:
        return errno.errorcode[fault.errno]
    except ValueError as fault:  # setrlimit's
        return str(fault)
    if returned == -1:
        return errno.errorcode[ctypes.get_errno()]
    return "done"


def _mount(source, target, kind, flags=0):
    return _libc.mount(source, target, kind, flags, None)


def attempts(host_pid, host_file):
    """Try everything; {name: what came of it}."""
    found = {
        "read /etc/shadow": _tried(lambda: open("/etc/shadow").read()),
        "list /sys/fs/cgroup": _tried(lambda: os.listdir("/sys/fs/cgroup")),
        "list /run": _tried(lambda: os.listdir("/run")),
        "read a file of the host": _tried(lambda: open(host_file).read()),
        "open a disk": _tried(lambda: open("/dev/vda", "rb")),
        "make a device": _tried(lambda: os.mknod("/tmp/device", 0o20666, os.makedev(1, 1))),
        "write the code": _tried(lambda: open("/var/task/app.py", "a")),
        "write beside the code": _tried(lambda: open("/var/task/new", "w")),
        "remove the code": _tried(lambda: os.unlink("/var/task/app.py")),
        "write /opt": _tried(lambda: open("/opt/new", "w")),
        "write /": _tried(lambda: open("/new", "w")),
        "write /etc/passwd": _tried(lambda: open("/etc/passwd", "a")),
        "write /usr": _tried(lambda: open("/usr/new", "w")),
        "write a system setting": _tried(lambda: open("/proc/sys/kernel/hostname", "w").write("x")),
        "trigger sysrq": _tried(lambda: open("/proc/sysrq-trigger", "w").write("h")),
        "signal the host": _tried(lambda: os.kill(host_pid, 0)),
        "become root": _tried(lambda: os.setuid(0)),
        "change an owner": _tried(lambda: os.chown("/var/task/app.py", os.getuid(), os.getgid())),
        "make the code writable": _tried(lambda: _mount(None, b"/var/task", None, 0x1000 | 32)),
        "uncover /proc": _tried(lambda: _libc.umount2(b"/proc", 2)),
        "uncover /": _tried(lambda: _libc.umount2(b"/", 2)),
        "make a raw socket": _tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        "make a user namespace": _tried(lambda: _libc.unshare(0x10000000)),
        "set the clock": _tried(lambda: __import__("time").clock_settime(0, 0)),
        "reboot": _tried(lambda: _libc.reboot(0x89ABCDEF)),  # the magic of "ctrl-alt-del by a signal", harmless
        "raise a limit": _tried(lambda: __import__("resource").setrlimit(7, (4096, 4096))),
        "raise a priority": _tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
    }
    open_now = []
    for name in os.listdir("/proc/self/fd"):
        try:
            open_now.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "attempts": found,
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "pid": os.getpid(),
        "root": sorted(os.listdir("/")),
        "home": os.listdir("/root") if os.path.isdir("/root") else [],
        "tmp": os.listdir("/tmp"),
        "descriptors": open_now,
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")],
        "no_new_privs": status["NoNewPrivs"].strip(),
        "mount": _tried(lambda: _mount(b"none", b"/mnt" if os.path.isdir("/mnt") else b"/tmp", b"tmpfs")),
        "unmount /tmp": _tried(lambda: _libc.umount2(b"/tmp", 2)),
    }


def handler(event, context):
    if "run" in event:
        scope = {"event": event}
        exec(event["run"], scope)
        return scope.get("result")
    return attempts(event["pid"], event["file"])
'''
AT_INIT = (
    ATTEMPTS
    + """
with open("/var/task/facts") as file:
    _pid, _file = file.read().split()
_at_init = attempts(int(_pid), _file)


def handler(event, context):
    return _at_init
"""
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("isolation")
    (directory / "of-the-host").write_text("nobody inside reads this")
    (directory / "init").mkdir()
    # The pid of this process, the host's parent: alive as long as the test is, and known before the host is.
    (directory / "init" / "facts").write_text(f"{os.getpid()} {directory / 'of-the-host'}")
    functions = {
        "tries": {"source": ATTEMPTS, "memory_mb": 512},
        "init": {"source": AT_INIT, "memory_mb": 512},
        "neighbour": {"source": RUNS, "memory_mb": 512},
    }
    with serving_many(directory, functions) as host:
        host.settle("tries")
        host.settle("neighbour")
        yield host


@pytest.fixture(scope="module", params=["tries", "init"], ids=["handler", "init"])
def found(host: Serving, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a handler found out, and what init did."""
    event = {"pid": os.getpid(), "file": str(host.directory / "of-the-host")}
    return dict(host.invoke(event, function=request.param).value)


def test_no_attempt_on_the_host_or_on_its_own_code_succeeds(found: dict[str, Any]) -> None:
    assert len(found["attempts"]) > 20
    assert {name: came for name, came in found["attempts"].items() if came == "done"} == {}


def test_files_of_the_host_do_not_exist_inside(found: dict[str, Any]) -> None:
    for name in ("read /etc/shadow", "list /sys/fs/cgroup", "list /run", "read a file of the host"):
        assert found["attempts"][name] == "ENOENT"
    assert set(found["root"]) >= {"dev", "etc", "opt", "proc", "tmp", "usr", "var"}
    assert set(found["root"]) & {"boot", "mnt", "run", "srv", "sys", "media"} == set()
    assert found["tmp"] == []


def test_of_a_home_directory_no_more_is_seen_than_the_way_to_the_interpreter(found: dict[str, Any]) -> None:
    interpreters = [Path(path) for path in (sys.prefix, sys.base_prefix, lamplighter.__path__[0])]
    ways = {path.parts[2] for path in interpreters if path.parts[:2] == ("/", "root")}
    assert set(found["home"]) <= ways


def test_only_its_own_processes_are_seen(found: dict[str, Any]) -> None:
    assert os.getpid() != found["pid"]
    assert found["pid"] in found["processes"]
    assert len(found["processes"]) <= 3  # itself, its namespace's keeper and, at init, another of the nest


def test_the_code_runs_as_nobody_in_particular(found: dict[str, Any]) -> None:
    assert 0 not in found["ids"]
    assert len(set(found["ids"])) == 1
    assert found["no_new_privs"] == "1"


def test_a_worker_has_no_capability_and_cannot_mount(host: Serving) -> None:
    event = {"pid": os.getpid(), "file": "/nowhere"}
    found = host.invoke(event, function="tries").value
    assert found["capabilities"] == ["0" * 16] * 4
    assert found["mount"] == "EPERM"
    assert found["unmount /tmp"] == "EPERM"


def test_what_init_mounts_is_not_seen_by_the_host(host: Serving) -> None:
    host.invoke({}, function="init").value  # noqa: B018 - it must have succeeded
    with open(f"/proc/{host.pid}/mountinfo") as file, open("/proc/self/mountinfo") as own:
        assert file.read() == own.read()


def test_a_worker_holds_its_log_its_channel_and_nothing_else(host: Serving) -> None:
    event = {"pid": os.getpid(), "file": "/nowhere"}
    found = host.invoke(event, function="tries").value["descriptors"]
    kinds = sorted(target.partition(":")[0] for target in found)
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"], found


def test_a_program_that_a_worker_executes_inherits_its_streams_and_nothing_else(host: Serving) -> None:
    listing = (
        "import os\n"
        "for fd in range(3, 100):\n"
        "    if os.path.exists(f'/proc/self/fd/{fd}'): print(os.readlink(f'/proc/self/fd/{fd}'))\n"
    )
    program = f"""
import subprocess, sys
done = subprocess.run([sys.executable, "-c", {listing!r}], close_fds=False, capture_output=True, text=True, check=True)
result = done.stdout.strip()
"""
    assert host.run(program, function="neighbour").value == ""


def test_code_with_the_mode_of_a_private_directory_is_readable_inside(host: Serving) -> None:
    code = host.directory / "neighbour"
    code.chmod(0o700)
    (code / "secret.txt").write_text("mine")
    (code / "secret.txt").chmod(0o600)
    assert host.run("result = open('/var/task/secret.txt').read()", function="neighbour").value == "mine"


def test_a_worker_that_signals_everybody_harms_only_its_own_environment(host: Serving) -> None:
    before = host.run("import os; result = os.getpid()", function="neighbour").value
    harm = "import os, signal; os.kill(-1, signal.SIGKILL)"
    assert host.invoke({"run": harm}, function="tries").error["errorType"] == "ProcessLookupError"  # nobody is there
    assert host.run("import os; result = os.getpid()", function="neighbour").value == before
    assert host.facts("tries")["template"] == "ready"


def test_a_worker_cannot_end_its_keeper(host: Serving) -> None:
    keeper = "import os, signal; os.kill(1, signal.SIGKILL); os.kill(1, signal.SIGTERM); result = os.listdir('/proc')"
    assert "1" in host.invoke({"run": keeper}, function="tries").value


def test_two_functions_run_under_different_ids_of_the_host(host: Serving) -> None:
    ids: dict[int, str] = {}
    for function in ("tries", "neighbour"):
        inside = host.invoke({"run": "import os; result = os.getpid()"}, function=function).value
        pid = host.pids_by_depth(3)[inside]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                ids[int(line.split()[1])] = function
    assert len(ids) == 2
    assert min(ids) >= 65_536


def test_ipc_objects_of_one_environment_are_not_seen_by_another(host: Serving) -> None:
    make = "import ctypes; result = ctypes.CDLL(None).shmget(0x4C41, 4096, 0o1666)"
    assert host.invoke({"run": make}, function="tries").value >= 0
    host.invoke({"run": "import os; os._exit(0)"}, function="tries")
    look = "import ctypes; result = ctypes.CDLL(None).shmget(0x4C41, 4096, 0o666)"
    assert host.invoke({"run": look}, function="tries").value == -1
    assert host.run(look, function="neighbour").value == -1
