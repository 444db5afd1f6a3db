"""Pages that are one HTML file with everything in it, readable without a network."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """The templates of `package` (its folder `templates`) and those that all pages share; everything is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("vistune.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"
