"""A pytest plugin for runs under qemu-user: a test that needs what the emulator does not have is skipped, by name.

qemu-user emulates ``clone`` as fork or as thread creation, and refuses other flags with EINVAL; ``clone3`` and the
child subreaper it does not have. So nothing here can make a namespace or a pidfd of a child, and a test that gets so
far ends with the native code's own words for it. Any other failure stays one.

Emulation is some twenty times slower: properties are tried on fewer examples, and none is too slow.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("emulated", max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("emulated")

_NOT_EMULATED = re.compile(
    r"cannot (clone [^:\n]*|become a child subreaper): (Invalid argument|Function not implemented)"
)
REASON = "qemu-user cannot clone into namespaces or with a pidfd, nor adopt orphans"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _NOT_EMULATED.search(str(report.longrepr)):
        report.outcome = "skipped"
        where: Any = (str(item.path), item.location[1] or 0, f"Skipped: {REASON}")
        report.longrepr = where
    return report
