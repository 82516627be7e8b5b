"""Fuzz lamplighter._events under AddressSanitizer and UndefinedBehaviorSanitizer.

    .venv/bin/python tests/native/fuzz_events.py --seconds 600 --seed 1

builds the extension with the sanitizers into a directory of its own, and runs itself again with their runtime loaded:
events that the services send and documents of no shape are cut, spliced, repeated and overwritten, and go through one
long-lived decoder and a new one; ``json.loads`` is the judge of both. Every value then goes through the encoder, whose
judge is the writer in Python. It ends with status 1 and the bytes in question at the first difference, and with the
sanitizer's status and report at the first fault. The same seed and Python make the same inputs in the same order.

With ``--libfuzzer`` clang's libFuzzer makes the inputs instead, led by the coverage of the extension's C.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
PLACES = [str(ROOT), str(ROOT / "tests"), str(ROOT / "runtime")]
"""Where the inputs, the judges and the package are."""
SECOND_LIFE = 2000
"""Inputs that one decoder sees before a new one takes its place: long enough to fill its memory and to forget."""


def build(directory: Path, *flags: str, compiler: str = "cc") -> Path:
    """The extension, compiled with ``flags``."""
    target = directory / "_events.so"
    sources = sorted(str(path) for path in (ROOT / "native" / "events").glob("*.c"))
    include = sysconfig.get_paths()["include"]
    command = [compiler, "-std=gnu11", "-shared", "-fPIC", f"-I{include}", *flags, "-o", str(target), *sources]
    subprocess.run(command, check=True, timeout=300)
    return target


def load(path: Path) -> None:
    """Make the extension at ``path`` the one that the package uses."""
    name = "lamplighter._events"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[name] = module


def sanitizer_environment(compiler: str = "cc") -> dict[str, str]:
    """What a Python that was not built with the sanitizers needs to load what was."""
    runtime = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    return {
        **os.environ,
        "LD_PRELOAD": runtime,
        # Python never frees all it has; what is lost for each decode is found by tests/events.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # Every object in an allocation of its own, with a red zone around it.
        "PYTHONMALLOC": "malloc",
    }


class Inputs:
    """Texts, most of them close to JSON, many of them of a shape seen before."""

    def __init__(self, seed: int) -> None:
        from bench import sources

        self._rng = random.Random(seed)
        self._makers = [maker for name, maker in sources.SOURCES.items() if name != "DynamoDB x100"]
        self._makers += [sources.unknown, self._record]
        self._body = sources.body
        self._recent = [self._whole() for _ in range(20)]

    def _record(self, rng: random.Random) -> dict[str, Any]:
        """A small document of one of a few shapes: most of what is decoded is alike, as in a function's life."""
        odd = [None, True, 0, -1, 2**63, 1e300, 0.1, "", "é", "\ud800", "x" * rng.randrange(70), [], {}, [1, "a"]]
        keys = rng.choice([["a"], ["a", "b"], ["b", "a"], ["id", "é", ""], [f"key{n}" for n in range(20)]])
        return {key: rng.choice([*odd, {"n": rng.randrange(100)}]) for key in keys}

    def _whole(self) -> bytes:
        try:
            return self._body(self._rng.choice(self._makers)(self._rng))
        except UnicodeEncodeError:
            return b'{"a":"\\ud800","b":"\\udc00\\ud83d\\ude00"}'

    def next(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.2:
            body = self._whole()
            self._recent[rng.randrange(len(self._recent))] = body
            if rng.random() < 0.5:
                return body
        body = rng.choice(self._recent)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 5])):
            body = self._damaged(body)
        return body

    def _damaged(self, body: bytes) -> bytes:
        rng = self._rng
        at, size = rng.randrange(len(body) + 1), rng.choice([1, 1, 2, 7, 16, 64])
        match rng.randrange(9):
            case 0:
                return body[:at] + rng.choice(TOKENS) + body[at:]
            case 1:
                return body[:at] + rng.choice(TOKENS) + body[at + size :]
            case 2:
                return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
            case 3:
                return body[:at] + body[at + size :]
            case 4:
                return body[:at]
            case 5:
                other = rng.choice(self._recent)
                return body[:at] + other[rng.randrange(len(other) + 1) :]
            case 6:
                return body[:at] + body[max(0, at - size) :]
            case 7:
                return b"[" + body + b"," + rng.choice(self._recent) + b"]"
        return rng.choice([b" ", b"\n", b"\xef\xbb\xbf", b"[", b'{"a":']) + body + rng.choice([b"", b" ", b"]", b"}"])


TOKENS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xc3",
    b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xe2\x82\xac", b"\xff", b"\\u", b"\\ud800", b"\\udc00", b"\\u0000",
    b"\\u00e9", b"\\n", b"0", b"-", b"-0", b"1", b"9" * 17, b"9" * 20, b".", b"e", b"e+", b"e-5", b"E400",
    b"1.7976931348623157e308", b"5e-324", b"null", b"nul", b"true", b"false", b"NaN", b"Infinity", b"-Infinity",
    b'""', b"[]", b"{}", b'"a":', b',"a":1', b'{"a":1,"a":2}', b"[" * 50, b"]" * 50, b'{"":' * 50, b"x" * 100,
    b'"' + b"y" * 40 + b'"',
)  # fmt: skip


class Judge:
    """One input after the other through the decoders and the encoder; fails where the judges in Python differ."""

    def __init__(self) -> None:
        from judging import Refused, expected, found, judge
        from lamplighter import _events
        from lamplighter.events import Decoder, writer

        def left(result: object, ascii_only: bool) -> tuple[bytes, bool]:
            raise AssertionError("a value of plain types was left to Python")

        self._refused, self._expected, self._found, self._judge = Refused, expected, found, judge
        self._decoder, self._write, self._encode = Decoder, writer.write, _events.encoder(left)
        self._lasting = Decoder()
        self.count = 0

    def __call__(self, body: bytes) -> None:
        self.count += 1
        if self.count % SECOND_LIFE == 0:
            self._lasting = self._decoder(memory=(1 << 20, 20_000, 500, 0)[self.count // SECOND_LIFE % 4])
        decode = self._lasting.decode
        self._judge(decode, body)
        if self.count % 4 == 0:
            self._judge(self._decoder().decode, bytearray(body))
        value = self._expected(body) if self.count % 3 == 0 else self._found(decode, body)
        if not isinstance(value, self._refused):
            ascii_only = self.count % 2 == 0
            wanted = self._write(value, ascii_only).encode("utf-8", "backslashreplace")
            written = self._encode(value, ascii_only=ascii_only)[0]
            assert written == wanted, f"{written[:300]!r} instead of {wanted[:300]!r}"


def fuzz(seconds: float, seed: int) -> int:
    """Run for ``seconds`` of this process's own CPU time; how many inputs there were."""
    judge, inputs = Judge(), Inputs(seed)
    while time.process_time() < seconds:
        body = inputs.next()
        try:
            judge(body)
        except Exception as fault:
            fault.add_note(f"input {judge.count} of seed {seed}: {body!r}")
            raise
    return judge.count


def judge_within() -> Judge:
    """For the target in C, whose extension is built in."""
    sys.modules["lamplighter._events"] = importlib.import_module("_events")
    return Judge()


def run_libfuzzer(directory: Path, seconds: float, seed: int) -> int:
    """Build the target with clang, feed it some inputs of ours, and let it run; its status."""
    variables = sysconfig.get_config_vars()
    library = f"python{variables['LDVERSION']}"
    target = directory / "target"
    sources = sorted(str(path) for path in (ROOT / "native" / "events").glob("*.c"))
    command = ["clang", "-std=gnu11", "-fsanitize=fuzzer,address,undefined", *SANITIZERS[1:]]
    command += [f"-I{sysconfig.get_paths()['include']}", "-o", str(target), *sources]
    command += [str(Path(__file__).with_name("fuzz_events_target.c"))]
    command += [f"-L{variables['LIBDIR']}", f"-Wl,-rpath,{variables['LIBDIR']}", f"-l{library}", "-lm"]
    subprocess.run(command, check=True, timeout=300)
    seeds = directory / "seeds"
    seeds.mkdir()
    inputs = Inputs(seed)
    for number in range(200):
        (seeds / str(number)).write_bytes(inputs.next()[:4096])
    environment = {
        **os.environ,
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *PLACES]),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }
    command = [str(target), f"-max_total_time={seconds:.0f}", f"-seed={seed}", "-max_len=4096", "-rss_limit_mb=4096"]
    command += ["-print_final_stats=1", f"-artifact_prefix={ROOT}/", str(seeds)]
    return subprocess.run(command, env=environment, timeout=300 + 3 * seconds, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="CPU time to fuzz for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--libfuzzer", action="store_true", help="by libFuzzer, for as much wall time")
    parser.add_argument("--extension", type=Path, help="fuzz this build of the extension, in this process")
    options = parser.parse_args()
    if options.extension is not None:
        load(options.extension)
        sys.path[:0] = PLACES
        count = fuzz(options.seconds, options.seed)
        print(f"{count} inputs in {time.process_time():.0f} s of CPU time, seed {options.seed}: no finding")
        return 0
    with tempfile.TemporaryDirectory(prefix="fuzz-events-") as directory:
        if options.libfuzzer:
            sys.path[:0] = PLACES
            return run_libfuzzer(Path(directory), options.seconds, options.seed)
        extension = build(Path(directory), *SANITIZERS)
        command = [sys.executable, __file__, "--extension", str(extension)]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        # Beyond the CPU time asked for, as much wall time as a busy machine may need.
        return subprocess.run(
            command, env=sanitizer_environment(), timeout=120 + 20 * options.seconds, check=False
        ).returncode


if __name__ == "__main__":
    if shutil.which("cc") is None:
        sys.exit("there is no C compiler")
    sys.exit(main())
