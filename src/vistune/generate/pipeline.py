"""Images in, instruction data out: ask a teacher about every image, then sort what it wrote.

Two passes over the plan. The first (`collect`, `ask`) asks for what the store does not have and commits each raw
reply; the second (`sort`) reads every reply back in the plan's order, parses, filters and writes. So the output
depends neither on the order in which replies came nor on how often the run was interrupted, and a better parser or
filter is applied to all replies by running again, which asks nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from vistune.generate.amounts import Amount
from vistune.generate.kinds import Prompts
from vistune.generate.languages import ENGLISH
from vistune.generate.limits import Limits
from vistune.generate.report import Report
from vistune.generate.shard import Shard
from vistune.generate.sort import Style
from vistune.generate.task import Task
from vistune.llm.client import Client
from vistune.records import ImageRecord

DEFAULT_KINDS: Mapping[str, Amount] = {"conversation": 1.0, "detail": 1.0, "reasoning": 1.0}


def generate(
    records: Iterable[ImageRecord],
    client: Client,
    out: Path,
    *,
    kinds: Mapping[str, Amount] = DEFAULT_KINDS,
    prompts: Prompts | None = None,
    seed: int = 0,
    context: Mapping[str, Collection[str]] | None = None,
    concurrency: int = 16,
    style: Style | None = None,
    console: Console | None = None,
    limits: Limits | None = None,
    shard: Shard | None = None,
    merge: Sequence[Path] = (),
    pilot: int | None = None,
    caption_language: str = ENGLISH,
    balance: str | None = None,
) -> Report:
    """Have `client` write instruction data about `records` into the folder `out`, and report what came of it.

    Writes instruct and align (stage 1's caption pairs) in the format of `style`, provenance.jsonl (one line
    a sample), rejected.jsonl (reasons and raw text), report.json and .html, and replies.sqlite, the store of raw
    replies. Run again after an interruption it asks only for what the store does not have.

    `kinds` gives each kind's share of the images or a `Quota` of them, `prompts` where kinds of the user's own come
    from and the language, `context` the parts a kind shows in place of its own or the client's
    (`{"conversation": ("captions", "boxes")}`), `concurrency` the most requests at a time, `limits` how hard to try
    and what to spend. All choices depend on `seed` and the image's id alone. `shard` takes a part of the images;
    `merge` takes over the replies of other runs' folders; `pilot` asks for so many samples only. `caption_language` is
    that of the captions, for stage 1's questions; `balance` names the spaCy pipeline that LLaVA's filter of stage 1's
    pairs uses (`vistune.generate.captions`), None: all are kept.

    Raises VistuneError for what the caller has to put right, and ClientError or Stopped (after SIGINT or SIGTERM)
    for what ended the run early: after all that there is has been written.
    """
    task = Task(
        records, client, out, kinds, prompts or Prompts(), seed, context or {}, concurrency,
        style or Style(), console or Console(stderr=True), limits or Limits(), shard, merge, pilot, caption_language,
        balance,
    )  # fmt: skip
    outcome = task.run()
    if outcome.ended:
        raise outcome.ended
    return outcome.report
