"""What the teacher will see, for the user to read before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vistune.generate.injection import hostile_context
from vistune.generate.kinds import Kind
from vistune.records import ImageRecord
from vistune.scene.context import format_context

_RULE = "─" * 30


def show(records: Iterable[ImageRecord], kinds: Sequence[Kind], write: Callable[[str], None], *, whole: bool) -> None:
    """Write each kind's prompt once, then each image's context; `whole`: the few-shot examples, too.

    Nobody is asked. A client that keeps to JSON schemas is asked for the same as JSON.
    """
    for kind in kinds:
        write(f"{_RULE} {kind.name}: the prompt\n{kind.system}\n")
        for number, (asked, reply) in enumerate(zip(kind.fewshot[::2], kind.fewshot[1::2], strict=True), 1):
            if whole:
                write(f"{_RULE} {kind.name}: example {number}\n{asked.text}\n\n{_RULE} its reply\n{reply.text}\n")
        if kind.fewshot and not whole:
            write(f"… and {len(kind.fewshot) // 2} examples, which --limit 1 shows\n")
    count = there = 0
    for record in records:
        count += 1
        there += record.image.is_file()
        for names, seen in _contexts(record, kinds):
            write(f"{_RULE} image {record.id}: {', '.join(names)}\n{seen}\n")
    write(f"{count:,} images; image files: {there:,} there, {count - there:,} missing (the teacher does not need them)")


def _contexts(record: ImageRecord, kinds: Sequence[Kind]) -> Iterable[tuple[list[str], str]]:
    """Each different context of an image, with the kinds that show it."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        text = format_context(record, kind.context)
        if reasons := hostile_context(record, kind.context):
            text = f"{text}\n(quarantined, not asked about: {', '.join(reasons)})"
        elif not text:
            text = f"(not asked about: it has no {' and no '.join(kind.context)})"
        found.setdefault(text, []).append(kind.name)
    return [(names, text) for text, names in found.items()]
