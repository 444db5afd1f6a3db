"""Reading a pre-trained model with transformers, where a weight that is missing is an error and not a random one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig
from transformers.utils import logging

from vistune.errors import CheckpointError, VistuneError
from vistune.weights import PICKLES, SAFETENSORS, loading_options

SETTINGS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "adapter_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.model", "chat_template.*",
)  # fmt: skip
"""The files beside the weights that determine what a model computes."""
_NOT_NEEDED = ("*/*", "consolidated*")
"""Files of a hub id that transformers does not read: other formats of the same weights."""
_UNREACHABLE = "give a folder, or a hub id that this machine can reach"
_BUFFERS = ("position_ids", "inv_freq")
"""What old checkpoints hold as weights, and models compute themselves."""


def local_folder(name: str | Path) -> Path:
    """The folder of a model, which is fetched if `name` is a hub id (owner/name). Raises CheckpointError."""
    if (folder := Path(name)).exists():
        return folder
    hub_id = str(name)
    if hub_id.startswith((".", "/", "~")) or hub_id.count("/") > 1:
        raise CheckpointError("there is no such checkpoint folder", where=hub_id, fix="check the path")
    try:
        fetched = snapshot_download(hub_id, allow_patterns=[*SETTINGS, "*.safetensors"], ignore_patterns=[*_NOT_NEEDED])
        if not any(Path(fetched).glob("*.safetensors")):
            snapshot_download(hub_id, allow_patterns=["pytorch_model*"], ignore_patterns=[*_NOT_NEEDED])
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        what = f"there is no such folder, and the hub cannot be read: {reason}"
        raise CheckpointError(what, where=hub_id, fix=_UNREACHABLE) from None
    return Path(fetched)


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Raises CheckpointError in place of what transformers raises while it reads the model in `source`.

    A broken file leads to errors of any type in it and its libraries.
    """
    try:
        yield
    except VistuneError:
        raise
    except Exception as error:
        raise unreadable(source, error) from error


def read_pretrained(
    kind: Any, source: str | Path, *, whole: bool = True, dtype: torch.dtype = torch.float32, allow_pickle: bool = False
) -> Any:
    """The model of the class `kind` in `source`, in `dtype`. Without `whole`, `source` may hold more than the model.

    With `allow_pickle`, weights may be pickles, of which torch reads nothing but weights. Raises CheckpointError if it
    cannot be read, needs code of its own, or its weights are not the model's.
    """
    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with reading(source):
            options = loading_options(source, allow_pickle=allow_pickle)
            model, report = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    finally:
        logging.set_verbosity(shown)
    keys = ("missing_keys", "mismatched_keys", *(["unexpected_keys"] if whole else []))
    if wrong := [name for key in keys for name in report[key] if not str(name).endswith(_BUFFERS)]:
        what = f"its weights are not the model's: {wrong[0]} (and {len(wrong) - 1} more)"
        raise CheckpointError(what, where=str(source), fix="copy or fetch the model again")
    model.eval()
    return model


def outline(kind: Any, source: str | Path) -> Any:
    """The model of the class `kind` without weights, in float32 on the device `meta`. Raises CheckpointError."""
    own = getattr(kind, "config_class", None)
    with reading(source):
        loading_options(source, allow_pickle=True)
        config = (own or AutoConfig).from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            return (kind(config) if own else kind.from_config(config)).float().eval()


def unreadable(source: str | Path, error: Exception) -> CheckpointError:
    """The error of what transformers cannot read."""
    reason = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
    if "custom code" in reason:
        what, fix = "it needs code of its own, which is never run", "use a model whose class is transformers' own"
        return CheckpointError(what, where=str(source), fix=fix)
    if "named model.safetensors" in reason and not Path(source).is_dir():  # of a folder, its files say it
        return CheckpointError(PICKLES, where=str(source), fix=SAFETENSORS)
    fix = "copy or fetch the model again" if Path(source).exists() else _UNREACHABLE
    return CheckpointError(f"cannot be read as a model: {reason}", where=str(source), fix=fix)
