"""Pages that are one HTML file with everything in it, readable without a network. All HTML is rendered here."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """A page of this package's folder `templates`; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("vistune.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**values)


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"
