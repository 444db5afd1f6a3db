"""CHAIR: which objects a detailed description makes up, and which it leaves out (Rohrbach et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.statistics import Measure, ratio, share
from vistune.records import ImageRecord, Question, Verdict
from vistune.scene.english import listed
from vistune.scene.mentions import MentionFinder, vocabulary


@benchmarks.register("chair")
class Chair:
    """Asks for a detailed description of every image and compares the objects it mentions with the boxes."""

    max_new_tokens: int = 192

    def __init__(self, records: Sequence[ImageRecord], setting: Setting) -> None:
        self.finder = MentionFinder(vocabulary(records))
        asked = sorted(records[: setting.limit], key=lambda record: record.image)
        self.questions: Sequence[Question] = [
            Question(f"{record.id}/detail", record.image, setting.describe, "detail", ", ".join(_present(record)))
            for record in asked
        ]
        self._present = {f"{record.id}/detail": _present(record) for record in asked}

    def judge(self, question: Question, text: str) -> Verdict:
        """Right if everything it mentions is there; unscored if it mentions nothing that the data annotates."""
        mentioned, present = self.finder.find(text), self._present[question.id]
        if not mentioned:
            return Verdict(question.id, None, "mentions no known object")
        absent = [name for name in dict.fromkeys(mentioned) if name not in present]
        missing = [name for name in present if name not in mentioned]
        told = [f"not there: {listed(absent)}"] if absent else []
        told += [f"left out: {listed(missing)}"] if missing else []
        return Verdict(question.id, not absent, "; ".join(told) or "everything and nothing else")

    def measure(self, texts: Sequence[str]) -> Mapping[str, Measure]:
        """`chair` (of all mentions, the share not in the image: CHAIR_i), `chair_s` (of all descriptions, the share
        with such a mention) and `recall` (of all categories present, by image, the share mentioned).

        Descriptions that mention nothing count in `recall` alone: silence is no evidence of not hallucinating.
        """
        wrong, found, made_up = [], [], []
        for question, text in zip(self.questions, texts, strict=True):
            mentioned, present = self.finder.find(text), self._present[question.id]
            absent = sum(name not in present for name in mentioned)
            wrong.append((absent, len(mentioned)))
            found.append((sum(name in mentioned for name in present), len(present)))
            made_up += [absent > 0] if mentioned else []
        return {"chair": ratio(wrong), "chair_s": share(made_up), "recall": ratio(found)}


def _present(record: ImageRecord) -> tuple[str, ...]:
    """The categories in the image, in the order of its boxes; a crowd's objects are there as well."""
    return tuple(dict.fromkeys(box.category for box in record.boxes))
