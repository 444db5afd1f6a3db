"""CHAIR: the objects that a detailed description hallucinates, and those that it misses (Rohrbach et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vistune.evaluate.benchmarks import Setting, benchmarks
from vistune.evaluate.statistics import Measure, ratio, share
from vistune.records import ImageRecord, Question, Verdict
from vistune.scene.english import listed
from vistune.scene.mentions import MentionFinder, vocabulary

PROMPT = "Please describe this image in detail."
"""One of the teacher's questions for detailed descriptions (generate/prompts/detail)."""


@benchmarks.register("chair")
class Chair:
    """A detailed description of every image; the objects that it mentions are compared with the boxes."""

    max_new_tokens: int = 192

    def __init__(self, records: Sequence[ImageRecord], setting: Setting) -> None:
        self.finder = MentionFinder(vocabulary(records))
        images = {f"{one.id}/detail": one for one in sorted(records[: setting.limit], key=lambda one: one.image)}
        self._present = {name: tuple(dict.fromkeys(box.category for box in one.boxes)) for name, one in images.items()}
        """The categories in each question's image, in the order of its boxes, crowds included."""
        self.questions: Sequence[Question] = [
            Question(name, one.image, PROMPT, "detail", ", ".join(self._present[name])) for name, one in images.items()
        ]

    def judge(self, question: Question, text: str) -> Verdict:
        """Right if all objects that it mentions are in the image; unscored if it mentions no annotated category."""
        mentioned, present = self.finder.find(text), self._present[question.id]
        if not mentioned:
            return Verdict(question.id, None, "mentions no known object")
        absent = [name for name in dict.fromkeys(mentioned) if name not in present]
        missing = [name for name in present if name not in mentioned]
        reasons = [f"hallucinated: {listed(absent)}"] if absent else []
        reasons += [f"missed: {listed(missing)}"] if missing else []
        return Verdict(question.id, not absent, "; ".join(reasons) or "all objects and no others")

    def measure(self, texts: Sequence[str]) -> Mapping[str, Measure]:
        """`chair` (CHAIR_i: share of all mentions that are not in the image), `chair_s` (CHAIR_s: share of the
        descriptions with such a mention) and `recall` (share of the categories in the images that are mentioned).

        Descriptions without a mention count in `recall` alone: silence is no evidence of not hallucinating.
        """
        mentions, recalled, hallucinated = [], [], []
        for question, text in zip(self.questions, texts, strict=True):
            mentioned, present = self.finder.find(text), self._present[question.id]
            absent = sum(name not in present for name in mentioned)
            mentions.append((absent, len(mentioned)))
            recalled.append((sum(name in mentioned for name in present), len(present)))
            hallucinated += [absent > 0] if mentioned else []
        return {"chair": ratio(mentions), "chair_s": share(hallucinated), "recall": ratio(recalled)}
