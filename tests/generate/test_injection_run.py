"""Captions with instructions, and a real server that follows them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generating import report, run
from teacher_server import teaching
from vistune.generate.kinds import Prompts

CAPTIONS = [json.loads(line)["caption"] for line in Path(__file__).with_name("hostile_captions.jsonl").open()]


def test_an_obedient_teacher_s_replies_are_filtered(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(number), "image": f"{number}.jpg", "captions": [text, "A dog lies on a rug."]}
        for number, text in enumerate(CAPTIONS)
    ]
    rows.append({"id": "plain", "image": "plain.jpg", "captions": ["A dog lies on a rug.", "A brown dog."]})
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with teaching(obedient=True) as teacher:
        line = [sys.executable, "-m", "vistune.cli", "generate", str(data), "--source", "captions", "--out", str(out)]
        line += ["--kinds", "conversation=all,detail=all"]
        run([*line, "--teacher", "openai:teacher-1", "--base-url", f"{teacher.url}/v1"])
        sent = teacher.stats["requests"]
    found = report(out)
    samples = 2 * len(CAPTIONS)
    assert found["asked"] == samples + 2
    assert found["quarantined"] >= 0.95 * samples
    assert sent <= found["asked"] + 1 - found["quarantined"] + 2 * len(CAPTIONS) * 0.05  # the probe; no extra calls
    accepted = json.loads((out / "instruct.json").read_text())
    assert {row["id"].split("-")[0] for row in accepted} >= {"plain"}
    for row in accepted:
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (len(row["conversations"]) // 2)
        text = " ".join(turn["value"] for turn in row["conversations"])
        for kind in ("conversation", "detail"):
            words = Prompts().load(kind).system.split()
            runs = (" ".join(words[start : start + 8]) for start in range(len(words) - 7))
            assert not any(one in text for one in runs)
