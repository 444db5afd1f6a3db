"""`vistune rescore`: scores of answers that exist as files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_overwrite
from vistune.output_folder import locked_file
from vistune.storage import atomic_text, new_files

_KINDS = ("scienceqa", "reviews", "pope", "mme", "mmbench", "vqa")


def add_rescore(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "rescore", _rescore, "Score files of answers or reviews that exist, without any model",
        "ScienceQA's result files, LLaVA's and Vicuna's reviews, answers to POPE, MME,\n"
        "VQA, MMBench and other tables of VLMEvalKit, as their own tools write them.",
        usage="%(prog)s FILE... [OPTIONS]",
    )  # fmt: skip
    add = command.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="Files of answers, one table each; of MME also a folder")
    add("--as", dest="kind", choices=_KINDS, help="What the files are for (default: by the content of the first)")
    add("--truth", action="append", type=Path, default=[], metavar="FILE", help="File or folder of the published "
        "questions, labels or annotations; may be repeated")  # fmt: skip
    add("--problems", type=Path, metavar="FILE", help="ScienceQA's problems.json")
    add("--splits", type=Path, metavar="FILE", help="ScienceQA's pid_splits.json (default: beside the problems)")
    add("--second", type=Path, metavar="FILE", help="ScienceQA: answers of a second model, for ensembles with it")
    add("--third", type=Path, metavar="FILE", help="ScienceQA: the second model's answers when it knows both")
    add("--protocol", choices=("both-orders", "paper"), default="both-orders", help="As in `vistune eval`: `paper` "
        "rounds as the official code of reviews and reads answers as that of POPE (default: both-orders)")  # fmt: skip
    add("--allow-unparsed", action="store_true", help="Accept reviews of which more than 2 %% cannot be read")
    add("--json", type=Path, metavar="OUT", help="File to write every score to, with its counts")
    add_overwrite(command)


def _rescore(args: argparse.Namespace) -> None:
    from vistune.evaluate.rescore import Truth, check_unparsed, rescore
    from vistune.evaluate.tables import print_tables, tables_json

    truth = Truth(args.truth, args.problems, args.splits, args.second, args.third, args.protocol)
    tables = rescore(args.files, args.kind, truth)
    print_tables(tables)
    if args.json:
        new = new_files(args.json, overwrite=args.overwrite)
        with locked_file(args.json), new as (partial,), atomic_text(partial) as file:
            file.write(json.dumps(tables_json(tables), indent=2) + "\n")
    if not args.allow_unparsed:
        check_unparsed(tables)
