"""Builds ``lamplighter._sandbox``: cffi in API mode, so that every call is checked by the C compiler.

setup.py names :data:`ffibuilder`. The declarations are the part of sandbox.h between its CDEF marks: written once.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCES = [
    "fault.c",
    "root.c",
    "nest.c",
    "spawn.c",
    "fork.c",
    "process.c",
    "disk.c",
    "network.c",
    "seccomp.c",
    "landlock.c",
    "try.c",
]
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-fvisibility=hidden"]


def declarations() -> str:
    text = (HERE / "sandbox.h").read_text()
    text = text.split("/* CDEF BEGIN */")[1].split("/* CDEF END */")[0]
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "lamplighter._sandbox",
    '#include "sandbox.h"',
    sources=[str((HERE / name).relative_to(ROOT)) for name in SOURCES],
    include_dirs=[str(HERE.relative_to(ROOT))],
    extra_compile_args=[flag for flag in FLAGS if flag != "-Wshadow"],
    py_limited_api=False,
)
