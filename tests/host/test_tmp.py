"""/tmp, held by a file system of its own on the host's disk: its size, what fills it, and that it is no memory."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, needs, needs_root, serving, wait_for

MIB = 1_048_576
BLOCK = 4_096

pytestmark = needs_root

FILL = f'''
import errno, os

def fill(path):
    """Write until nothing more fits, in large pieces, then in blocks: a large one may be refused as a whole."""
    written = 0
    with open(path, "wb", buffering=0) as file:
        for block in (bytes({4 * MIB}), bytes({BLOCK})):
            try:
                while True:
                    written += file.write(block)
            except OSError as fault:
                name = errno.errorcode[fault.errno]
    return name, written

def free():
    space = os.statvfs("/tmp")
    return space.f_bavail * space.f_frsize
'''


def devices(store: Path) -> list[str]:
    """Loop devices whose image lies in a directory."""
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if file.read_text().startswith(f"{store}/"):
                found.append(file.parts[3])
        except OSError:
            continue  # detached meanwhile
    return sorted(found)


def needless(names: list[str]) -> list[str]:
    """Those of some loop devices that are still there, unused, beyond the eight that always are."""
    there = [name for name in names if Path(f"/sys/block/{name}").exists() and int(name.removeprefix("loop")) >= 8]
    return [name for name in there if not Path(f"/sys/block/{name}/loop").exists()]


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """A store of the test's own, so that its loop devices are known from others; skips where there are none."""
    store = tmp_path / "store"
    store.mkdir()
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("no loop devices")
    return store, ("--tmp-store", str(store))


def holds_by_loop(host: Serving) -> bool:
    return "tmp: loop" in host.errors.text


@pytest.mark.parametrize("size", [512, 777])
def test_its_size_is_the_configured_one_to_the_byte(
    tmp_path: Path, disks: tuple[Path, tuple[str, ...]], size: int
) -> None:
    code = """
import os, subprocess
space = os.statvfs("/tmp")
df = subprocess.run(["df", "--block-size=1", "--output=size,avail", "/tmp"], capture_output=True, text=True)
result = [space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize, df.stdout.split()[-2:], space.f_files]
"""
    with serving(tmp_path, RUNS, "--memory", "512", "--ephemeral-storage", str(size), *disks[1]) as host:
        assert holds_by_loop(host)
        total, free, df, files = host.run(code).value
        assert total == size * MIB
        assert free == size * MIB - BLOCK  # the root directory itself
        assert [int(text) for text in df] == [total, free]
        assert files >= size * 64


def test_it_is_the_functions_own_in_forked_and_executed_environments(
    tmp_path: Path, disks: tuple[Path, tuple[str, ...]]
) -> None:
    look = "import os; facts = os.stat('/tmp'); result = [facts.st_uid == os.getuid(), facts.st_gid == os.getgid()]"
    unsafe = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    for source in (RUNS, unsafe + RUNS):
        with serving(tmp_path, source, "--memory", "512", *disks[1]) as host:
            assert host.run(look).value == [True, True]


def test_one_file_can_fill_it_and_a_removed_one_gives_its_place_back(
    tmp_path: Path, disks: tuple[Path, tuple[str, ...]]
) -> None:
    code = FILL + "result = [*fill('/tmp/big'), free()]; os.unlink('/tmp/big'); result.append(free())"
    with serving(tmp_path, RUNS, "--memory", "1769", "--timeout", "60", *disks[1]) as host:
        name, written, left, after = host.run(code).value
        assert name == "ENOSPC"
        assert 511 * MIB < written < 512 * MIB  # a few blocks say where the others are
        assert left <= 8 * BLOCK
        assert after == 512 * MIB - BLOCK


def test_a_file_that_is_deleted_but_open_still_counts(tmp_path: Path, disks: tuple[Path, tuple[str, ...]]) -> None:
    code = (
        FILL
        + f"""
file = open("/tmp/kept", "wb")
file.write(bytes({100 * MIB}))
file.flush()
os.unlink("/tmp/kept")
result = [os.listdir("/tmp"), free()]
file.close()
result.append(free())
"""
    )
    with serving(tmp_path, RUNS, "--memory", "1769", "--timeout", "30", *disks[1]) as host:
        names, held, given_back = host.run(code).value
        assert names == []
        assert held <= 412 * MIB
        assert given_back == 512 * MIB - BLOCK


def test_a_sparse_file_counts_for_what_is_written_to_it(tmp_path: Path, disks: tuple[Path, tuple[str, ...]]) -> None:
    code = (
        FILL
        + f"""
with open("/tmp/sparse", "wb") as file:
    file.truncate({1 << 40})
    empty = free()
    file.seek({1 << 39})
    file.write(b"x")
result = [os.path.getsize("/tmp/sparse"), empty, os.stat("/tmp/sparse").st_blocks * 512]
"""
    )
    with serving(tmp_path, RUNS, "--memory", "1769", "--timeout", "30", *disks[1]) as host:
        size, empty, used = host.run(code).value
        assert size == 1 << 40
        assert empty == 512 * MIB - BLOCK
        assert 0 < used <= 64 * 1024


def test_many_small_files_fit_and_then_no_more(tmp_path: Path, disks: tuple[Path, tuple[str, ...]]) -> None:
    code = (
        FILL
        + """
made = 0
try:
    while True:
        if made % 5000 == 0:
            os.mkdir(f"/tmp/{made // 5000}")
        os.close(os.open(f"/tmp/{made // 5000}/{made}", os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as fault:
    name = errno.errorcode[fault.errno]
result = [name, made, free()]
"""
    )
    with serving(tmp_path, RUNS, "--memory", "3538", "--timeout", "100", *disks[1]) as host:
        name, made, left = host.run(code).value
        assert name == "ENOSPC"
        assert 32_000 < made < 33_000  # one for each 16 KiB
        assert left > 500 * MIB


@needs("memory")
def test_what_is_written_to_it_is_no_memory(tmp_path: Path, disks: tuple[Path, tuple[str, ...]]) -> None:
    code = (
        FILL
        + f"""
with open("/tmp/big", "wb", buffering=0) as file:
    for _ in range(100):
        file.write(bytes({4 * MIB}))
with open("/tmp/big", "rb", buffering=0) as file:
    while file.read({MIB}):
        pass
result = os.path.getsize("/tmp/big")
"""
    )
    with serving(tmp_path, RUNS, "--memory", "128", "--timeout", "100", *disks[1]) as host:
        answer = host.run(code)
        assert answer.value == 400 * MIB
        assert int(answer.report["Max Memory Used"].removesuffix(" MB")) < 100


@needs("memory")
def test_in_memory_it_counts_as_memory_and_the_host_says_so(tmp_path: Path) -> None:
    code = f"open('/tmp/big', 'wb').write(bytes({4 * MIB}) * 40)"
    with serving(tmp_path, RUNS, "--memory", "256", "--timeout", "30", "--tmp-store", "memory") as host:
        assert "tmp: tmpfs" in host.errors.text
        assert "what is written to it counts as memory: the host was told to" in host.errors.text
        assert host.run(code).verdict == ("error", "Runtime.OutOfMemory")


def test_a_store_that_is_memory_itself_is_none(tmp_path: Path) -> None:
    store = Path("/dev/shm")
    with serving(tmp_path, RUNS, "--tmp-store", str(store)) as host:
        assert "tmp: tmpfs" in host.errors.text
        assert "in a file system that is memory itself" in host.errors.text


def test_an_environment_that_cannot_be_forked_has_a_disk_as_well(
    tmp_path: Path, disks: tuple[Path, tuple[str, ...]]
) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n" + RUNS
    with serving(tmp_path, source, "--memory", "512", *disks[1]) as host:
        assert host.facts()["template"] == "unsafe"
        size = "import os; space = os.statvfs('/tmp'); result = space.f_blocks * space.f_frsize"
        assert host.run(size).value == 512 * MIB
        kind = "result = [line.split()[2] for line in open('/proc/mounts') if line.split()[1] == '/tmp']"
        assert host.run(kind).value[-1] == "ext4"


def test_what_init_wrote_is_there_in_each_environment_and_its_own(
    tmp_path: Path, disks: tuple[Path, tuple[str, ...]]
) -> None:
    source = "open('/tmp/model', 'w').write('weights')\n" + RUNS
    with serving(tmp_path, source, "--parked", "0", "--fresh-per-invocation", *disks[1]) as host:
        change = "file = open('/tmp/model', 'r+'); result = file.read(); file.write('changed')"
        assert host.run(change).value == "weights"
        assert host.run(change).value == "weights"


def test_all_devices_and_images_are_gone_after_stop(tmp_path: Path, disks: tuple[Path, tuple[str, ...]]) -> None:
    store, options = disks
    with serving(tmp_path, RUNS, "--parked", "10", "--concurrency", "10", *options) as host:
        # Of ten environments and their template.
        mine = wait_for(lambda: found if len(found := devices(store)) >= 11 else [], lambda: f"only {devices(store)}")
        host.run("open('/tmp/left', 'wb').write(bytes(50_000_000))")
    assert devices(store) == []
    assert list(store.iterdir()) == []
    # Another host on this machine may use one of them for a moment, and then removes it itself.
    wait_for(lambda: not needless(mine), lambda: f"still there: {needless(mine)}", 30)


def test_devices_are_bounded_by_what_runs(tmp_path: Path, disks: tuple[Path, tuple[str, ...]]) -> None:
    store, options = disks
    with serving(tmp_path, RUNS, "--parked", "1", "--concurrency", "3", *options) as host:
        for _ in range(30):
            host.run("import os; os._exit(1)")
        # The template's, three environments' at most, and two that are ready.
        wait_for(lambda: len(devices(store)) <= 6, lambda: f"still {devices(store)}")
        assert host.run("import os; result = os.listdir('/tmp')").value == []


def test_a_killed_host_leaves_no_device_that_is_used_and_the_next_one_removes_those_it_made(
    tmp_path: Path, disks: tuple[Path, tuple[str, ...]]
) -> None:
    store, options = disks
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text(RUNS)
    host = Serving(["app.handler", "--code", str(code), "--parked", "12", *options], tmp_path, "probe")
    try:
        host.wait_ready()
        made = [name for name in devices(store) if int(name.removeprefix("loop")) >= 8]
        assert made
        members = host.tree()
        os.kill(host.pid, signal.SIGKILL)
        host.process.wait(10)
        assert members
        wait_for(lambda: devices(store) == [], lambda: f"still {devices(store)}")
        assert list(store.iterdir()) == []
    finally:
        host.kill()
    with serving(tmp_path, RUNS, "--tmp-store", "memory"):
        wait_for(lambda: host.left() == [], lambda: f"still there: {host.left()}")
    wait_for(lambda: not needless(made), lambda: f"still there: {needless(made)}", 30)


def test_a_store_that_is_full_fails_launches_with_the_reason_and_serves_again_once_it_is_not(tmp_path: Path) -> None:
    store, image, served = tmp_path / "store", tmp_path / "image", tmp_path / "served"
    store.mkdir()
    served.mkdir()
    with image.open("wb") as file:
        file.truncate(2048 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image)], check=True, timeout=60)
    if subprocess.run(["mount", "-o", "loop", str(image), str(store)], check=False, timeout=60).returncode != 0:
        pytest.skip("no file system can be mounted by a loop device here")
    try:
        options = ("--tmp-store", str(store), "--parked", "0", "--fresh-per-invocation")
        with serving(served, RUNS, *options) as host:
            assert host.run("result = 1").value == 1
            ballast = store / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1500 * MIB)
            answers = [host.run("result = 2") for _ in range(4)]  # a few disks were ready
            assert answers[-1].error["errorType"] == "Sandbox.Failure"
            assert "MiB left, and a /tmp may need" in answers[-1].error["errorMessage"]
            ballast.unlink()
            wait_for(lambda: host.run("result = 3").body == b"3", "an environment with a disk")
    finally:
        subprocess.run(["umount", str(store)], check=True, timeout=60)
