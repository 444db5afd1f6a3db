"""What `vistune generate` says at its end: where everything is, what was left out, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vistune.generate.report import Report
    from vistune.generate.task import Outcome, Task


def tell(task: Task, outcome: Outcome) -> None:
    """Say all of it. Raises what ended the run early."""
    from vistune.formats.conversations import output_path

    out, style = task.out, task.style
    stages = {f"stage {n}": output_path(out / name, style.format) for n, name in enumerate(("align", "instruct"), 1)}
    for what, path in {**stages, "report": out / "report.html", "images": style.images}.items():
        print(f"{what}: {path}")
    if outcome.spent:
        print(f"spent: {outcome.spent}")
    if outcome.reasons:
        print("sent again or given up: " + ", ".join(f"{name} {n:,}" for name, n in outcome.reasons.items()))
    for line in _left_out(task, outcome.report):
        print(line)
    if outcome.ended:
        raise outcome.ended
    if pending := outcome.report.totals()["pending"]:
        print(f"{pending:,} samples are pending: {_next(task, outcome)}")


def _left_out(task: Task, report: Report) -> Iterator[str]:
    """What the data does not have that the kinds, or the teacher, need."""
    if report.without_context:
        yield f"{report.without_context:,} samples not asked for: the image has nothing that the kind shows"
    empty = sum(kind.reasons["empty_reply"] for kind in report.kinds.values())
    if empty and task.client.name == "symbolic":
        yield (
            f"{empty:,} samples are empty (empty_reply): the symbolic teacher writes from boxes, and there are none\n"
            "  fix: name a --teacher; language models write from captions, too (docs/generate.md)"
        )


def _next(task: Task, outcome: Outcome) -> str:
    """How to get what is pending."""
    if not outcome.out_of_budget:
        return f"to get them, run the same command again{' without --pilot' if task.pilot is not None else ''}"
    from vistune.generate.budget import Budget
    from vistune.generate.estimate import dearest
    from vistune.generate.price import NOTHING

    most = dearest(task.plan(), Budget(NOTHING, task.limits, remote=task.client.remote))
    return f"the cap allows no other request, which may cost {most}; raise it and run the same command again"
