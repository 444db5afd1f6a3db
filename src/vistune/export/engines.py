"""Which engines load a checkpoint as it is or once exported, and why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import AutoConfig, AutoProcessor

from vistune.data.chat_template import checkpoint_template
from vistune.errors import CheckpointError, VistuneError
from vistune.export.gguf_tokenizer import tokenizer_obstacles
from vistune.export.text_gguf import text_obstacles
from vistune.export.vision_gguf import Obstacle, vision_obstacles
from vistune.model.checkpoint import check_whole, is_complete
from vistune.model.pretrained import local_folder, reading, unreadable
from vistune.reading import read_json

_VLLM_TOWERS = ("clip_vision_model", "siglip_vision_model")  # besides Pixtral's


@dataclass(frozen=True, slots=True)
class Support:
    """Whether an engine loads a checkpoint: it does if nothing is in its way."""

    engine: str
    how: str
    """The command that runs it there."""
    obstacles: list[str] = field(default_factory=list)


def check_engines(checkpoint: Path | str) -> list[Support]:
    """The support of a checkpoint by transformers, vLLM, llama.cpp, Ollama and lmms-eval, without reading its weights.

    `checkpoint` is a folder, or a hub id, which is fetched. An adapter checkpoint is loaded by none before it is
    merged. Raises CheckpointError if there is no checkpoint.
    """
    folder = local_folder(checkpoint)
    if not is_complete(folder):
        raise CheckpointError(
            "there is no checkpoint here", where=str(checkpoint), fix="name the folder of a stage, e.g. runs/own/tune"
        )
    hows = {
        "transformers": f"AutoModelForImageTextToText.from_pretrained('{checkpoint}')",
        "vLLM": f"vllm serve {checkpoint}",
        "llama.cpp": f"vistune export {checkpoint} --to gguf --out DIR",
        "Ollama": f"vistune export {checkpoint} --to ollama --out DIR",
        "lmms-eval": f"lmms-eval --model llava_hf --model_args pretrained={checkpoint}",
    }
    if not (folder / "config.json").is_file():
        reason = f"it holds adapters or a projector only: vistune export {checkpoint} --to merged --out DIR"
        return [Support(engine, how, [reason]) for engine, how in hows.items()]
    check_whole(folder)
    config, processor = _open(folder)
    shared = _template_obstacles(processor)
    llama = [obstacle.reason for obstacle in llama_cpp_obstacles(config, processor)]
    found = {"transformers": [], "vLLM": _vllm_obstacles(folder, config), "llama.cpp": llama, "Ollama": llama}
    return [Support(engine, how, [*found.get(engine, []), *shared]) for engine, how in hows.items()]


def llama_cpp_obstacles(config: Any, processor: Any) -> list[Obstacle]:
    """Why llama.cpp would answer differently than transformers."""
    texts = [*text_obstacles(config.text_config), *tokenizer_obstacles(processor.tokenizer)]
    return [*map(Obstacle, texts), *vision_obstacles(config, processor.image_processor)]


def _open(checkpoint: Path) -> tuple[Any, Any]:
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        return config, AutoProcessor.from_pretrained(checkpoint, backend="pil", trust_remote_code=False)
    except Exception as error:  # of any type for a broken file
        raise unreadable(checkpoint, error) from None


def _template_obstacles(processor: Any) -> list[str]:
    if not processor.chat_template:
        return ["it has no chat template"]
    try:
        checkpoint_template(processor)
    except VistuneError as error:
        return [error.what]
    return []


def _vllm_obstacles(checkpoint: Path, config: Any) -> list[str]:
    """What vLLM's LLaVA does not know (vllm/model_executor/models/llava.py)."""
    tower, found = config.vision_config.model_type, []
    if tower not in _VLLM_TOWERS:
        found.append(f"vLLM's LLaVA has no vision tower '{tower}', only CLIP, SigLIP and Pixtral")
    elif not all(name.startswith("vision_tower.vision_model.") for name in _tower_names(checkpoint)):
        found.append("the vision tower's weights are not named vision_tower.vision_model.*")
    if config.projector_hidden_act == "linear":
        reason = "with which a linear projector to less than twice the tower's width is saved"
        found.append(f"vLLM has no activation 'linear', {reason}")
    return found


def _tower_names(checkpoint: Path) -> list[str]:
    index = checkpoint / "model.safetensors.index.json"
    with reading(checkpoint):
        if index.is_file():
            names = list(read_json(index, CheckpointError)["weight_map"])
        else:
            with safe_open(checkpoint / "model.safetensors", "pt") as file:
                names = list(file.keys())
    return [name for name in names if name.startswith("vision_tower.")]
