"""The page: whole in itself, and as a browser draws it."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.measure.conftest import Measured

from lamplighter.measure import drawing
from lamplighter.measure.page import page
from lamplighter.measure.profile import Import, Profile

pytestmark = pytest.mark.timeout(300)

VOID = {"meta"}

PROBE = """<script>
const faults = [];
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  if (frame.width < 300 || frame.height < 20) faults.push("a drawing of " + frame.width + " x " + frame.height);
  for (const mark of svg.querySelectorAll("rect, text, circle")) {
    const box = mark.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1)
      faults.push((mark.textContent || mark.tagName) + " lies outside of its drawing");
  }
}
const rows = Array.from(document.querySelectorAll("table"), table => table.rows.length);
const wide = document.documentElement.scrollWidth > window.innerWidth;
const found = {svgs: document.querySelectorAll("svg").length, rows, wide, faults, title: document.title};
document.body.textContent = "<<<" + JSON.stringify(found) + ">>>";
</script>"""


class Reader(html.parser.HTMLParser):
    """Notes what a page refers to, its tags in order, and whether every one that opens is closed by its own."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.unbalanced: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [str(value) for name, value in attrs if name in {"src", "href", "action", "data"}]
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.opened.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.opened or self.opened.pop() != tag:
            self.unbalanced.append(tag)


def _read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def test_the_page_refers_to_nothing_and_runs_nothing(measured: Measured) -> None:
    text = page(measured.result, measured.profile)
    reader = _read(text)
    assert reader.references == []
    assert "script" not in reader.tags and "url(" not in text and "@import" not in text
    assert reader.unbalanced == [] and reader.opened == []
    assert reader.tags.count("svg") == 5, "starts, two kinds of stages, memory, imports"


def test_the_page_holds_the_figures_of_the_result(measured: Measured) -> None:
    text = page(measured.result, measured.profile)
    for one in measured.result.summaries().values():
        assert f"<td>{drawing.figure(one.p50)}</td>" in text
    assert "10,240 MB" in text
    assert "2 recorded events" in text


def test_names_are_shown_as_they_are_whatever_is_in_them() -> None:
    evil = Profile("a<b>&'\".handler", 1.0, [Import("x</title><script>", 1.0, 0.0, used=True)], 1, ["<i>fault"])
    reader = _read(text := page(None, evil))
    assert "script" not in reader.tags and "i" not in reader.tags
    assert reader.unbalanced == [] and reader.opened == []
    assert "a&lt;b&gt;&amp;" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (12.34, "12.3"), (123.4, "123"), (12345.0, "12,345")],
)
def test_a_figure_has_three_digits_that_matter(value: float, shown: str) -> None:
    assert drawing.figure(value) == shown


def test_samples_on_the_logarithmic_axis_lie_in_their_order_and_inside() -> None:
    drawn = drawing.distributions({"a": [0.1, 1.0, 10.0], "b": [100.0]}, "ms", "label")
    places = [float(x) for x in re.findall(r'<circle cx="([0-9.]+)"', drawn)]
    assert places == sorted(places)
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2), "a decade is a decade"
    assert places[0] > 0 and places[-1] < drawing.WIDTH


@pytest.mark.parametrize("width", [960, 400])
def test_a_real_browser_draws_the_page_whole(measured: Measured, tmp_path: Path, width: int) -> None:
    browser = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no chromium is installed")
    file = tmp_path / "page.html"
    file.write_text(page(measured.result, measured.profile).replace("</body>", PROBE + "</body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},3000", file.as_uri()]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    found = re.search(r"&lt;&lt;&lt;(.*)&gt;&gt;&gt;", done.stdout, re.DOTALL)
    assert found is not None, f"status {done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}"
    seen = json.loads(found[1])
    assert seen["faults"] == []
    assert (seen["svgs"], seen["wide"]) == (5, False)
    assert seen["title"] == "app.handler · Lamplighter"
    assert min(seen["rows"]) > 1
