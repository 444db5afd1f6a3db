"""The generated reference is current, and the documentation's links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks" / "results").glob("*.md"), ROOT / "README.md"]


def test_the_generated_pages_are_current() -> None:
    for name, content in runpy.run_path(str(ROOT / "tools" / "reference.py"))["pages"]().items():
        written = (ROOT / "docs" / "reference" / name).read_text("utf-8")
        assert written.strip() == content.strip(), f"{name}: run `python tools/reference.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_names_of_files_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / link if link else page
        assert target.exists(), f"{link} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for name in re.findall(r"`((?:docs|benchmarks|tests)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), f"{name} does not exist"
