"""Makes the repository's root importable, so that test modules may share ``tests.host.serving`` and ``bench``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
pytest.register_assert_rewrite("tests.host.serving")
