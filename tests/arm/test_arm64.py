"""The native code on ARM: cross-built without a warning, and its unit tests run under emulation."""

from __future__ import annotations

import re
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.arm import crossing

# The first test waits for the packages.
pytestmark = pytest.mark.timeout(600)

AARCH64 = 183
"""``EM_AARCH64`` of the ELF header (elf.h)."""

NOT_EMULATED = {
    "tests/sandbox/test_cgroups.py::test_no_more_processes_than_the_limit_can_be_started": "its threads count as well",
    "tests/sandbox/test_fork.py::test_a_worker_is_in_the_leaf_it_was_given": "no clone into namespaces; keeps its leaf",
    "tests/sandbox/test_fork.py::test_pages_that_are_populated_are_there_before_they_are_written_to": "ignores madvise",
    "tests/sandbox/test_fork.py::test_pages_that_are_not_there_or_not_writable_are_passed_over": "ignores madvise",
    "tests/sandbox/test_nest.py::test_a_program_is_placed_in_its_leaf": "no clone into namespaces; keeps its leaf",
}
"""What qemu-user makes impossible beside what :mod:`tests.arm.emulated` finds by itself, and why."""


class Arm(NamedTuple):
    """The wheel, its unpacked content, and the interpreter that runs it."""

    wheel: Path
    library: Path
    python: Path

    def tests(self, *arguments: str, seconds: float) -> dict[str, int]:
        """Run tests of the checkout under emulation; how many passed, were skipped, deselected. Fails if one fails."""
        command = [str(self.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.arm.emulated"]
        # That a test is skipped in there is judged here, by how many passed.
        said = crossing.run([*command, "-o", "timeout=300", *arguments], seconds, {"LAMPLIGHTER_EVERY_TEST": "0"})
        return {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", said.splitlines()[-1])}


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm]:
    if reason := crossing.missing():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("arm64")
    cache = crossing.unpacked_tree()
    wheel = crossing.built_wheel(cache, directory)
    library = directory / "library"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    yield Arm(wheel, library, crossing.interpreter(cache, directory, library))


def test_every_native_part_of_the_wheel_is_aarch64s(arm: Arm) -> None:
    assert arm.wheel.name.endswith("-linux_aarch64.whl")
    native = [path for path in arm.library.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    assert {path.name.partition(".")[0] for path in native} == {"_events", "_http", "_sandbox", "_template", "_keeper"}
    for path in native:
        assert struct.unpack_from("<H", path.read_bytes(), 18) == (AARCH64,), path


def test_the_interpreter_is_an_arm_one_with_the_wheel_in_it(arm: Arm) -> None:
    script = (
        "import platform, lamplighter._events as e, lamplighter._sandbox as s; print(platform.machine(), e.__file__)"
    )
    said = crossing.run([str(arm.python), "-c", script], 60).split()
    assert said[0] == "aarch64"
    assert said[1].startswith(str(arm.library))


def test_the_unit_tests_of_the_codec_pass_on_arm(arm: Arm) -> None:
    # Not the properties, which make examples for minutes there, nor what compiles.
    files = ("events/test_decoder.py", "events/test_encoder.py", "events/test_codec.py", "bootstrap/test_answer.py")
    counted = arm.tests(*(f"tests/{file}" for file in files), "tests/events/test_json_corpus.py", seconds=300)
    assert counted["passed"] >= 2_400, counted


def test_the_unit_tests_of_the_sandbox_pass_on_arm_as_far_as_emulation_goes(arm: Arm) -> None:
    left_out = [word for test in NOT_EMULATED for word in ("--deselect", test)]
    counted = arm.tests("tests/sandbox", *left_out, seconds=300)
    assert counted["deselected"] == len(NOT_EMULATED), "each of them is still a test"
    assert counted["passed"] >= 35, counted


def test_the_keeper_ends_with_its_lifeline_on_arm(arm: Arm) -> None:
    keeper = arm.library / "lamplighter" / "_keeper"
    keeper.chmod(0o755)
    process = subprocess.Popen([crossing.EMULATOR, str(keeper)], stdin=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
