"""Pages that are readable from disk without a network. All HTML is rendered here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vistune.errors import VistuneError
from vistune.resources import read_text
from vistune.storage import OVERWRITE, atomic_text

_MARK, _HEAD = b'<meta name="generator" content="vistune">', 4096
"""By which a page is known, and the number of bytes in which it occurs."""


def render(template: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """A page of this package's folder `templates`; every value is escaped.

    `scripts` are files of that folder. Joined they are the page's one `script`, and `digest` is its hash: the page's
    security policy lets nothing else run.
    """
    script = "".join(read_text("vistune.pages", f"templates/{name}") for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _environment().get_template(template).render(script=Markup(script), digest=digest, **values)


def write_page(path: Path, html: str, *, overwrite: bool = False) -> None:
    """Write a rendered page. Raises what `check_page` raises, StorageError if the disk is full."""
    check_page(path, overwrite=overwrite)
    with atomic_text(path) as file:
        file.write(html)


def check_page(path: Path, *, overwrite: bool) -> None:
    """Raise VistuneError if a page would replace a file that is none, without `overwrite`."""
    if not overwrite and path.exists() and not _is_page(path):
        raise VistuneError("there is a file that is no page of vistune", where=str(path), fix=OVERWRITE)


def _is_page(path: Path) -> bool:
    """Whether a file begins as the templates do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _MARK in file.read(_HEAD)


def draw_boxes(boxes: Sequence[Mapping[str, Any]], width: int, height: int) -> str:
    """The SVG picture of boxes from `place_boxes`, to lie over their image."""
    return str(_environment().get_template("boxes.html").module.draw_boxes(boxes, width, height))  # type: ignore[attr-defined]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vistune.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "along": along, "as_data": as_data}
    return environment


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"


def along(value: float, start: float, end: float) -> str:
    """The place of a value on an axis from `start` to `end`, in per cent of its length; that of an end if outside."""
    return f"{min(100.0, max(0.0, 100 * (value - start) / (end - start))):.1f}"


def as_data(value: Any) -> Markup:
    """A value as JSON for a script element: without `<`, no text can end the element."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
