"""`vistune generate`: its options are the fields of `GenerateRecipe`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.cli.options import add_options, given_options, read_records
from vistune.cli.parsing import add_command, positive, wrap
from vistune.errors import ClientError, VistuneError
from vistune.recipe.generation import GenerateRecipe
from vistune.recipe.schema import load

if TYPE_CHECKING:
    from vistune.generate import Limits, Prompts
    from vistune.generate.kinds import Kind
    from vistune.generate.report import Report
    from vistune.generate.task import Outcome, Task
    from vistune.llm import Client
    from vistune.records import ImageRecord

_DETAILS = """\
The same command again resumes a run: no stored reply is requested twice. With
other filters or another format it writes the data anew from the stored replies."""


def add_generate(commands: Any) -> None:
    """Add the command."""
    summary = "Have a teacher write instruction data from captions and boxes"
    command = add_command(
        commands, "generate", _generate, summary, _DETAILS, usage="%(prog)s [DATA] (--out DIR | --show) [OPTIONS]"
    )
    add = command.add_argument
    add("data", nargs="?", default=argparse.SUPPRESS, metavar="DATA", help="Annotated images: a folder, a file, or "
        "hub:owner/name; may be left out if the recipe names them")  # fmt: skip
    add("--recipe", type=Path, metavar="FILE", help="YAML file of these options, as a run writes it beside its output; "
        "options on the command line take precedence")  # fmt: skip
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="Folder to write")
    target.add_argument("--show", action="store_true", help="Print what the teacher would see; no request is sent")
    add("--dry-run", action="store_true", help="Print an estimate of requests, tokens and cost; no request is sent")
    add("--pilot", type=positive, metavar="N",
        help="Write N samples only, spread over all images, and estimate the cost of the rest")  # fmt: skip
    add("--merge", type=Path, nargs="+", action="extend", default=[], metavar="DIR",
        help="Take over the replies of these runs first; may be repeated")  # fmt: skip
    add_options(command, GenerateRecipe, skip=("data",))


def _generate(args: argparse.Namespace) -> None:
    recipe = load(GenerateRecipe, args.recipe, options=given_options(args, GenerateRecipe))
    if recipe.data is None:
        raise VistuneError("the annotated images are missing", fix="vistune generate DATA, or `data` in the recipe")
    from rich.console import Console

    from vistune.generate import First, Prompts, Shard, Style, parse_amounts
    from vistune.generate.estimate import estimate_table
    from vistune.generate.languages import language_code
    from vistune.generate.task import Task

    teacher = _open_teacher(recipe, args)
    source = read_records(recipe, recipe.data, "train")
    prompts = Prompts(Path(recipe.kind_dir) if recipe.kind_dir else None, recipe.language)
    kinds = parse_amounts(",".join(f"{name}={amount}" for name, amount in recipe.kinds.items()), prompts.folders())
    _print_unused_kinds(prompts, kinds)
    records = source if recipe.limit is None else First(source, recipe.limit)
    if args.show:
        shown = [prompts.load(name, teacher.context.get(name)) for name in kinds]
        _show(records, shown, teacher, recipe.limit == 1)
        return
    if recipe.teacher == "symbolic" and language_code(recipe.language) != "en":
        raise VistuneError("the symbolic teacher writes English only", where="--language", fix="name a --teacher")
    style = Style(recipe.image_side, source.images, recipe.format, recipe.keep_near_duplicates)
    concurrency = teacher.at_once if recipe.concurrency is None else recipe.concurrency
    shard = Shard.parse(recipe.shard) if recipe.shard else None
    task = Task(
        records, teacher, args.out, kinds, prompts, recipe.seed, {}, concurrency, style,
        Console(stderr=True), _limits(recipe), shard, args.merge, args.pilot, recipe.caption_language,
        recipe.balance_captions,
    )  # fmt: skip
    if args.dry_run:
        Console().print(estimate_table(task.estimate(), task.limits.price))
        return
    outcome = task.run()
    Console().print(outcome.report.table(), outcome.report.quality_table())
    if args.pilot is not None:
        Console().print(estimate_table(task.estimate(), task.limits.price))
    _print_outcome(task, outcome)


def _limits(recipe: GenerateRecipe) -> Limits:
    from vistune.generate import Limits, Price

    return Limits(
        attempts=recipe.attempts, retries=recipe.retries, patience=60 * recipe.patience, max_tokens=recipe.max_tokens,
        price=Price.parse(recipe.price) if recipe.price else None, max_usd=recipe.max_usd,
        max_total_tokens=recipe.max_total_tokens, retry_failed=recipe.retry_failed,
    )  # fmt: skip


def _open_teacher(recipe: GenerateRecipe, args: argparse.Namespace) -> Client:
    """The client of the recipe; it needs no key where no request is sent.

    Raises ClientError for options that do not fit it.
    """
    from vistune.llm import open_client, options_of

    name = recipe.teacher.partition(":")[0]
    takes = options_of(name)
    given = {
        "base_url": recipe.base_url, "key_env": recipe.key_env, "headers": recipe.headers or None,
        "timeout": recipe.timeout,
    }  # fmt: skip
    for option, value in given.items():
        if value is not None and option not in takes:
            what = f"the teacher '{name}' takes no --{option.replace('_', '-')}"
            raise ClientError(what, fix="name a --teacher that does, e.g. --teacher openai:MODEL")
    ours = {"folder": args.out, "asking": not (args.show or args.dry_run)}
    return open_client(recipe.teacher, **given, **{option: value for option, value in ours.items() if option in takes})


def _print_unused_kinds(prompts: Prompts, requested: Collection[str]) -> None:
    """Print the kinds of --kind-dir, and those of them that --kinds does not name."""
    if own := prompts.own():
        print(f"kinds of {prompts.folder}: {', '.join(own)}", file=sys.stderr)
        if left := [name for name in own if name not in requested]:
            print(f"not requested: {', '.join(left)}; add it to --kinds, as in --kinds {left[0]}", file=sys.stderr)


def _show(records: Iterable[ImageRecord], kinds: Sequence[Kind], teacher: Client, whole: bool) -> None:
    from vistune.generate.preview import preview

    preview(records, kinds, print, examples=whole)
    own = [f"{kind.name}: {' and '.join(kind.context)}" for kind in kinds if kind.name in teacher.context]
    parts = f", which uses a context of its own ({', '.join(own)})" if own else ""
    name = teacher.name
    print(wrap(f"This is what the teacher '{name}' sees{parts}. --teacher NAME shows what another one sees."))


def _print_outcome(task: Task, outcome: Outcome) -> None:
    """Print where everything is, what was left out, and what is left to do. Raises what ended the run early."""
    from vistune.formats.conversations import output_path

    out, style = task.out, task.style
    stages = {f"stage {n}": output_path(out / name, style.format) for n, name in enumerate(("align", "instruct"), 1)}
    for what, path in {**stages, "report": out / "report.html", "images": style.images}.items():
        print(f"{what}: {path}")
    if outcome.spent:
        print(f"spent: {outcome.spent}")
    if outcome.reasons:
        print("retried or given up: " + ", ".join(f"{name} {n:,}" for name, n in outcome.reasons.items()))
    for line in _left_out(task, outcome.report):
        print(wrap(line))
    if outcome.ended:
        raise outcome.ended
    if pending := outcome.report.totals()["pending"]:
        print(wrap(f"{pending:,} samples are pending: {_next_step(task, outcome)}"))


def _left_out(task: Task, report: Report) -> Iterator[str]:
    """What the data lacks for the kinds or for the teacher."""
    if report.without_context:
        yield f"{report.without_context:,} samples not requested: the image lacks what the kind shows to the teacher"
    empty = sum(kind.reasons["empty_reply"] for kind in report.kinds.values())
    if empty and task.client.name == "symbolic":
        yield (
            f"{empty:,} samples are empty (empty_reply): the symbolic teacher writes from boxes, and there are none\n"
            "  fix: name a --teacher; language models write from captions, too (docs/guides/teachers.md)"
        )


def _next_step(task: Task, outcome: Outcome) -> str:
    if not outcome.out_of_budget:
        return f"to get them, run the same command again{' without --pilot' if task.pilot is not None else ''}"
    from vistune.generate.budget import Budget
    from vistune.generate.estimate import dearest
    from vistune.generate.price import NOTHING

    maximum = dearest(task.plan(), Budget(NOTHING, task.limits, remote=task.client.remote))
    return f"the cap allows no further request, which may cost {maximum}; raise it and run the same command again"
