"""The codec's C under AddressSanitizer and UndefinedBehaviorSanitizer. Its warnings are errors in setup.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.native import fuzz_events

compiler = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(compiler is None, reason="no C compiler")


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuzz_events.build(tmp_path_factory.mktemp("sanitized"), *fuzz_events.SANITIZERS)


def run(arguments: list[str], timeout: float, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=fuzz_events.ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def run_tests(extension: Path, environment: dict[str, str], *tests: str) -> None:
    """Run the files with that build of the extension in place of the package's."""
    code = (
        "import sys, pytest; from tests.native import fuzz_events; sys.path[:0] = fuzz_events.PLACES;"
        f"fuzz_events.load({str(extension)!r});"
        "import lamplighter.events; print(sys.modules['lamplighter._events'].__file__);"
        f"sys.exit(pytest.main(['-q', '-x', '-p', 'no:cacheprovider', '-k', 'not memory and not reference', *{tests}]))"
    )
    said = run(["-c", code], 500, environment)
    assert str(extension) in said.splitlines()[0]
    assert " passed" in said


@pytest.mark.timeout(600)
def test_fuzzing_finds_nothing(extension: Path) -> None:
    """Ten seconds of CPU time; ``python tests/native/fuzz_events.py --seconds 600`` is the long run."""
    arguments = [fuzz_events.__file__, "--extension", str(extension), "--seconds", "10", "--seed", "4"]
    said = run(arguments, 500, fuzz_events.sanitizer_environment())
    assert "no finding" in said
    assert int(said.split()[0]) > 500


@pytest.mark.timeout(600)
def test_the_corpus_and_the_codecs_tests_pass_under_the_sanitizers(extension: Path) -> None:
    tests = ("tests/events/test_json_corpus.py", "tests/events/test_decoder.py", "tests/events/test_encoder.py")
    run_tests(extension, fuzz_events.sanitizer_environment(), *tests)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("macros", [["-DLL_NO_SIMD"], ["-DLL_NO_SIMD", "-DLL_NO_WORDS"]], ids=["words", "bytes"])
def test_the_decoders_tests_pass_without_simd(macros: list[str], tmp_path: Path) -> None:
    extension = fuzz_events.build(tmp_path, *fuzz_events.SANITIZERS, *macros)
    run_tests(extension, fuzz_events.sanitizer_environment(), "tests/events/test_decoder.py")


@pytest.mark.timeout(600)
def test_the_encoders_tests_pass_without_simd_and_without_128_bit_integers(tmp_path: Path) -> None:
    extension = fuzz_events.build(tmp_path, "-O0", "-DLL_NO_SIMD", "-DLL_NO_INT128")
    run_tests(extension, dict(os.environ), "tests/events/test_encoder.py")


def test_the_fuzzers_inputs_are_the_same_for_a_seed_and_mostly_close_to_json() -> None:
    first, again, other = (fuzz_events.Inputs(seed) for seed in (5, 5, 6))
    made = [first.next() for _ in range(300)]
    assert made == [again.next() for _ in range(300)]
    assert made != [other.next() for _ in range(300)]
    assert len(set(made)) > 200
