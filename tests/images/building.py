"""Building images where no registry of images can be reached: a Debian base by debootstrap, the rest by buildah.

Everything lies in one directory of the caller's: storage, run-time files, containers. Buildah's chroot isolation needs
neither a daemon nor cgroups nor a network of its own, so it works inside most sandboxes; it limits nothing either: from
inside it looks like a plain container whose cgroup file system is read-only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import processes

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "images"
SUITE = "trixie"
PYTHON = "3.13"
"""The Python of that suite, which the Dockerfile installs."""

TOOLS = ("buildah", "debootstrap", "apt-get")


def missing() -> str:
    """Why images cannot be built here; empty if they can."""
    if os.geteuid() != 0:
        return "debootstrap and buildah's chroot isolation need root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def _run(command: Sequence[str], seconds: float) -> str:
    """Run to the end; what it wrote to standard output. Fails with the end of all it wrote."""
    done = subprocess.run(
        ["nice", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        said = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        raise AssertionError(f"{' '.join(command[:3])} … ended with status {done.returncode}:\n{said}")
    return done.stdout.strip()


def mirror() -> str:
    """The Debian mirror that this machine itself installs from."""
    found = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Origin: Debian"], 60
    ).split()
    plain = [uri for uri in found if "security" not in uri]
    assert plain, "apt-get knows no mirror of Debian's; run apt-get update first"
    return plain[0]


def debian_base() -> Path:
    """A tar of a minimal Debian, made once and kept in the checkout's cache."""
    kept = CACHE / f"{SUITE}.tar"
    if kept.exists():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    tree = CACHE / f"{SUITE}.{os.getpid()}"
    part = tree.with_suffix(".part")
    try:
        _run(["debootstrap", "--variant=minbase", SUITE, str(tree), mirror()], 300)
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(tree / waste)
            (tree / waste).mkdir()
        _run(["tar", "-C", str(tree), "-cf", str(part), "."], 60)
        part.rename(kept)
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
    return kept


class Store:
    """Buildah's storage in ``directory``. Everything it does is given a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Layers laid over one another where that can be mounted; else each is a whole copy of the one before.
        for driver in ("overlay", "vfs"):
            self.command = ["buildah", "--root", str(directory / driver), "--runroot", str(directory / f"{driver}.run")]
            self.command += ["--storage-driver", driver]
            try:
                self.call("rm", self.call("from", "scratch"))
                break
            except AssertionError:
                if driver == "vfs":
                    raise

    def call(self, *words: str, seconds: float = 60) -> str:
        return _run([*self.command, *words], seconds)

    def import_base(self, tar: Path, name: str) -> None:
        """An image of nothing but the file system in ``tar``."""
        container = self.call("from", "scratch")
        self.call("add", "--quiet", container, str(tar), "/")
        self.call("commit", "--quiet", "--rm", container, name)

    def build(self, name: str, context: Path, arguments: Mapping[str, str], *, seconds: float) -> None:
        """``docker build`` of ``context``. Docker's format, since the other one has no health check."""
        words = ["bud", "--isolation", "chroot", "--format", "docker", "--tag", name, *self._certificates()]
        for key, value in arguments.items():
            words += ["--build-arg", f"{key}={value}"]
        self.call(*words, str(context), seconds=seconds)

    def _certificates(self) -> list[str]:
        """Mounts by which pip, inside a build, trusts whom this machine trusts."""
        trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        bundle = next((path for path in (trusted, "/etc/ssl/certs/ca-certificates.crt") if path), "")
        if not os.path.exists(bundle):
            return []
        settings = self.directory / "pip.conf"
        settings.write_text("[global]\ncert = /run/certificates.crt\n")
        return ["--volume", f"{settings}:/etc/pip.conf:ro", "--volume", f"{bundle}:/run/certificates.crt:ro"]

    def inspect(self, name: str) -> dict[str, Any]:
        """The image's ``config``, as Docker shows it."""
        config: dict[str, Any] = json.loads(self.call("inspect", "--type", "image", name))["Docker"]["config"]
        return config

    @contextlib.contextmanager
    def container(self, image: str) -> Iterator[str]:
        """A container of ``image``, made and removed."""
        name = self.call("from", image)
        try:
            yield name
        finally:
            self.call("rm", name)

    def execute(
        self, container: str, *command: str, user: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the container to its end."""
        return subprocess.run(
            self._run(container, command, user, variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextlib.contextmanager
    def running(
        self, container: str, *command: str, output: Path, user: str = "", **variables: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command in the container, and an end to all of it on the way out. It writes to ``output``."""
        with open(output, "wb") as sink:
            process = subprocess.Popen(
                self._run(container, command, user, variables),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            processes.end(process)

    def _run(self, container: str, command: Sequence[str], user: str, variables: Mapping[str, str]) -> list[str]:
        words = [*self.command, "run", "--isolation", "chroot"]
        words += ["--user", user] if user else []
        for name, value in variables.items():
            words += ["--env", f"{name}={value}"]
        return [*words, container, "--", *command]

    def remove(self) -> None:
        """Delete it all. What is still mounted inside is another file system, and is not to be deleted."""
        inside = [
            fields[4]
            for fields in (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
            if fields[4].startswith(f"{self.directory}/")
        ]
        assert not inside, f"still mounted: {inside}"
        shutil.rmtree(self.directory)


def serving(process: subprocess.Popen[bytes], output: Path, seconds: float = 30) -> processes.Process:
    """The host's own process below ``process``, once it has said that it listens: the one a signal goes to."""
    deadline = time.monotonic() + seconds
    while b"listening on" not in output.read_bytes():
        assert process.poll() is None, f"it ended with status {process.returncode}:\n{output.read_text()}"
        assert time.monotonic() < deadline, f"it does not listen after {seconds:g} s:\n{output.read_text()}"
        time.sleep(0.05)
    for member in processes.tree(process.pid):
        words = Path(f"/proc/{member.pid}/cmdline").read_bytes().split(b"\0")
        if words[1:3] == [b"/var/lang/bin/lamplighter", b"serve"]:
            return member
    return pytest.fail(f"no process of the container is a host:\n{output.read_text()}")
