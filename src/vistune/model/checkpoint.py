"""Checkpoints in the layout of the published llava-hf models, which transformers, vLLM and converters read."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor
from transformers.core_model_loading import revert_weight_conversion

from vistune.data.chat_template import checkpoint_template, keep_template
from vistune.data.images import to_pixels
from vistune.errors import CheckpointError
from vistune.model.families import LLAVA, VISION, unsupported
from vistune.model.pretrained import outline, read_pretrained, reading
from vistune.model.projector import saved_weights
from vistune.reading import read_json
from vistune.storage import MANIFEST, add_files

_PREFIXES = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.image_newline": "image_newline",
}
_LAST = "config.json"
"""The file that makes a checkpoint complete: it is moved into place after all others."""
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""The names of dtypes in a safetensors file."""
BASE = "base.json"
"""The same of an adapter checkpoint: it names the base."""


def is_complete(path: Path) -> bool:
    """Whether `path` holds a finished checkpoint, whole or of adapters."""
    return (path / _LAST).is_file() or (path / BASE).is_file()


def mark_unfinished(path: Path) -> None:
    """Remove the files that make the checkpoint in `path` a finished one."""
    for name in (_LAST, BASE, MANIFEST):
        (path / name).unlink(missing_ok=True)


def published_weights(model: LlavaForConditionalGeneration) -> dict[str, Tensor]:
    """The model's weights by the names of the published checkpoints; tied ones once, a linear projector as two."""
    weights = _vision_weights(model)
    for name, weight in model.state_dict().items():
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix and not (name == "lm_head.weight" and model.config.tie_word_embeddings):
            weights[_PREFIXES[prefix] + name.removeprefix(prefix)] = weight.contiguous()
    projector = saved_weights(model.model.multi_modal_projector)
    return weights | {f"multi_modal_projector.{name}": weight for name, weight in projector.items()}


def _vision_weights(model: LlavaForConditionalGeneration) -> dict[str, Tensor]:
    """transformers 5 by itself would write a new CLIP tower without `vision_model`, which vLLM refuses."""
    tower: Any = model.model.vision_tower
    prefix = VISION[tower.config.model_type].prefix
    weights = tower.state_dict() if prefix else revert_weight_conversion(tower, tower.state_dict())
    return {f"vision_tower.{prefix}{name}": weight.contiguous() for name, weight in weights.items()}


def save_checkpoint(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, path: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write the whole checkpoint: weights as `dtype`, configs, processor, chat template, the manifest of these files.

    A folder without config.json, which is moved into `path` last, is unfinished.
    Raises StorageError if the disk is full; `path` is then as it was.
    """
    with add_files(path, _LAST) as partial:
        _save_weights(published_weights(model), partial, dtype)
        config: Any = copy.deepcopy(model.config)
        for part in (config, config.text_config, config.vision_config):
            part.dtype = dtype
        config.save_pretrained(partial)
        model.generation_config.save_pretrained(partial)
        # decoder-only models generate in batches from the left; transformers saves only what it was initialised with
        processor.tokenizer.padding_side = processor.tokenizer.init_kwargs["padding_side"] = "left"
        processor.save_pretrained(partial)


def _save_weights(weights: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    """Write the weights as `dtype`, in files of at most 5 GB."""
    outlines = {name: weight.to("meta").to(dtype) for name, weight in weights.items()}
    files = split_torch_state_dict_into_shards(outlines)
    for file, names in files.filename_to_tensors.items():
        _write_file({name: weights[name] for name in names}, folder / file, dtype)
    if files.is_sharded:
        index = {"metadata": files.metadata, "weight_map": files.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _write_file(weights: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """Write a safetensors file of the weights as `dtype`, one after the other.

    The same bytes as the library's `save_file` writes, which needs all tensors in memory in that dtype.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, weight in sorted(weights.items()):
        start, end = end, end + weight.numel() * dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": [*weight.shape], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, weight in sorted(weights.items()):
            file.write(weight.detach().to("cpu", dtype).flatten().view(torch.uint8).numpy().data)


def load_checkpoint(
    path: Path, *, weights: bool = True, dtype: torch.dtype = torch.float32
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model, in `dtype`, or without `weights` on the device `meta`, and its processor.

    Raises CheckpointError if `path` is no folder, has no finished checkpoint or one of another family.
    """
    check_whole(path)
    with reading(path):
        processor = AutoProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
        # the argument is for the image processor, but the tokenizer gets it, too, and would save it
        processor.tokenizer.init_kwargs.pop("backend", None)
    kind = LLAVA[json.loads((path / _LAST).read_text("utf-8"))["model_type"]]
    model = read_pretrained(kind, path, dtype=dtype) if weights else outline(kind, path)
    _check_end(model, processor, path)
    _check_agreement(model, processor, path)
    return model, processor


def _check_end(model: LlavaForConditionalGeneration, processor: LlavaProcessor, path: Path) -> None:
    """The tokenizer's end of a sequence ends answers where the checkpoint names none. Raises CheckpointError."""
    generation = model.generation_config
    if generation.eos_token_id is None:
        generation.eos_token_id = processor.tokenizer.eos_token_id
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    if not ends or not all(type(end) is int for end in ends):
        fix = "correct eos_token_id, or copy the checkpoint again"
        raise CheckpointError("no token ends an answer", where=str(path / "generation_config.json"), fix=fix)


def _check_agreement(model: LlavaForConditionalGeneration, processor: LlavaProcessor, path: Path) -> None:
    """Raises CheckpointError for weights that are not finite, and where the processor's files are of another model."""
    for name, weight in model.named_parameters():
        if not weight.is_meta and not weight.sum().isfinite():
            fix = "use an earlier checkpoint, or copy this one again"
            raise CheckpointError(f"its weights are not finite: {name}", where=str(path), fix=fix)
    known, own = processor.tokenizer.convert_tokens_to_ids(processor.image_token), model.config.image_token_id
    if known != own:
        what = f"the image's token is {own} for the model, {known} for the tokenizer"
        raise CheckpointError(what, where=str(path / _LAST), fix="use the tokenizer and config.json of one checkpoint")
    with reading(path):
        checkpoint_template(processor)
        pixels = to_pixels(processor.image_processor, Image.new("RGB", (64, 48)))
    vision: Any = model.config.vision_config
    side = vision.image_size
    if pixels.shape[-2:] != (side, side):
        what = f"the image processor gives images {pixels.shape[-1]} pixels, and the vision tower reads {side}"
        raise CheckpointError(what, where=str(path), fix="use the files of one checkpoint")
    grids = (getattr(one, "image_grid_pinpoints", None) for one in (model.config, processor.image_processor))
    if len({json.dumps(one) for one in grids}) > 1:
        what = "image_grid_pinpoints differ between config.json and the image processor's settings"
        raise CheckpointError(what, where=str(path), fix="use the files of one checkpoint")


def keep_own_template(model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> str:
    """The template of a checkpoint for further training, see `keep_template`; its end of answers ends generation."""
    template = keep_template(processor)
    end, generation = processor.tokenizer.eos_token_id, model.generation_config
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    if end not in ends:
        generation.eos_token_id = [end, *(other for other in ends if other is not None)]
    return template


def refuse_pipes(path: Path) -> None:
    """Raise CheckpointError for a folder with a pipe or a device, which its readers would wait for."""
    for file in path.iterdir():
        if file.exists() and not (file.is_file() or file.is_dir()):
            fix = "replace it by the file"
            raise CheckpointError("this is a pipe or a device, not a file", where=str(file), fix=fix)


def check_whole(path: Path) -> None:
    """Raise CheckpointError if a folder holds no finished whole checkpoint of LLaVA's architecture."""
    if not path.is_dir():
        raise CheckpointError("there is no such checkpoint folder", where=str(path), fix="check the path")
    if not (path / _LAST).is_file():
        unfinished = any(path.glob("state/*")) or (path / "log.jsonl").exists()
        what = "its training has not finished" if unfinished else "it holds no checkpoint: config.json is missing"
        stages = sorted(str(folder) for folder in path.iterdir() if is_complete(folder))
        again = "run the training again: it continues where it stopped"
        other = again if unfinished else "name the folder that holds it, or a model's id on the hub"
        fix = f"one of: {', '.join(stages)}" if stages else other
        raise CheckpointError(what, where=str(path), fix=fix)
    refuse_pipes(path)
    config = read_json(path / _LAST, CheckpointError)
    with reading(path / _LAST):
        reason = unsupported(config)
    if reason:
        fix = "to evaluate it as it is: vistune eval hf:NAME"
        raise CheckpointError(reason, where=str(path), fix=fix)
