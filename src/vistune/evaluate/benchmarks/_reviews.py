"""An answer and the reference before a judge that reads text only: the prompts, the verdict, the metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Metric, Scored, Setting
from vistune.evaluate.benchmarks._helpers import read_json
from vistune.evaluate.reviews import Pair, first_line_scores, read_scores, relative_score, valid
from vistune.evaluate.statistics import NOTHING, Measure, krippendorff_alpha, length_controlled, mean, ratio, share
from vistune.llm import Request
from vistune.records import Question, Turn, Verdict
from vistune.resources import read_text

ORDERS = ("reference first", "answer first")
MAX_TOKENS, TEMPERATURE = 1024, 0.2
"""As in the official code."""
_OURS = ("conv", "detail", "complex", "default")


class Rule(NamedTuple):
    """What a judge is to do with two answers, and what it calls those who gave them (`Assistant`)."""

    role: str
    prompt: str


def load_rules(path: Path | None) -> dict[str, Rule]:
    """The rules by category: of a file like LLaVA's rule.json, `{CATEGORY: {"role", "prompt"}}`, or our own.

    Raises DataError.
    """
    if path is None:
        return {name: Rule("Assistant", _ours(name)) for name in _OURS}
    content = read_json(path)
    try:
        return {name: Rule(str(one["role"]), str(one["prompt"])) for name, one in content.items()}
    except (AttributeError, KeyError, TypeError):
        fix = 'write {"conv": {"role": "Assistant", "prompt": "…"}, …}'
        raise DataError("these are not a judge's rules", where=str(path), fix=fix) from None


def _ours(name: str) -> str:
    return read_text("vistune.evaluate.benchmarks", f"judge_rules/{name}.txt").strip()


class PairJudge:
    """Scores answers against the first reference of their question; `details["context"]` is the image in words.

    With the protocol `both-orders` each pair is judged twice, the reference first and the answer first, and the scores
    are averaged; `paper` is the official protocol: the reference first, verdicts on the first line only, rounding.
    Several judges are a panel with the mean of their scores. A pair is scored by all of them, in all orders, or not at
    all: a judge's harshness and its bias for one place must not depend on the question.

    `prefix` is what the rules for this benchmark's categories begin with (`llava_bench_`). Raises DataError without a
    judge, and for a file of rules that cannot be used.
    """

    def __init__(self, setting: Setting, *, prefix: str = "") -> None:
        if setting.judges is None:
            raise DataError("a judge scores the answers of this benchmark", fix="add --judge MODEL")
        self._judges, self._seed, self._prefix = setting.judges, setting.seed, prefix
        self._file = setting.options.get("rules")
        self._rules = load_rules(Path(self._file) if self._file else None)
        self._paper = setting.options.get("protocol") == "paper"
        self._orders = ORDERS[:1] if self._paper else ORDERS
        self._max_tokens = setting.options.get("max_tokens") or MAX_TOKENS

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The judges, their rules by a hash, the orders, how replies are read and scores rounded."""
        rules = json.dumps([_ours("system"), self._rules], sort_keys=True)
        return {
            "judges": sorted(self._judges.names),
            "rules": hashlib.sha256(rules.encode()).hexdigest()[:16],
            "orders": list(self._orders),
            "verdict": "on the first line, official rounding" if self._paper else "anywhere, ratio of sums",
            "max_tokens": self._max_tokens,
            "temperature": TEMPERATURE,
        }

    def prepare(self, answers: Sequence[tuple[Question, str]]) -> None:
        """Have the answers judged, as far as there is no stored reply."""
        requests = [self._request(*one, order) for one in answers for order in self._orders]
        self._judges.ask(requests, self._accept)

    def verdict(self, question: Question, answer: str) -> Verdict:
        """A tenth of the mean of the answer's scores; unscored where a judge's reply cannot be read.

        Parts: the mean points of `answer` and `reference`, the `words` of both, and each judge's points in each order
        (`JUDGE/ORDER/answer`).
        """
        points: dict[str, float] = {}
        texts, problems = [], []
        for order in self._orders:
            request = self._request(question, answer, order)
            for name, text in self._judges.replies(request, self._accept).items():
                if text is None:
                    problems.append(f"{name}, {order}: {self._judges.problem(name, request)}")
                    continue
                first, second = self._read(text) or (0.0, 0.0)
                reference, own = (first, second) if order == ORDERS[0] else (second, first)
                points |= {f"{name}/{order}/reference": reference, f"{name}/{order}/answer": own}
                texts.append(f"{name}, {order}:\n{text}")
        words = {"words": len(answer.split()), "reference_words": len(question.references[0].split())}
        if problems:
            return Verdict(None, "", "; ".join(problems), points | words)
        means = {side: _mean([value for key, value in points.items() if key.endswith(side)]) for side in _SIDES}
        text = f"{means['answer']:g} points, the reference {means['reference']:g}"
        return Verdict(means["answer"] / 10, text, "\n\n".join(texts), means | words | points)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """`relative_score` of the answers, `answer_score` and `reference_score` (means, in tenths of 10 points),
        `length_controlled` (the relative score if answer and reference were equally long), `length_difference` (words
        of the answers beyond those of the references, over these), and where there are two orders or judges:
        `flip_rate` (share of the judgements whose winner, or tie, depends on the order) and `judge_agreement`
        (Krippendorff's alpha of all scores).
        """
        found: dict[str, Metric] = {
            "relative_score": lambda scored: relative_score(_pairs(scored), official=self._paper),
            "answer_score": lambda scored: mean(*_values(scored, "answer")),
            "reference_score": lambda scored: mean(*_values(scored, "reference")),
            "length_controlled": _length_controlled,
            "length_difference": _length_difference,
        }
        if len(self._orders) > 1:
            found["flip_rate"] = _flip_rate
        if len(self._judges.names) > 1:
            found["judge_agreement"] = _agreement
        return found

    def _request(self, question: Question, answer: str, order: str) -> Request:
        rule = self._rule(question.type)
        answers = [question.references[0], answer]
        first, second = answers if order == ORDERS[0] else reversed(answers)
        content = (
            f"[Context]\n{question.details['context']}\n\n[Question]\n{question.text}\n\n"
            f"[{rule.role} 1]\n{first}\n\n[End of {rule.role} 1]\n\n"
            f"[{rule.role} 2]\n{second}\n\n[End of {rule.role} 2]\n\n"
            f"[System]\n{rule.prompt}\n\n"
        )
        kind = "review" if order == ORDERS[0] else "review-swapped"
        return Request(
            _ours("system"), (Turn("user", content),), kind, self._seed, question.id, self._max_tokens, TEMPERATURE
        )

    def _rule(self, category: str) -> Rule:
        names = (self._prefix + category, category, f"llava_bench_{category}", "default")
        for name in names:
            if name in self._rules:
                return self._rules[name]
        fix = f"add one of: {', '.join(dict.fromkeys(names))}"
        raise DataError(f"there is no rule for the category '{category}'", where=str(self._file), fix=fix)

    def _read(self, text: str) -> tuple[float, float] | None:
        if not self._paper:
            return read_scores(text)
        scores = first_line_scores(text)
        return scores if scores and valid(scores) else None

    def _accept(self, text: str) -> bool:
        return self._read(text) is not None


_SIDES = ("reference", "answer")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _known(scored: Sequence[Scored]) -> list[Scored]:
    return [one for one in scored if one.verdict.value is not None]


def _pairs(scored: Sequence[Scored]) -> list[Pair]:
    parts = [(one.verdict.parts, one.question.cluster) for one in _known(scored)]
    return [Pair(part["reference"], part["answer"], cluster) for part, cluster in parts]


def _values(scored: Sequence[Scored], side: str) -> tuple[list[float], list[str]]:
    known = _known(scored)
    return [one.verdict.parts[side] / 10 for one in known], [one.question.cluster for one in known]


def _length_controlled(scored: Sequence[Scored]) -> Measure:
    """The points that the answers would have at the references' lengths, over those of the references."""
    parts = [one.verdict.parts for one in _known(scored)]
    answers, references, words, reference_words = (
        [part[name] for part in parts] for name in ("answer", "reference", "words", "reference_words")
    )
    clusters = _values(scored, "answer")[1]
    gap = length_controlled(answers, references, words, reference_words, clusters).value
    if gap is None:
        return NOTHING
    value = 1 + gap / _mean(references)
    # the references' mean varies, too: as for any ratio, the interval is that of answer - value * reference
    spread = length_controlled(answers, [value * one for one in references], words, reference_words, clusters)
    low, high = (
        None if one is None or spread.value is None else value + (one - spread.value) / _mean(references)
        for one in (spread.low, spread.high)
    )
    return Measure(value, low, high, len(parts))


def _length_difference(scored: Sequence[Scored]) -> Measure:
    parts = [(one.verdict.parts["words"], one.verdict.parts["reference_words"]) for one in _known(scored)]
    found = ratio([(own - other, other) for own, other in parts], [one.question.cluster for one in _known(scored)])
    return replace(found, n=len(parts), total=None) if parts else found


def _flip_rate(scored: Sequence[Scored]) -> Measure:
    flips = [(flip, one.question.cluster) for one in scored for flip in _flips(one.verdict.parts)]
    return share([flip for flip, _ in flips], [cluster for _, cluster in flips])


def _flips(parts: Mapping[str, float]) -> Iterator[bool]:
    """For each judge that scored a pair in both orders, whether its winner depends on the order."""
    for name in _judge_names(parts):
        keys = [[f"{name}/{order}/{side}" for side in _SIDES] for order in ORDERS]
        if all(key in parts for pair in keys for key in pair):
            winners = [(parts[own] > parts[other]) - (parts[own] < parts[other]) for other, own in keys]
            yield winners[0] != winners[1]


def _judge_names(parts: Mapping[str, float]) -> list[str]:
    return list(dict.fromkeys(key.rsplit("/", 2)[0] for key in parts if key.endswith("/answer")))


def _agreement(scored: Sequence[Scored]) -> Measure:
    """Of the scores of every answer and reference in every order."""
    names = list(dict.fromkeys(name for one in scored for name in _judge_names(one.verdict.parts)))
    cases = [(one.verdict.parts, order, side) for one in scored for order in ORDERS for side in _SIDES]
    ratings = [[parts.get(f"{name}/{order}/{side}") for parts, order, side in cases] for name in names]
    alpha = krippendorff_alpha(ratings) if names else None
    return NOTHING if alpha is None else Measure(alpha, None, None, len(scored))
