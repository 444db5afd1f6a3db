"""What a teacher may write and a visual assistant must not learn: each filter is a function with a reason code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vistune.generate.filters.absence import wrong_absence
from vistune.generate.filters.counting import wrong_count
from vistune.generate.filters.echo import echo, repetition
from vistune.generate.filters.form import repeated_turn, too_long, too_short, truncated, turn_count, turn_order
from vistune.generate.filters.grounding import ungrounded, wrong_box
from vistune.generate.filters.placing import wrong_place
from vistune.generate.filters.sample import Sample
from vistune.generate.filters.wording import has_role_marker, leak, refusal, role_confusion, role_marker, wrong_language

__all__ = ["FILTERS", "Sample", "has_role_marker", "reasons"]

FILTERS: Mapping[str, Callable[[Sample], bool]] = {
    "turn_order": turn_order,
    "turn_count": turn_count,
    "role_marker": role_marker,
    "role_confusion": role_confusion,
    "leak": leak,
    "refusal": refusal,
    "wrong_language": wrong_language,
    "echo": echo,
    "truncated": truncated,
    "repetition": repetition,
    "repeated_turn": repeated_turn,
    "too_short": too_short,
    "too_long": too_long,
    "ungrounded": ungrounded,
    "wrong_count": wrong_count,
    "wrong_place": wrong_place,
    "wrong_absence": wrong_absence,
    "wrong_box": wrong_box,
}
"""Each reason code with its filter. A rejected sample counts under the first one that rejects it."""


def reasons(sample: Sample) -> tuple[str, ...]:
    """The reason codes of all filters that reject the sample; empty for an accepted one."""
    return tuple(code for code, rejects in FILTERS.items() if rejects(sample))
