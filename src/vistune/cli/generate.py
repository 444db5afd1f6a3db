"""`vistune generate`: its options are the fields of `GenerateRecipe`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.cli.options import add_options, given_options
from vistune.cli.parsing import add_command, add_overwrite, positive, wrap
from vistune.printable import print_line
from vistune.recipe.generation import GenerateRecipe
from vistune.recipe.schema import load

if TYPE_CHECKING:
    from vistune.generate.kinds import Prompts
    from vistune.generate.report import Report
    from vistune.generate.run import Generation, Outcome

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
    add_overwrite(command)
    add_options(command, GenerateRecipe, skip=("data",))


def _generate(args: argparse.Namespace) -> None:
    recipe = load(GenerateRecipe, args.recipe, options=given_options(args, GenerateRecipe))
    from vistune.generate.preview import estimate_table
    from vistune.generate.run import Generation
    from vistune.terminal import Terminal

    sends = not (args.show or args.dry_run)
    run = Generation(recipe, args.out, merge=args.merge, pilot=args.pilot, sends=sends, overwrite=args.overwrite)
    _print_unused_kinds(run.prompts, run.kinds)
    if args.show:
        run.preview(print_line)
        print_line(
            wrap(f"This is what the teacher '{run.client.name}' sees. --teacher NAME shows what another one sees.")
        )
        return
    if args.dry_run:
        Terminal().print(estimate_table(run.estimate(), run.price))
        return
    outcome = run.run()
    Terminal().print(outcome.report.table(), outcome.report.quality_table())
    if args.pilot is not None:
        Terminal().print(estimate_table(run.estimate(), run.price))
    _print_outcome(run, outcome)


def _print_unused_kinds(prompts: Prompts, requested: Collection[str]) -> None:
    """Print the kinds of --kind-dir, and those of them that --kinds does not name."""
    if own := prompts.own():
        print_line(f"kinds of {prompts.folder}: {', '.join(own)}", error=True)
        if left := [name for name in own if name not in requested]:
            print_line(f"not requested: {', '.join(left)}; add it to --kinds, as in --kinds {left[0]}", error=True)


def _print_outcome(run: Generation, outcome: Outcome) -> None:
    """Print where everything is, what was left out, and what is left to do. Raises what ended the run early."""
    from vistune.formats.conversations import output_path

    out, form = run.out, run.recipe.format
    stages = {f"stage {n}": output_path(out / name, form) for n, name in enumerate(("align", "instruct"), 1)}
    preferences = outcome.report.preferences
    pairs = {"pairs": out / "pairs.jsonl"} if preferences else {}
    for what, path in {**stages, **pairs, "report": out / "report.html", "images": run.images}.items():
        print_line(f"{what}: {path}")
    if preferences:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in preferences.most_common())
        print_line(f"pairs of answers: {preferences.total():,}, false by {reasons}")
    if outcome.spent:
        print_line(f"spent: {outcome.spent}")
    if outcome.faults:
        print_line("retried or given up: " + ", ".join(f"{name} {n:,}" for name, n in outcome.faults.items()))
    for line in _left_out(run, outcome.report):
        print_line(wrap(line))
    if outcome.ended:
        raise outcome.ended
    if pending := outcome.report.totals()["pending"]:
        print_line(wrap(f"{pending:,} samples are pending: {_next_step(run, outcome)}"))


def _left_out(run: Generation, report: Report) -> Iterator[str]:
    """What the data lacks for the kinds, for stage 1 or for the teacher."""
    if report.object_pairs:
        yield f"{report.object_pairs:,} of {report.pairs:,} answers for stage 1 list the boxed objects: no captions"
    elif not report.pairs:
        yield (
            "there is nothing for stage 1: no image has a usable caption\n"
            "  fix: leave the stage out of the recipe, and start from a checkpoint (docs/guides/own-images.md)"
        )
    if report.without_context:
        yield f"{report.without_context:,} samples not requested: the image lacks what the kind shows to the teacher"
    thoughts = sum(kind.reasons["unfinished_thinking"] for kind in report.kinds.values())
    if thoughts:
        yield (
            f"{thoughts:,} replies are thoughts alone (unfinished_thinking): the tokens went into thinking\n"
            "  fix: raise --max-tokens, or turn thinking off with --extra-body (docs/guides/teachers.md)"
        )
    empty = sum(kind.reasons["empty_reply"] for kind in report.kinds.values())
    if empty and run.client.name == "symbolic":
        yield (
            f"{empty:,} samples are empty (empty_reply): the symbolic teacher writes from boxes, and there are none\n"
            "  fix: name a --teacher; language models write from captions, too (docs/guides/teachers.md)"
        )


def _next_step(run: Generation, outcome: Outcome) -> str:
    if not outcome.out_of_budget:
        return f"to get them, run the same command again{' without --pilot' if run.pilot is not None else ''}"
    maximum = run.largest_cost()
    return f"the cap allows no further request, which may cost {maximum}; raise it and run the same command again"
