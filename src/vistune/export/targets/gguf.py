"""llama.cpp: the text model and `mmproj`, two GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from vistune.data.chat_template import checkpoint_template
from vistune.errors import CheckpointError
from vistune.export.engines import llama_cpp_obstacles
from vistune.export.gguf_file import PRECISIONS, Precision
from vistune.export.targets import ExportOptions, Opened, exporters
from vistune.export.text_gguf import write_text_model
from vistune.export.vision_gguf import write_vision_model
from vistune.output_folder import locked
from vistune.storage import atomic_path, refuse_existing


@exporters.register("gguf")
def export_gguf(opened: Opened, out: Path, options: ExportOptions) -> list[str]:
    """Write OUT/model-DTYPE.gguf and OUT/mmproj-DTYPE.gguf. Raises CheckpointError with all reasons against it."""
    with locked(out):
        text, vision = write_both(opened, out, options)
    return [f"llama-server --model {text} --mmproj {vision}", *notes(opened)]


def notes(opened: Opened) -> list[str]:
    """What differs in llama.cpp though the files are written."""
    reasons = [one.reason for one in llama_cpp_obstacles(opened.model.config, opened.processor)]
    if not reasons:
        reasons = ["llama.cpp resizes images before it pads them to a square, so that their borders differ by a pixel"]
    return [f"note: {reason}" for reason in reasons]


def file_paths(out: Path, options: ExportOptions) -> tuple[Path, Path]:
    """The paths of the text model and of mmproj."""
    return out / f"model-{_precision(options)}.gguf", out / f"mmproj-{_precision(options)}.gguf"


def write_both(opened: Opened, out: Path, options: ExportOptions) -> tuple[Path, Path]:
    """The paths of the two files, both written, or none if anything fails."""
    model, processor, precision = opened.model, opened.processor, _precision(options)
    text, vision = file_paths(out, options)
    _refuse(opened, options)
    template = checkpoint_template(processor)
    refuse_existing([text, vision], overwrite=options.overwrite)
    with atomic_path(text) as new_text, atomic_path(vision) as new_vision:
        write_vision_model(model, processor.image_processor, new_vision, precision)
        write_text_model(model, processor.tokenizer, template, new_text, precision)
    return text, vision


def _precision(options: ExportOptions) -> Precision:
    return cast(Precision, options.dtype_of("a GGUF file", PRECISIONS, "f16"))


def _refuse(opened: Opened, options: ExportOptions) -> None:
    obstacles = llama_cpp_obstacles(opened.model.config, opened.processor)
    against = [one for one in obstacles if not (one.framing and options.allow_framing)]
    if against:
        what = "llama.cpp would answer differently: " + "; ".join(one.reason for one in against)
        fix = ""
        if all(one.framing for one in against):
            fix = "--allow-framing writes the files anyway"
        raise CheckpointError(what, where=opened.name, fix=fix)
