"""One store for all: the base, the image and the example built once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.images import building
from tests.images.building import Store

BASE, IMAGE, EXAMPLE = "localhost/debian", "localhost/lamplighter", "localhost/greeter"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Holds the three images."""
    if reason := building.missing():
        pytest.skip(reason)
    made = Store(tmp_path_factory.mktemp("images"))
    try:
        made.import_base(building.debian_base(), BASE)
        made.build(IMAGE, building.ROOT, {"BASE": BASE, "PYTHON": building.PYTHON}, seconds=400)
        made.build(EXAMPLE, building.ROOT / "examples" / "image", {"BASE": IMAGE}, seconds=60)
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def container(store: Store) -> Iterator[str]:
    """A container of the example, for one command at a time."""
    with store.container(EXAMPLE) as name:
        yield name


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where a container's command writes to."""
    return tmp_path / "output"
