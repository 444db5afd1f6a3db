"""A run of `vistune generate`: annotated images in, instruction data out.

Two passes over the plan. The first stores a reply for every request that has none (`vistune.llm.ask`); the second
reads the stored replies in the plan's order, parses, judges, removes duplicates and writes. So the output depends
neither on the order in which replies arrive nor on how often the run was interrupted, and running again with a better
parser or another filter applies it to all replies without a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from vistune.errors import ClientError, DataError, Stopped, VistuneError
from vistune.formats.conversations import image_path
from vistune.generate.captions import SpacyPhrases, write_pairs
from vistune.generate.judge import JudgedSample, judge, usable, with_preferences
from vistune.generate.kinds import Prompts, brief_questions
from vistune.generate.languages import language_code
from vistune.generate.plan import First, Plan, Shard, make_plan, parse_amounts
from vistune.generate.preview import KindEstimate, estimate, preview
from vistune.generate.report import Report
from vistune.generate.write import file_names, remove_other_formats, write_samples
from vistune.interrupt import StopAfterStep
from vistune.llm import Client, open_client, options_of
from vistune.llm.ask import Asker, in_loop
from vistune.llm.budget import Budget, Cost, Limits, Price
from vistune.llm.http import RemoteClient
from vistune.llm.images import ImageFile
from vistune.llm.progress import Progress
from vistune.llm.store import FILE, Store
from vistune.output_folder import output_folder
from vistune.recipe import schema
from vistune.recipe.generation import GenerateRecipe
from vistune.records import ImageRecord
from vistune.sources import AnnotatedImages, open_annotations
from vistune.terminal import Terminal

_TEACHER = "teacher"
"""The store's note of the teacher whose data the folder holds."""
_NO_SAMPLES = "vistune generate DATA --show prints what the teacher sees of each image"
_NOTICE = "finishing the requests in flight, then writing the data; a second signal stops at once"


def generate(
    recipe: GenerateRecipe, out: Path, *, records: Iterable[ImageRecord] | None = None, client: Client | None = None,
    console: Console | None = None, merge: Sequence[Path] = (), pilot: int | None = None, overwrite: bool = False,
) -> Report:  # fmt: skip
    """Have a teacher write instruction data about annotated images into the folder `out`; returns what came of it.

    `records` and `client` replace the recipe's annotations and teacher. `merge` adds the replies in the folders of
    other runs first; `pilot` requests that number of samples only. Writes instruct and align (stage 1's caption pairs)
    in the recipe's format, with `pairs` pairs.jsonl, provenance.jsonl (one line a sample), rejected.jsonl (reasons and
    raw text), report.json and .html, recipe.yaml, run.json, and replies.sqlite, from which the same call resumes.
    `overwrite` replaces files of these names that no run has written, or that were changed since.

    Raises VistuneError for a mistake in the recipe or the data, for such files, for a folder that another run is using,
    and, after all received is written, ClientError or Stopped (SIGINT, SIGTERM) for what ended the run early.
    """
    run = Generation(
        recipe, out, records=records, client=client, console=console, merge=merge, pilot=pilot, overwrite=overwrite
    )
    outcome = run.run()
    if outcome.ended:
        raise outcome.ended
    return outcome.report


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run: its report, what ended it early, its spending, its faults by reason."""

    report: Report
    ended: BaseException | None
    out_of_budget: bool
    spent: str
    faults: Mapping[str, int]


class Generation:
    """One run. All options are checked before any annotation is read; see `generate` for the arguments.

    With `sends=False`, for a preview or an estimate, no request will be sent, and the teacher needs no key.
    """

    def __init__(
        self, recipe: GenerateRecipe, out: Path | None = None, *, records: Iterable[ImageRecord] | None = None,
        client: Client | None = None, console: Console | None = None, merge: Sequence[Path] = (),
        pilot: int | None = None, sends: bool = True, overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.recipe, self._out, self.merge, self.pilot, self.overwrite = recipe, out, merge, pilot, overwrite
        self.console = console or Terminal(stderr=True)
        if pilot is not None and pilot < 1:
            raise VistuneError(f"a pilot of {pilot} samples", where="--pilot", fix="give a number from 1 up")
        self.prompts = Prompts(
            Path(recipe.kind_dir) if recipe.kind_dir else None, recipe.language, recipe.about, recipe.teacher_sees_image
        )
        self.kinds = parse_amounts(recipe.kinds, self.prompts.folders())
        self.shard = Shard.parse(recipe.shard) if recipe.shard else None
        self.price = Price.parse(recipe.price) if recipe.price else None
        self._check()
        self.client = client or _open_teacher(recipe, out, sends=sends)
        if recipe.teacher_sees_image and not isinstance(self.client, RemoteClient):
            fix = "name a vision model: openai:MODEL, anthropic:MODEL or batch:MODEL"
            what = f"the teacher '{self.client.name}' sees no images"
            raise VistuneError(what, where="--teacher-sees-image", fix=fix)
        self.limits = self._limits()
        self._source: AnnotatedImages | None = None
        self.records, self.images = self._annotations(records)
        self._stop: Callable[[], object] = lambda: None
        """Ends the requests, from a signal's handler."""

    @property
    def out(self) -> Path:
        if self._out is None:
            raise VistuneError("no folder to write is given", fix="give --out DIR")
        return self._out

    def _check(self) -> None:
        recipe = self.recipe
        if recipe.max_usd is not None and self.price is None:
            fix = "add --price INPUT:OUTPUT in USD per million tokens"
            raise VistuneError("a cap in USD needs the teacher's price", where="--max-usd", fix=fix)
        if recipe.balance_captions and self.shard:
            fix = "balance when the shards are merged: run without --shard on the merged folder"
            raise VistuneError("captions are balanced over all images, not over a shard's", where="--shard", fix=fix)
        if recipe.teacher == "symbolic" and language_code(recipe.language) != "en":
            raise VistuneError("the symbolic teacher writes English only", where="--language", fix="name a --teacher")
        brief_questions(recipe.caption_language, self.prompts.folder)
        if recipe.balance_captions:
            SpacyPhrases(recipe.balance_captions)

    def _limits(self) -> Limits:
        recipe, remote = self.recipe, self.client.remote
        return Limits(
            concurrency=recipe.concurrency or self.client.concurrency, attempts=recipe.attempts or (2 if remote else 1),
            retries=recipe.retries, patience=60 * recipe.patience, max_usd=recipe.max_usd,
            max_total_tokens=recipe.max_total_tokens, retry_failed=recipe.retry_failed,
        )  # fmt: skip

    def _annotations(self, records: Iterable[ImageRecord] | None) -> tuple[Iterable[ImageRecord], Path | None]:
        """The records, and the folder that the data's image paths start from."""
        images = Path(self.recipe.images) if self.recipe.images else None
        if records is None:
            self._source = open_annotations(self.recipe, default_split="train", warn=self._print)
            records, images = self._source, self._source.images
        return (records if self.recipe.limit is None else First(records, self.recipe.limit)), images

    def plan(self) -> Plan:
        """The plan, with replies requested as text. Raises VistuneError; see `make_plan`."""
        recipe = self.recipe
        options = {
            "max_tokens": recipe.max_tokens or (2048 if self.client.remote else None),
            "temperature": recipe.temperature, "top_p": recipe.top_p, "extra": recipe.extra_body or None,
        }  # fmt: skip
        plan = make_plan(
            self.records, self.kinds, recipe.seed, prompts=self.prompts, needs=self.client.needs, options=options,
            images=self.images, shard=self.shard, show=self._image if recipe.teacher_sees_image else None,
        )  # fmt: skip
        return replace(plan, vocabulary=()) if self._source and self._source.findings.federated else plan

    def _image(self, record: ImageRecord) -> ImageFile:
        name = image_path(record, self.images)
        size, most = (record.width, record.height), self.recipe.max_megapixels
        return ImageFile(record.image, name, self.recipe.image_max_side, *size, most)

    def preview(self, write: Callable[[str], None]) -> None:
        """Write what the teacher would see: each prompt once, then each image's context. Sends no request."""
        kinds = [self.prompts.load(name, self.client.needs) for name in self.kinds]
        preview(self.records, kinds, write, examples=self.recipe.limit == 1)
        self._print_findings()

    def estimate(self) -> list[KindEstimate]:
        """Requests, tokens and cost of the run, from the prompts and the stored replies. Sends no request."""
        plan, teacher = self.plan(), self.client.name
        self._print_findings()
        if not (self.out / FILE).exists():
            return estimate(plan, self.client, None)
        with Store(self.out / FILE) as store:
            plan = plan.structured() if store.note(f"schema:{teacher}") == "1" else plan
            return estimate(plan, self.client, store)

    def largest_cost(self) -> Cost:
        """About the maximum cost of one request: that of the plan's first."""
        budget = Budget(Cost(), self.limits, self.price, remote=self.client.remote)
        return next(map(budget.worst, self.plan().requests()), Cost())

    def run(self) -> Outcome:
        """Request what the store lacks and write all that it has; raises VistuneError before anything is requested."""
        plan = self.plan()
        self._print_findings()
        facts = {"images": str(self.images.resolve()) if self.images else None}
        output = output_folder(self.out, file_names(), facts=facts, overwrite=self.overwrite)
        with output, Store(self.out / FILE) as store:
            for folder in self.merge:
                if lost := store.merge(folder):
                    self._print(
                        f"damaged replies in {folder} are left out (at least {lost:,}): they are requested again"
                    )
            if self.price:
                store.reprice(self.price)
            self._name_other_teacher(store)
            budget = Budget(store.spent, self.limits, self.price, remote=self.client.remote)
            progress = Progress()
            asker = Asker(self.client, store, self.limits, budget, progress)
            signals = StopAfterStep(_NOTICE, lambda _: self._stop(), same=0.1)  # no launcher sends them twice
            with signals.noting():
                plan = in_loop(self._ask(plan, asker, progress))
                self._stop = lambda: None  # the loop has ended; a signal may come while the files are written
                if asker.error and not self._answered(plan, store):
                    raise asker.error  # nothing was received: the files of an earlier run stay
                report = self._write(plan, store)
                report.sent = progress.sent
                report.write(self.out / "report.json")
                store.set_note(_TEACHER, self.client.name)
        ended = Stopped(signals.noted) if signals.noted else asker.error or self._nothing(report)
        return Outcome(report, ended, asker.out_of_budget, str(budget), dict(progress.reasons))

    async def _ask(self, plan: Plan, asker: Asker, progress: Progress) -> Plan:
        """The first pass; returns the plan in the format of the replies: JSON where the client supports schemas."""
        loop = asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(asker.stop)
        kinds = {kind.name: kind for kind, _ in plan.shares}
        first = next(plan.requests(), None)
        if first is None:
            return plan
        try:
            async with asker, progress.shown(self.console):
                if await asker.supports_schema(first):
                    plan = plan.structured()
                progress.total = plan.total if self.pilot is None else min(self.pilot, plan.total)
                samples = plan if self.pilot is None else plan.pilot(self.pilot)
                requests = (one.request for one in samples if one.request)
                await asker.ask(requests, lambda request, reply: usable(kinds[request.kind], reply))
        except ClientError as error:
            asker.error = error
        return plan

    def _write(self, plan: Plan, store: Store) -> Report:
        """The second pass: the report, but for the number of requests that were sent."""
        report = Report([kind.name for kind, _ in plan.shares])
        write_samples(self._judged(plan, store, report), report, self.out, self.recipe)
        records = filter(plan.shard.has, plan.records) if plan.shard else plan.records
        write_pairs(
            records, self.out, self.recipe, images=self.images, folder=self.prompts.folder, each=report.add_pair
        )
        schema.save(self.recipe.without_secrets(), self.out / "recipe.yaml")
        remove_other_formats(self.out, self.recipe.format)
        return report

    def _judged(self, plan: Plan, store: Store, report: Report) -> Iterator[JudgedSample]:
        """The judged samples; those without context and those still pending are counted."""
        for sample in plan:
            if sample.request is None and not sample.reasons:
                report.without_context += 1
            elif judged := judge(sample, plan, self.client.name, store, self.images):
                yield with_preferences(judged, sample, plan) if self.recipe.pairs else judged
            else:
                report.kinds[sample.kind.name].count("pending")

    def _answered(self, plan: Plan, store: Store) -> bool:
        keys = (request.key(self.client.name) for request in plan.requests())
        return any(store.failure(key) or key in store for key in keys)

    def _print_findings(self) -> None:
        """Print what was found in the annotations: missing images, boxes that were clipped or left out."""
        for line in self._source.findings.lines() if self._source else ():
            self._print(line)

    def _nothing(self, report: Report) -> VistuneError | None:
        """The error of a run that has no sample, no caption pair and none to come."""
        why = report.why_empty() or ("there are no images" if next(iter(self.records), None) is None else "")
        if not why:
            return None
        found = f"{self._source.findings.reasons()}; " if self._source else ""
        where = str(self.recipe.annotations or self.recipe.data or "")
        return DataError(f"there are no samples: {found}{why}", where=where, fix=_NO_SAMPLES)

    def _name_other_teacher(self, store: Store) -> None:
        before, name = store.note(_TEACHER), self.client.name
        if before not in (None, name):
            what = f"{self.out} has data of the teacher '{before}', which data of '{name}' now replaces"
            self._print(f"{what} (the replies of '{before}' stay in the store)")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _open_teacher(recipe: GenerateRecipe, out: Path | None, *, sends: bool) -> Client:
    """The recipe's teacher. Raises ClientError for an option that it does not have."""
    ours = {"folder": out, "sends": sends}  # of those clients that have them
    has = options_of(recipe.teacher.partition(":")[0])
    return open_client(
        recipe.teacher, base_url=recipe.base_url, key_env=recipe.key_env, headers=recipe.headers or None,
        timeout=recipe.timeout, **{name: value for name, value in ours.items() if name in has},
    )  # fmt: skip
