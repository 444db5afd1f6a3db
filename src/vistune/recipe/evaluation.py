"""The recipe of `vistune eval`: the model, the benchmarks, the judges. Its fields are the command's options."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from vistune.recipe.generation import AnnotationOptions, Count, RequestOptions, SpendingOptions, option
from vistune.recipe.schema import Section


class BenchmarkOptions(Section):
    """benchmarks"""

    benchmarks: Annotated[list[str], option(metavar="NAME[=PATH],...")] = []
    """Benchmarks, each with its file or folder if it has one, as in pope=coco_pope_random.json
    (default: scene_qa,chair about the annotated images of --data)."""
    questions: Annotated[str | None, option(metavar="FILE")] = None
    """File of own questions about own images: JSON lines, CSV, or LLaVA's JSON (docs/guides/own-questions.md)."""
    allow_training_images: bool = False
    """Accept own questions about images that the model was trained on."""
    limit: Count | None = None
    """Number of images with questions of each benchmark, from the first."""
    blind: bool = False
    """Replace the images by uniform gray, to measure what can be guessed without seeing."""
    batch_size: Count = 64
    """Number of questions that are answered together."""
    choice: Literal["letter", "text", "likelihood"] = "letter"
    """How multiple-choice questions of tables are answered: with the letter of a choice, with its text, or by the
    likelihood of each choice."""
    circular: bool = False
    """Ask multiple-choice questions with every rotation of the choices; one is right if all are (MMBench)."""
    chair_truth: Literal["captions", "boxes"] = "captions"
    """What CHAIR takes as in an image: boxes and what the captions mention (official), or boxes alone."""
    scienceqa_format: Literal["direct", "QCM-A", "QCM-LEA", "QCM-ALE", "CQM-A"] = "direct"
    """ScienceQA's prompt: with the instruction to answer with a letter, or as a model was trained on that format
    (docs/guides/scienceqa.md)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all random choices."""

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """The text form `scienceqa=DIR,pope=FILE`."""
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return [name.strip() for item in items for name in item.split(",") if name.strip()]
        return value

    def paths(self) -> dict[str, str | None]:
        """The benchmarks by name, each with its path; those of one name are `name:stem of the path`."""
        named = [item.partition("=")[::2] for item in self.benchmarks]
        times = Counter(name for name, _ in named)
        chosen = {name if times[name] == 1 else f"{name}:{PurePath(path).stem}": path or None for name, path in named}
        if self.questions:
            chosen["questions"] = self.questions
        return chosen or {"scene_qa": None, "chair": None}


DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Short names of dtypes."""


class ModelOptions(Section):
    """model"""

    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"],
        AfterValidator(lambda name: DTYPES.get(name, name)),
    ] = "float32"
    """dtype that a local model computes in."""
    load_in_4bit: bool = False
    """Keep the layers of a local language model in 4 bits (NF4), on a CUDA device."""
    base_url: str | None = None
    """Server of the model openai:NAME, up to and including /v1 (default: OpenAI's)."""
    key_env: Annotated[str | None, option(metavar="NAME")] = None
    """Environment variable that holds the API key (default: OPENAI_API_KEY)."""


class JudgeOptions(Section):
    """judge"""

    judge: Annotated[list[str], option(metavar="MODEL")] = []
    """Model that judges answers, of the same forms as a teacher: openai:MODEL, anthropic:MODEL, local:FOLDER …; may be
    repeated: several judges are a panel."""
    judge_base_url: str | None = None
    """Server of the judges, up to and including /v1 (default: OpenAI's or Anthropic's)."""
    judge_key_env: Annotated[str | None, option(metavar="NAME")] = None
    """Environment variable that holds the judges' API key (default: OPENAI_API_KEY or ANTHROPIC_API_KEY)."""
    rules: Annotated[str | None, option(metavar="FILE")] = None
    """File of the judge's prompts by category, as LLaVA's rule.json (default: our own prompts)."""
    protocol: Literal["both-orders", "paper"] = "both-orders"
    """How answers are judged: in both orders and scored as a ratio of sums, or as in the paper, in one order with its
    rounding; also reads POPE's answers by the official rule to the letter."""
    allow_unparsed: bool = False
    """Accept scores where more than 2 % of the judge's replies cannot be read."""


class EvaluateRecipe(SpendingOptions, RequestOptions, JudgeOptions, ModelOptions, BenchmarkOptions, AnnotationOptions):
    """A run of `vistune eval`. Paths are relative to the working directory."""


class RunEvaluation(JudgeOptions, BenchmarkOptions):
    """Benchmarks for the checkpoints of a training run: of `vistune ablate`, and of a stage's `evaluate_every`."""

    data: str | None = None
    """Annotated test images for the benchmarks that make their questions from these."""
    split: str | None = None
    """Split of `data` (default: test, if the format always has splits)."""
    source: str | None = None
    """Format of the annotations (default: detected where exactly one fits)."""
    images: str | None = None
    """Folder that image paths start from."""

    def recipe(self) -> EvaluateRecipe:
        """The recipe of `vistune eval` with these options."""
        return EvaluateRecipe(**self.model_dump())
