"""`vistune export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vistune.cli.parsing import add_command, add_overwrite, announce_loading
from vistune.errors import VistuneError
from vistune.printable import print_line

_TARGETS = ("gguf", "ollama", "merged", "hub")
_DETAILS = """\
gguf    two files for llama.cpp: the text model and mmproj
ollama  the same, with a Modelfile
merged  one folder for transformers, vLLM and lmms-eval
hub     the merged folder with a model card, uploaded with --push-to only

--check prints which engines load the checkpoint, and why others do not."""


def add_export(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "export", _export, "Export a checkpoint to other engines", _DETAILS)
    add = command.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="Folder of the assistant, or the hub id of a LLaVA")
    add("--to", choices=_TARGETS, help="What to export to")
    add("--out", type=Path, metavar="DIR", help="Folder to write")
    add("--dtype", choices=("f32", "bf16", "f16", "q8_0"),
        help="dtype of the weights: f16 (default), f32 or q8_0 in GGUF; f32 (default), bf16 or f16 else")  # fmt: skip
    add("--allow-framing", action="store_true",
        help="Write GGUF files though llama.cpp resizes images, or makes them square, in another way")  # fmt: skip
    add("--scores", type=Path, metavar="DIR", help="Folder of an evaluation, for the model card")
    add("--push-to", metavar="OWNER/NAME", help="Repository of the hub to upload to; without it nothing is uploaded")
    add("--public", action="store_true", help="Create that repository as a public one")
    add_overwrite(command)
    add("--check", action="store_true", help="Only print which engines load the checkpoint")


def _export(args: argparse.Namespace) -> None:
    if args.check:
        _check(args.checkpoint)
        return
    if missing := [name for name in ("to", "out") if getattr(args, name) is None]:
        raise VistuneError(f"--{missing[0]} is missing", fix="give --to and --out, or --check")
    if args.push_to and args.to != "hub":
        raise VistuneError("only the target hub uploads", where="--push-to", fix="use --to hub")
    if args.scores and args.to in ("gguf", "ollama"):
        raise VistuneError("its files have no model card", where=f"--to {args.to}", fix="leave --scores out")
    announce_loading()
    from vistune.export.targets import ExportOptions, Opened, exporters
    from vistune.model.adapter_checkpoint import open_checkpoint

    options = ExportOptions(args.dtype, args.allow_framing, args.scores, args.push_to, args.public, args.overwrite)
    export = exporters.get(args.to)
    opened = Opened(args.checkpoint, *open_checkpoint(args.checkpoint, one_layer=True))
    for line in export(opened, args.out, options):
        print_line(line)


def _check(checkpoint: str) -> None:
    announce_loading()
    from vistune.export.engines import check_engines

    for support in check_engines(checkpoint):
        print_line(f"{support.engine:<14}{'no' if support.obstacles else 'yes'}")
        for line in support.obstacles or [support.how]:
            print_line(f"    {line}")
