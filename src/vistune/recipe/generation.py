"""The recipe of `vistune generate`: the annotated images, the kinds of data, the teacher, and what a run may take.

The options of the command line are these fields, with their docstrings as help; each base class is a group of them.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, field_validator

from vistune.image_files import MAX_MEGAPIXELS, Megapixels
from vistune.recipe.schema import Section

Count = Annotated[int, Field(ge=1, le=10**15)]
Amount = Annotated[float, Field(gt=0, le=10**15)]


def option(**form: str) -> Any:
    """The form of a command-line option: `metavar` stands for its value; `bare` is its value if none is given."""
    return Field(json_schema_extra={**form})


class AnnotationOptions(Section):
    """annotated images"""

    data: str | None = None
    """Annotated images: a folder, a file, or hub:owner/name."""
    split: str | None = None
    """Split of the data (default: train, for eval test, if the format always has splits)."""
    source: str | None = None
    """Format of the annotations (default: detected where exactly one fits)."""
    annotations: Annotated[str | None, option(metavar="PATH")] = None
    """Annotation file or folder where it is apart from the images; the data, if given too, is the images' folder."""
    images: Annotated[str | None, option(metavar="DIR")] = None
    """Folder of the images (default: that of the annotations, with its usual sub-folders)."""
    image_column: str | None = None
    """Column of images (captions, caps_boxes, datasets)."""
    caption_column: list[str] = []
    """Column of captions (captions, caps_boxes, datasets); may be repeated."""
    objects_column: str | None = None
    """Column of boxes (datasets; default: the first with a usual name)."""
    box_format: Literal["xywh", "xyxy"] | None = None
    """Layout of the boxes in pixels (datasets; default: xywh)."""
    subset: str | None = None
    """Configuration of the data set (datasets)."""
    category_names: Annotated[str | None, option(metavar="FILE")] = None
    """File with the names of the classes, one a line (yolo, datasets, box_rows)."""
    rename: Annotated[str | None, option(metavar="FILE")] = None
    """YAML file with new names of categories, `old: new`; without a new name the category is left out."""
    allow_outside: bool = False
    """Accept images outside of the images' folder: absolute paths, `..`, links that lead out of it."""
    max_megapixels: Megapixels = MAX_MEGAPIXELS
    """Maximum size of an image that is decoded, in million pixels."""
    scale_boxes: bool = False
    """Scale the boxes of images that were resized after they were annotated, instead of stopping."""
    strict: bool = False
    """Stop at boxes that stick out, are doubled, or have no area or label, instead of clipping or leaving them out."""
    skip_bad_records: bool = False
    """Leave out records with a mistake instead of stopping at the first one."""


class WritingOptions(Section):
    """instruction data"""

    kinds: Annotated[dict[str, str], option(metavar="KIND=AMOUNT,...")] = {
        "conversation": "all",
        "detail": "all",
        "reasoning": "all",
    }
    """Kinds of data and the number or share of images for each, e.g. conversation=58k,detail=0.3,reasoning=all."""
    kind_dir: str | None = None
    """Folder of a custom kind, or of several (docs/guides/own-kinds.md)."""
    about: Annotated[str, option(metavar="TEXT")] = ""
    """What the images are of, e.g. "blood smears under a microscope": for the prompts and the rule-based teacher."""
    language: str = "en"
    """Language that the teacher writes in."""
    caption_language: str = "en"
    """Language of the captions, for the questions of stage 1."""
    balance_captions: Annotated[str | None, option(metavar="PIPELINE", bare="en_core_web_sm")] = None
    """spaCy pipeline for LLaVA's CC3M filter of stage 1's captions: rare concepts are kept, frequent ones cut
    (en_core_web_sm if no pipeline is named)."""
    format: Literal["llava", "messages", "parquet"] = "llava"
    """File format of the conversations."""
    pairs: bool = False
    """Also write pairs.jsonl: accepted answers, each with a version that the boxes contradict, for preference training
    (docs/guides/preferences.md)."""
    image_side: Literal["first", "random"] = "first"
    """Place of <image> in the first turn: before the question, or on a random side as in the paper."""
    keep_near_duplicates: bool = False
    """Keep samples that say nearly the same as one about an earlier image."""
    keep_duplicates: bool = False
    """Keep all samples that repeat an earlier one, also word for word."""
    limit: Count | None = None
    """Number of images to read, from the first."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all random choices."""

    @field_validator("kinds", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """The text form `conversation=58k,detail=0.3`; a name alone means all images. Numbers of YAML become text."""
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if isinstance(value, str):
            pairs = [tuple(map(str.strip, item.partition("=")[::2])) for item in value.split(",")]
            names = [name for name, _ in pairs]
            if not all(names):
                raise ValueError(f"a kind has no name in '{value}'")
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"the kind '{twice}' is given twice")
            value = {name: amount or "all" for name, amount in pairs}
        if not isinstance(value, dict):
            return value
        return {
            name: str(amount) if isinstance(amount, int | float) and not isinstance(amount, bool) else amount
            for name, amount in value.items()
        }


class TeacherOptions(Section):
    """teacher"""

    teacher: str = "symbolic"
    """Model that writes: symbolic (rules, no model), openai:MODEL, anthropic:MODEL, batch:MODEL (OpenAI's Batch API),
    local:FOLDER_OR_HUB_ID (in this process), scripted:FILE (recorded replies)."""
    teacher_sees_image: bool = False
    """Show the image itself to the teacher, a vision model, with captions and boxes."""
    image_max_side: Annotated[Count, option(metavar="PIXELS")] = 1024
    """Maximum side of the images that the teacher sees."""
    base_url: str | None = None
    """Server, up to and including /v1 (default: OpenAI's or Anthropic's)."""
    key_env: Annotated[str | None, option(metavar="NAME")] = None
    """Environment variable that holds the API key (default: OPENAI_API_KEY or ANTHROPIC_API_KEY)."""
    headers: Annotated[dict[str, str], Field(exclude=True, json_schema_extra={"metavar": "NAME=VALUE"})] = {}
    """HTTP header NAME=VALUE to send with every request; may be repeated. Never written to a file."""
    timeout: Annotated[Amount | None, option(metavar="SECONDS")] = None
    """Seconds until a request is given up (default: 600)."""

    @field_validator("headers", mode="before")
    @classmethod
    def _split_headers(cls, value: Any) -> Any:
        """A list of NAME=VALUE. The error does not repeat the text, which may hold a key."""
        if not isinstance(value, list):
            return value
        pairs = [str(header).partition("=") for header in value]
        for number, (name, sign, _) in enumerate(pairs, 1):
            if not (name and sign):
                raise ValueError(f"header number {number} is not NAME=VALUE")
        return {name: header for name, _, header in pairs}


class RequestOptions(Section):
    """requests"""

    concurrency: Count | None = None
    """Maximum number of requests in flight (default: 16; for batches, 1,000)."""
    max_tokens: Count | None = None
    """Maximum length of a reply in tokens (default: 2048 for remote teachers)."""
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    """Temperature of the teacher's sampling (default: the server's; a local model decodes greedily)."""
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of the probability that the teacher samples from (default: the server's)."""
    extra_body: Annotated[dict[str, Any], option(metavar="JSON")] = {}
    """Further fields of the request's body as JSON, e.g. {"chat_template_kwargs": {"enable_thinking": false}}, which
    turns thinking off on vLLM and SGLang."""
    attempts: Count | None = None
    """Maximum number of replies to request for a sample until one can be parsed (default: 2 for remote teachers,
    1 for others)."""
    retries: Annotated[int, Field(ge=0)] = 8
    """Number of retries of a request that got no reply."""
    patience: Annotated[Amount, option(metavar="MINUTES")] = 10.0
    """Minutes without any reply until the run gives up."""
    retry_failed: bool = False
    """Send requests again that the teacher refused for good in earlier runs."""

    @field_validator("extra_body", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        """An object in JSON, or the objects of several, in one."""
        if not isinstance(value, list | str):
            return value
        merged: dict[str, Any] = {}
        for text in [value] if isinstance(value, str) else value:
            try:
                merged |= json.loads(text)
            except (ValueError, TypeError, RecursionError):
                raise ValueError(f"'{text}' is not an object in JSON, such as {{\"top_k\": 20}}") from None
        return merged


class SpendingOptions(Section):
    """spending"""

    price: Annotated[str | None, option(metavar="IN:OUT[:CACHED]")] = None
    """Price IN:OUT[:CACHED] in USD per million tokens of input, output and cached input."""
    max_usd: Amount | None = None
    """Maximum spending in USD of all runs into the folder together; needs a price."""
    max_total_tokens: Count | None = None
    """Maximum number of input and output tokens of all runs into the folder together."""


class ShardOptions(Section):
    """several machines"""

    shard: Annotated[str | None, option(metavar="I/N")] = None
    """Part I/N of the images to write about; the part of an image depends on its id alone."""


class GenerateRecipe(ShardOptions, SpendingOptions, RequestOptions, TeacherOptions, WritingOptions, AnnotationOptions):
    """A run of `vistune generate`. Paths are relative to the working directory."""

    def without_secrets(self) -> GenerateRecipe:
        """The recipe as it may be written to a file: the base URL without user, password and query."""
        if self.base_url is None:
            return self
        parts = urlsplit(self.base_url)
        query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name == "api-version"])
        host = parts.netloc.rpartition("@")[2]
        return self.model_copy(update={"base_url": urlunsplit(parts._replace(netloc=host, query=query))})
