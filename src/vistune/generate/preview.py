"""The prompts and contexts that a teacher gets, for the user to read before any request is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vistune.generate.injection import hostile_context
from vistune.generate.kinds import Kind
from vistune.records import ImageRecord
from vistune.scene.context import format_context

_RULE = "─" * 30


def preview(
    records: Iterable[ImageRecord], kinds: Sequence[Kind], write: Callable[[str], None], *, examples: bool
) -> None:
    """Write each kind's prompt once, with its few-shot `examples` if wanted, then each image's context.

    No request is sent. A client that enforces JSON schemas gets the same with the JSON format.
    """
    for kind in kinds:
        write(f"{_RULE} {kind.name}: the prompt\n{kind.system}\n")
        for number, (seen, reply) in enumerate(zip(kind.fewshot[::2], kind.fewshot[1::2], strict=True), 1):
            if examples:
                write(f"{_RULE} {kind.name}: example {number}\n{seen.text}\n\n{_RULE} its reply\n{reply.text}\n")
        if kind.fewshot and not examples:
            write(f"… and {len(kind.fewshot) // 2} examples, which --limit 1 shows\n")
    count = there = 0
    for record in records:
        count += 1
        there += record.image.is_file()
        for context, names in _contexts(record, kinds).items():
            write(f"{_RULE} image {record.id}: {', '.join(names)}\n{context}\n")
    write(f"{count:,} images; image files: {there:,} there, {count - there:,} missing (the teacher does not need them)")


def _contexts(record: ImageRecord, kinds: Sequence[Kind]) -> dict[str, list[str]]:
    """Each different context of an image, with the names of the kinds that show it."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        text = format_context(record, kind.context)
        if reasons := hostile_context(record, kind.context):
            text = f"{text}\n(quarantined, no request: {', '.join(reasons)})"
        elif not text:
            text = f"(no request: the image has no {' and no '.join(kind.context)})"
        found.setdefault(text, []).append(kind.name)
    return found
