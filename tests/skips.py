"""A pytest plugin: no test may be skipped for what this machine has.

Each reason a test may be skipped for is listed here with a check of whether this machine really lacks what it names.
With ``LAMPLIGHTER_EVERY_TEST=1``, which .ci/run sets, a run with any other skip fails and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lamplighter.sandbox import confine
from lamplighter.sandbox.hierarchy import own_cgroups

_CAP_SYS_ADMIN = 21


def _not_root() -> bool:
    return os.geteuid() != 0


def _no_cgroup(controllers: str = "memory, cpu, pids") -> bool:
    found = own_cgroups()
    return "unified" not in found and any(name not in found for name in controllers.split(", "))


def _setting(path: str, value: str) -> bool:
    try:
        return Path(path).read_text().strip() == value
    except OSError:
        return False


def _no_user_namespaces() -> bool:
    return (
        _not_root()
        or _may_not_mount()
        or _setting("/proc/sys/user/max_user_namespaces", "0")
        or _setting("/proc/sys/kernel/unprivileged_userns_clone", "0")
        or _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
    )


def _may_not_mount() -> bool:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return not int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1


def _no_loop() -> bool:
    return _not_root() or _may_not_mount() or not os.path.exists("/dev/loop-control")


def _compiler() -> bool:
    return shutil.which(os.environ.get("CC", "cc")) is None


def _headers() -> bool:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(compiler) is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def _none_of(*programs: str) -> bool:
    return not any(shutil.which(program) for program in programs)


def _not_all_of(programs: str) -> bool:
    return any(shutil.which(program) is None for program in programs.split(", "))


def _no_shared_sanitizers() -> bool:
    compiler = os.environ.get("CC", "cc")
    for name in ("libasan.so", "libubsan.so"):
        said = subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False
        ).stdout
        if not os.path.isabs(said.strip()):
            return True
    return False


def _no_version_6() -> bool:
    try:
        return not re.search(r"\blo$", Path("/proc/net/if_inet6").read_text(), re.MULTILINE)
    except OSError:
        return True


LACKS: dict[str, Callable[..., bool]] = {
    r"namespaces and uid ranges need root|nests need root|this process is not root": _not_root,
    r"making a container of this process needs root and CAP_SYS_ADMIN": lambda: _not_root() or _may_not_mount(),
    r"no writable cgroup for (.+)": _no_cgroup,
    r"no writable cgroup|this process may make no cgroup": _no_cgroup,
    r"an ordinary user can make no user namespace: .*": _no_user_namespaces,
    r"this kernel has no overlayfs": lambda: "overlay" not in Path("/proc/filesystems").read_text(),
    r"user-mode Linux is not installed \(linux.uml\)": lambda: shutil.which("linux.uml") is None,
    r"no loop devices|no file system can be mounted by a loop device here": _no_loop,
    r"no seccomp here: .*": lambda: bool(confine.no_filter()),
    r"no Landlock here: .*": lambda: bool(confine.no_landlock()),
    r"Landlock here does not know abstract sockets": lambda: confine.landlock_version() < confine.SOCKETS_SINCE,
    r"int 0x80 is x86's": lambda: os.uname().machine != "x86_64",
    r"no C compiler": _compiler,
    r"this machine has no C compiler or no Python.h": lambda: not _headers(),
    r"this machine has no make": lambda: shutil.which("make") is None,
    r"the tests' own directory is not under /tmp": lambda: not tempfile.gettempdir().startswith("/tmp"),
    r"(?:the emulator is not (?:here and could not be downloaded|to be had here)|no emulator): .*": lambda: True,
    r"only root can give the emulator a mount namespace": _not_root,
    r"debootstrap and buildah's chroot isolation need root": _not_root,
    r"no mount namespaces here": _may_not_mount,
    r"this host has no ::1": _no_version_6,
    r"no chromium is installed": lambda: _none_of("chromium", "google-chrome"),
    r"not installed: (.+)": _not_all_of,
    r"(\S+) is not installed": _none_of,
    r"no cross compiler for arm64": lambda: _none_of("aarch64-linux-gnu-gcc"),
    r"no cross compiler for x86_64": lambda: _none_of("x86_64-linux-gnu-gcc"),
    r"the arm64 Python at hand is 3\.11, and this one is .*": lambda: sys.version_info[:2] != (3, 11),
    r"this compiler has no shared sanitizer libraries": _no_shared_sanitizers,
    r"the compiler's sanitizers cannot be loaded into a program that was built without them": _no_shared_sanitizers,
    r"the words changed in simplejson 4.3": lambda: True,  # of a package that is no dependency of ours
}
"""Reasons, as patterns, and whether this machine lacks what they name; a pattern's group is handed to its check. Of the
emulator the reason is the download's own."""


def unexpected(reason: str) -> bool:
    """Whether a test that was skipped for ``reason`` could have run here."""
    reason = reason.removeprefix("Skipped: ")
    for pattern, lacks in LACKS.items():
        if match := re.fullmatch(pattern, reason, re.DOTALL):
            return not lacks(*match.groups())
    return True


_found: list[str] = []


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if unexpected(reason):
            _found.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _found and os.environ.get("LAMPLIGHTER_EVERY_TEST") == "1" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _found and os.environ.get("LAMPLIGHTER_EVERY_TEST") == "1":
        terminalreporter.section("skipped, though this machine has what it takes", red=True)
        for line in _found:
            terminalreporter.line(line)
