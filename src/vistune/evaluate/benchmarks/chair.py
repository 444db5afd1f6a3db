"""CHAIR: the objects that a detailed description hallucinates, and those that it misses (Rohrbach et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from vistune.evaluate.benchmarks import Benchmark, Metric, Scored, benchmarks
from vistune.evaluate.statistics import Measure, share, share_of_counts
from vistune.records import Question, Verdict
from vistune.scene.english import listed
from vistune.scene.mentions import MentionFinder, vocabulary

PROMPT = "Please describe this image in detail."
"""One of the teacher's questions for detailed descriptions (generate/prompts/detail)."""


@benchmarks.register("chair")
class Chair(Benchmark):
    """A detailed description of every image; the objects that it mentions are compared with those of the image.

    These are, as in the official code, the boxes and the objects that the captions mention; with the option
    `chair_truth` "boxes" the boxes alone.
    """

    max_new_tokens: int = 192

    @cached_property
    def _finder(self) -> MentionFinder:
        return MentionFinder(vocabulary(self.setting.records))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What counts as in the image."""
        return {"truth": "boxes and captions" if self._with_captions else "boxes"}

    @property
    def _with_captions(self) -> bool:
        return self.setting.options.get("chair_truth") != "boxes"

    def questions(self) -> Iterable[Question]:
        """One for each image; the references are its categories: those of its boxes, crowds included, then others."""
        for record in self.setting.records:
            captions = record.captions if self._with_captions else ()
            mentioned = [name for caption in captions for name in self._finder.find(caption)]
            present = tuple(dict.fromkeys([*(box.category for box in record.boxes), *mentioned]))
            yield Question(f"{record.id}/detail", PROMPT, (record.image,), references=present)

    def score(self, question: Question, answer: str) -> Verdict:
        """Right if all objects that it mentions are in the image; unscored if it mentions no annotated category."""
        mentioned, present = self._finder.find(answer), question.references
        absent = [name for name in mentioned if name not in present]
        missing = [name for name in present if name not in mentioned]
        parts = {
            "mentions": len(mentioned), "hallucinated": len(absent),
            "present": len(present), "recalled": len(present) - len(missing),
        }  # fmt: skip
        if not mentioned:
            return Verdict(None, explanation="mentions no known object", parts=parts)
        reasons = [f"hallucinated: {listed(list(dict.fromkeys(absent)))}"] if absent else []
        reasons += [f"missed: {listed(missing)}"] if missing else []
        explanation = "; ".join(reasons) or "all objects and no others"
        return Verdict(float(not absent), listed(list(dict.fromkeys(mentioned))), explanation, parts)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`chair` (CHAIR_i: share of all mentions that are not in the image), `chair_s` (CHAIR_s: share of the
        descriptions with such a mention) and `recall` (share of the categories in the images that are mentioned).

        Descriptions without a mention count in `recall` alone: silence is no evidence of not hallucinating.
        """
        return {
            "chair": _ratio("hallucinated", "mentions"),
            "chair_s": _hallucinating,
            "recall": _ratio("recalled", "present"),
        }


def _ratio(part: str, whole: str) -> Metric:
    def metric(scored: Sequence[Scored]) -> Measure:
        parts = [(one.verdict.parts[part], one.verdict.parts[whole]) for one in scored]
        return share_of_counts(parts, [one.question.cluster for one in scored])

    return metric


def _hallucinating(scored: Sequence[Scored]) -> Measure:
    known = [one for one in scored if one.verdict.value is not None]
    return share([not one.verdict.value for one in known], [one.question.cluster for one in known])
