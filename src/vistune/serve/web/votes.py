"""Votes of the page's users, as lines of JSON: no address and no image is stored, only an image's hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vistune.errors import DataError
from vistune.serve.web.messages import Message, files_of, image_hash, is_remark, questions, text_of
from vistune.storage import append_text

POINTS: Mapping[str, tuple[float, float]] = {
    "A is better": (1, 0), "B is better": (0, 1), "Tie": (0.5, 0.5), "Both are bad": (0, 0),
}  # fmt: skip
"""What the left and the right answer get for each vote."""


class Votes:
    """Appends votes on one model's answers, or between two models', to a file. Raises DataError if it cannot."""

    def __init__(self, path: Path, models: Sequence[str]) -> None:
        self._path, self._models = path, tuple(models)
        try:
            path.touch()
        except OSError as error:
            raise DataError(
                f"votes cannot be written there: {error.strerror}",
                where=str(path),
                fix="name another file with --votes",
            ) from None

    def rate(self, history: Sequence[Message], place: int, vote: str) -> None:
        """A vote on the answer at `place`; "" withdraws it. Raises VistuneError."""
        shown = [one for one in history[: place + 1] if not is_remark(one)]
        messages = [{"role": one["role"], "content": text_of(one)} for one in shown]
        row = {"model": self._models[0], "vote": vote, "images": _images(shown), "messages": messages}
        self._append(row)

    def prefer(self, left: Sequence[Message], right: Sequence[Message], vote: str, swapped: bool) -> None:
        """A vote between the last answers; `swapped`: the second model's is left. Raises VistuneError.

        The row is a review in Vicuna's shape, which `vistune rescore` reads: answer 1 is always the first model's,
        and the scores are a point for the better answer, half a point each for a tie.
        """
        points = POINTS[vote]
        first, second = (right, left) if swapped else (left, right)
        asked, images = [text_of(first[place]) for place in questions(first)], _images(first)
        identity = json.dumps([images, asked], ensure_ascii=False)
        row: dict[str, Any] = {
            "question_id": hashlib.sha256(identity.encode()).hexdigest()[:16],
            "answer1_id": self._models[0], "answer2_id": self._models[1],
            "tuple": points[::-1] if swapped else points,
            "question": asked[-1], "answer1": text_of(first[-1]), "answer2": text_of(second[-1]),
            "turn": len(asked), "left": self._models[swapped],
        }  # fmt: skip
        self._append(row | ({"image": " ".join(images)} if images else {}))

    def _append(self, row: Mapping[str, Any]) -> None:
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **row}, ensure_ascii=False)
        append_text(self._path, line + "\n")


def _images(history: Sequence[Message]) -> list[str]:
    return [image_hash(path) for one in history for path in files_of(one)]
