"""A run of `generate` whose captions, categories and replies attack the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vistune.formats.conversations import to_json, write_conversations
from vistune.generate.judge import JudgedSample
from vistune.records import Box, Conversation, ImageRecord, Turn
from vistune.storage import atomic_text

ATTACKS = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    '"><svg onload=window.hacked=1>',
    "</script><script>window.hacked = 1</script>",
    "{{ 7 * 7 }}{% raw %} ${window.hacked = 1}",
    "</style><body onload='window.hacked = 1'>",
    "javascript:window.hacked=1 <a href='javascript:window.hacked=1'>a</a>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
)


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    """Sixteen images, the last of which is not there."""
    folder = tmp_path_factory.mktemp("images")
    records = []
    for number in range(16):
        attack = ATTACKS[number % len(ATTACKS)]
        boxes = (Box(attack, 0.1, 0.2, 0.5, 0.7), Box("dog", 0.4, 0.4, 0.9, 0.9))
        path = folder / f"{number}.png"
        if number < 15:
            Image.new("RGB", (64, 48), (16 * number, 100, 150)).save(path)
        records.append(ImageRecord(str(number), path, 64, 48, (f"A dog {attack}", attack), boxes))
    return records


@pytest.fixture(scope="session")
def run(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `generate` leaves it, two samples an image: of four images the first three are accepted."""
    out = tmp_path_factory.mktemp("run")
    judged = [_judged(record, kind) for record in records for kind in ("conversation", "detail")]
    accepted = [one for one in judged if one.verdict == "accepted"]
    turns = [(Turn("user", f"{one.turns[0].text}\n<image>"), one.turns[1]) for one in accepted]
    shown = [
        Conversation(one.id, said, (str(one.about["image"]),), one.kind)
        for one, said in zip(accepted, turns, strict=True)
    ]
    write_conversations(shown, out / "instruct")
    with atomic_text(out / "provenance.jsonl") as kept, atomic_text(out / "rejected.jsonl") as rejected:
        for one in judged:
            if one.verdict == "accepted":
                kept.write(to_json(one.about) + "\n")
            else:
                rejected.write(to_json({**one.about, "text": one.text}) + "\n")
    return out


def _judged(record: ImageRecord, kind: str) -> JudgedSample:
    bad = int(record.id) % 4 == 3
    attack = record.captions[1]
    about = {"id": f"{record.id}-{kind}", "record": record.id, "kind": kind, "model": "<i>model</i>"}
    about |= {"image": record.image.name, "verdict": "filtered" if bad else "accepted"}
    turns = (Turn("user", f"What is {attack}?"), Turn("assistant", f"Number {record.id} is {attack}, no more."))
    return JudgedSample({**about, "reasons": ["leak", "refusal"] if bad else []}, turns, f"===\n{attack}")
