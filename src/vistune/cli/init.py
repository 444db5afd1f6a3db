"""`vistune init`: a recipe for data of one's own, with the paths filled in."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command
from vistune.errors import AnnotationError, DataError, RecipeError
from vistune.printable import print_line

_DETAILS = """\
DATA is a folder that `vistune generate` wrote, or a file of conversations or of
questions and answers in any format that training reads. The recipe is a shipped
one with comments: look at it, change it, then train."""
Found = dict[str, tuple[Path, Path | None]]
"""The data file and the folder of images (None: the data embeds them) of each stage."""


def add_init(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "init", _init, "Write a training recipe for data of your own", _DETAILS,
        usage="%(prog)s DATA [--recipe NAME] [--out FILE]",
    )  # fmt: skip
    add = command.add_argument
    add("data", type=Path, metavar="DATA", help="Data to train on")
    add("--images", type=Path, metavar="DIR", help="Folder that image paths start from (default: looked for)")
    add("--recipe", default="own-data-lora", metavar="NAME",
        help="Shipped recipe to start from, see vistune recipes (default: own-data-lora)")  # fmt: skip
    add("--out", type=Path, default=Path("recipe.yaml"), metavar="FILE", help="File to write (default: recipe.yaml)")


def _init(args: argparse.Namespace) -> None:
    from vistune.output_folder import locked_file
    from vistune.storage import atomic_text

    with locked_file(args.out):
        if args.out.exists():
            raise RecipeError("there is such a file already", where=str(args.out), fix="choose another one with --out")
        text, files = _recipe(args)
        with atomic_text(args.out) as file:
            file.write(text)
    print_line(f"{args.out}: {args.recipe} with {', '.join(files)}")
    print_line(f"next: vistune train {args.out} --plan\n      vistune train {args.out} --out runs/own")


def _recipe(args: argparse.Namespace) -> tuple[str, list[str]]:
    """The text of the recipe, and the files that it trains on. Raises RecipeError, DataError."""
    from vistune.recipe.yaml_file import read_yaml, shipped_recipe

    found = _find(args.data, args.images)
    source = shipped_recipe(args.recipe)
    text = source.read_text("utf-8")
    stages = [stage["name"] for stage in read_yaml(source)["stages"]]
    for stage in stages:
        if stage not in found:
            what = f"the recipe has a stage '{stage}' for captions, and {args.data} has none"
            fix = "take one that starts from an assistant, e.g. --recipe own-data-lora"
            raise RecipeError(what, where=args.recipe, fix=fix)
        text = _filled(text, stage, *found[stage])
    return text, [str(found[stage][0]) for stage in stages]


def _find(data: Path, images: Path | None) -> Found:
    """The data of the stages. Raises DataError for anything but conversations, and where their images are missing."""
    from vistune.formats.conversations import FORMATS, output_path
    from vistune.view.samples import images_folder

    if (data / "provenance.jsonl").is_file():  # what generate wrote
        written = {
            stage: output_path(data / stem, form)
            for stage, stem in (("align", "align"), ("tune", "instruct"))
            for form in FORMATS
            if output_path(data / stem, form).is_file()
        }
        return {stage: (path, images or images_folder(data)) for stage, path in written.items()}
    try:
        return {"tune": (data, _images(data, images))}
    except DataError:
        _refuse_annotations(data)
        raise


def _refuse_annotations(data: Path) -> None:
    """Raise DataError with the command to run first if the data is annotated images."""
    from vistune.sources import detect

    try:
        kind = detect(data)
    except AnnotationError:
        return
    out = data.with_name(f"{data.stem}-instruct")
    fix = f"vistune generate {data} --out {out}, then vistune init {out}"
    raise DataError(f"these are annotated images ({kind}), not conversations", where=str(data), fix=fix)


def _images(data: Path, given: Path | None) -> Path | None:
    """The folder below which the first conversation with image files has them."""
    from vistune.data.source import DataSource
    from vistune.recipe.training import DataRecipe

    if given and not given.is_dir():
        raise DataError("there is no such folder", where=f"--images {given}", fix="check the path")
    parent = data if data.is_dir() else data.parent
    error: DataError | None = None
    for folder in [given] if given else [None, parent, parent / "images"]:
        if folder is not None and not folder.is_dir():
            continue
        try:
            DataSource(DataRecipe(path=str(data), images=str(folder) if folder else None))
        except DataError as wrong:
            error = wrong
        else:
            return folder
    assert error is not None
    raise error


def _filled(text: str, stage: str, data: Path, images: Path | None) -> str:
    """The text of a recipe with other paths in a stage."""
    for key, value in (("data", str(data)), ("images", str(images) if images else "null")):
        text = re.sub(rf"(  - name: {stage}\n(?:    .*\n)*?    {key}: ).*", lambda old: old[1] + value, text)  # noqa: B023
    return text
