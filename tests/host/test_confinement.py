"""The filter of system calls, Landlock and networks: what code inside asks of the kernel and does not get."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, needs_root, serving_many, wait_for

from lamplighter.sandbox import confine

ASK = """
import ctypes, errno, os
_libc = ctypes.CDLL(None, use_errno=True)

def ask(number, *arguments):
    ctypes.set_errno(0)
    got = _libc.syscall(ctypes.c_long(number), *[ctypes.c_long(one) for one in arguments])
    return errno.errorcode.get(ctypes.get_errno(), "0") if got == -1 else "done"

asked_at_init = {}
for line in open("/var/task/numbers"):
    name, number = line.split()
    # No argument makes sense: a call that is not denied fails for that, and with another errno than EPERM and ENOSYS.
    asked_at_init[name] = ask(int(number), -1, 0, 0, 0, 0, 0)
"""
needs_filter = pytest.mark.skipif(bool(confine.no_filter()), reason=f"no seccomp here: {confine.no_filter()}")
DENIED = {call.name: call for call in confine.denied_calls()}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("confinement")
    numbers = "".join(f"{call.name} {call.number}\n" for call in DENIED.values() if not call.template_may)
    unsafe = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    (directory / "forked").mkdir()
    (directory / "forked" / "numbers").write_text(numbers)
    (directory / "executed").mkdir()
    (directory / "executed" / "numbers").write_text(numbers)
    functions: dict[str, dict[str, object]] = {
        "forked": {"source": ASK + RUNS, "memory_mb": 512},
        "executed": {"source": ASK + unsafe + RUNS, "memory_mb": 512},
        "alone": {"source": RUNS, "memory_mb": 512, "network": "none", "parked": 2},
    }
    if os.geteuid() != 0:
        del functions["alone"]
    with serving_many(directory, functions) as host:
        yield host


@needs_filter
@pytest.mark.parametrize("function", ["forked", "executed"])
@pytest.mark.parametrize("name", sorted(DENIED))
def test_a_handler_is_told_of_each_denied_call_what_the_table_says(host: Serving, function: str, name: str) -> None:
    call = DENIED[name]
    code = f"from app import ask; result = ask({call.number}, -1, 0, 0, 0, 0, 0)"
    assert host.run(code, function=function).value == errno.errorcode[call.code]
    assert len(call.reason) > 5


@needs_filter
def test_init_is_denied_all_but_what_forking_a_worker_takes(host: Serving) -> None:
    told = host.run("from app import asked_at_init; result = asked_at_init", function="forked").value
    assert told == {name: errno.errorcode[call.code] for name, call in DENIED.items() if not call.template_may}
    assert {call.name for call in DENIED.values() if call.template_may} == {"mount", "move_mount", "setns", "clone3"}


@needs_filter
@pytest.mark.parametrize("number", [470, 1000, 0x40000000 + 39], ids=["newer", "much newer", "x32's getpid"])
def test_a_call_newer_than_the_table_does_not_exist(host: Serving, number: int) -> None:
    assert host.run(f"from app import ask; result = ask({number})", function="forked").value == "ENOSYS"


@needs_filter
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is x86's")
def test_a_call_of_another_architecture_does_not_exist(host: Serving) -> None:
    # mov eax, 20 (getpid of the 32-bit table); int 0x80; ret
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    assert host.run(code, function="forked").value == -errno.ENOSYS


@needs_filter
@pytest.mark.parametrize(
    "family", [40, 38, 17, 31, 29, 30, 44], ids=["vsock", "alg", "packet", "bluetooth", "can", "tipc", "xdp"]
)
def test_a_socket_of_any_family_but_four_is_of_none(host: Serving, family: int) -> None:
    code = f"""
import errno, socket
try:
    socket.socket({family}, socket.SOCK_DGRAM)
except OSError as fault:
    result = errno.errorcode[fault.errno]
"""
    assert host.run(code, function="forked").value == "EAFNOSUPPORT"


def test_sockets_of_the_four_can_be_made(host: Serving) -> None:
    code = """
import socket
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family, socket.SOCK_STREAM).close()
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
result = [entry[4][0] for entry in socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)]
"""
    assert host.run(code, function="forked").value == ["127.0.0.1"]


@needs_filter
def test_huge_pages_which_no_memory_limit_counts_cannot_be_had(host: Serving) -> None:
    code = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
found = {}
libc.mmap(None, ctypes.c_size_t(1 << 21), 3, 0x20 | 0x02 | 0x40000, -1, 0)
found["mmap"] = errno.errorcode[ctypes.get_errno()]
libc.shmget(0, ctypes.c_size_t(1 << 21), 0o4000 | 0o1000 | 0o600)
found["shmget"] = errno.errorcode[ctypes.get_errno()]
try:
    os.memfd_create("huge", os.MFD_HUGETLB)
except OSError as fault:
    found["memfd_create"] = errno.errorcode[fault.errno]
os.close(os.memfd_create("small"))
result = found
"""
    found = host.run(code, function="forked").value
    assert found == dict.fromkeys(("mmap", "shmget", "memfd_create"), "ENOMEM")


@needs_filter
def test_namespaces_and_children_of_the_hosts_cannot_be_made_by_clone(host: Serving) -> None:
    code = """
import ctypes, errno, os, platform
number = 56 if platform.machine() == "x86_64" else 220
libc = ctypes.CDLL(None, use_errno=True)
found = []
for flags in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x8000):
    pid = libc.syscall(number, flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    found.append(errno.errorcode[ctypes.get_errno()] if pid < 0 else "done")
result = found
"""
    assert host.run(code, function="forked").value == ["EPERM"] * 8


def test_what_functions_really_do_still_works(host: Serving) -> None:
    code = """
import multiprocessing, os, subprocess, sys, threading
threads = [threading.Thread(target=lambda: None) for _ in range(3)]
for thread in threads:
    thread.start()
    thread.join()
child = os.fork()
if child == 0:
    os._exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
said = subprocess.run(["/bin/sh", "-c", "echo hello | tr a-z A-Z"], capture_output=True, text=True).stdout
spawned = os.posix_spawn("/bin/true", ["true"], {})
left, right = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=lambda: right.send("piped"))
process.start()
piped = left.recv()
process.join()
result = [status, said, os.waitstatus_to_exitcode(os.waitpid(spawned, 0)[1]), piped]
"""
    for function in ("forked", "executed"):
        assert host.run(code, function=function).value == [7, "HELLO\n", 0, "piped"]


@pytest.mark.skipif(
    confine.landlock_version() < confine.SOCKETS_SINCE, reason="Landlock here does not know abstract sockets"
)
def test_an_abstract_socket_of_the_host_cannot_be_connected_to(host: Serving) -> None:
    name = f"\0lamplighter-test-{os.getpid()}"
    code = f"""
import errno, socket
found = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        socket.socket(socket.AF_UNIX, kind).connect({name!r} + str(int(kind)))
        found.append("done")
    except OSError as fault:
        found.append(errno.errorcode[fault.errno])
result = found
"""
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        stream.bind(f"{name}{int(socket.SOCK_STREAM)}")
        stream.listen()
        datagrams.bind(f"{name}{int(socket.SOCK_DGRAM)}")
        for function in ("forked", "executed"):
            assert host.run(code, function=function).value == ["EPERM", "EPERM"]


@needs_root
def test_without_a_network_there_is_a_loopback_interface_and_nothing_else(host: Serving) -> None:
    code = f"""
import errno, socket
found = {{}}
found["interfaces"] = [name for _, name in socket.if_nameindex()]
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with socket.create_connection(listener.getsockname(), 2):
        found["own loopback"] = "done"
for where, address in (("host", ("127.0.0.1", {host.port})), ("beyond", ("192.0.2.1", 80))):
    try:
        socket.create_connection(address, 2)
        found[where] = "done"
    except OSError as fault:
        found[where] = errno.errorcode[fault.errno]
result = found
"""
    assert host.run(code, function="alone").value == {
        "interfaces": ["lo"],
        "own loopback": "done",
        "host": "ECONNREFUSED",
        "beyond": "ENETUNREACH",
    }


@needs_root
def test_two_environments_of_one_function_do_not_share_a_network(host: Serving) -> None:
    listen = """
import os, socket, time
listener = socket.socket()
listener.bind(("127.0.0.1", 7777))
listener.listen()
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0mine")
abstract.listen()
time.sleep(2)
result = os.readlink("/proc/self/ns/net")
"""
    connect = """
import errno, os, socket
found = [os.readlink("/proc/self/ns/net")]
for family, address in ((socket.AF_INET, ("127.0.0.1", 7777)), (socket.AF_UNIX, "\\0mine")):
    try:
        socket.socket(family).connect(address)
        found.append("done")
    except OSError as fault:
        found.append(errno.errorcode[fault.errno])
result = found
"""
    host.settle("alone")
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(host.run, listen, function="alone")
        wait_for(lambda: host.facts("alone")["busy"], "the one that listens")
        network, *found = host.run(connect, function="alone").value
        held = listening.result().value
    assert found == ["ECONNREFUSED", "ECONNREFUSED"]
    assert len({network, held, os.readlink("/proc/self/ns/net")}) == 3


def test_the_documents_list_is_the_one_in_force() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text()
    told: dict[str, tuple[str, str, str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1] in ("`EPERM`", "`ENOSYS`"):
            told |= {name.strip(" `"): (cells[1].strip("`"), cells[2], cells[3]) for name in cells[0].split(",")}
    assert told == {
        name: (errno.errorcode[call.code], "workers" if call.template_may else "everybody", call.reason)
        for name, call in DENIED.items()
    }
