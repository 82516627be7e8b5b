"""Builds the native parts; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.build import build


class BuildKeeper(Command):
    """Compile native/sandbox/keeper.c, a program rather than an extension, into the package as ``_keeper``."""

    description = "build the keeper, process 1 of every sandbox"
    user_options: ClassVar[list[tuple[str, str, str]]] = []
    build_lib: str | None = None
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = Path("runtime" if self.editable_mode else self.build_lib or "build") / "lamplighter" / "_keeper"
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc").split()
        freestanding = [
            "-nostdlib",
            "-static",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fno-asynchronous-unwind-tables",
        ]
        machine = subprocess.run([*compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
        if not machine.startswith(("x86_64", "aarch64")):
            freestanding = []
        subprocess.run(
            [
                *compiler,
                "-Os",
                "-Wall",
                "-Wextra",
                "-Werror",
                *freestanding,
                "-s",
                "-o",
                str(target),
                "native/sandbox/keeper.c",
            ],
            check=True,
        )

    def get_source_files(self) -> list[str]:
        return ["native/sandbox/keeper.c"]

    def get_outputs(self) -> list[str]:
        return [str(Path(self.build_lib or "build") / "lamplighter" / "_keeper")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


def extension(name: str, directory: str) -> Extension:
    """The C sources of a directory under native/ as one extension module of the package."""
    return Extension(
        f"lamplighter.{name}",
        sources=sorted(str(path) for path in Path(directory).glob("*.c")),
        depends=sorted(str(path) for path in Path(directory).glob("*.h")),
        extra_compile_args=[
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wstrict-prototypes",
            "-fvisibility=hidden",
        ],
    )


build.sub_commands.append(("build_keeper", None))
setup(
    ext_modules=[
        extension("_events", "native/events"),
        extension("_http", "native/http"),
        extension("_template", "native/template"),
    ],
    cffi_modules=["native/sandbox/build.py:ffibuilder"],
    cmdclass={"build_keeper": BuildKeeper},
)
