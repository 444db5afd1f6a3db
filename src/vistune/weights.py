"""Which files a model's weights are read from, for every reader: safetensors, of its own folder, and no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vistune.errors import CheckpointError
from vistune.reading import WRONG_TYPE, read_json

PICKLES = "its weights are pickles, which may hold code"
SAFETENSORS = "save them as safetensors; for the parts of a new assistant `model.allow_pickle: true` reads them"
_SOURCE = "fetch the checkpoint again, from a source that you trust"
_ATTENTION = ("attn_implementation", "_attn_implementation")
"""Keys of a config that may name a kernel of the hub, which is code."""


def loading_options(source: str | Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The options of transformers' `from_pretrained` for the model in `source`, a folder or a hub id.

    With `allow_pickle` weights may be pickles, of which torch reads nothing but weights. Raises CheckpointError for a
    folder that holds others, one whose index of shards names files elsewhere, and one whose config names a kernel.
    """
    folder = Path(source)
    if not allow_pickle and any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("*.safetensors")):
        raise CheckpointError(PICKLES, where=str(folder), fix=SAFETENSORS)
    for index in folder.glob("*.index.json"):
        try:
            names = [str(name) for name in read_json(index, CheckpointError)["weight_map"].values()]
        except WRONG_TYPE:
            raise CheckpointError("it is no index of shards", where=str(index), fix=_SOURCE) from None
        if outside := next((name for name in names if Path(name).name != name), None):
            raise CheckpointError(f"it names a file outside of its folder: {outside}", where=str(index), fix=_SOURCE)
    config = folder / "config.json"
    if config.is_file() and (kernel := _kernel(read_json(config, CheckpointError))):
        what = f"it needs code of its own, which is never run: the kernel {kernel}"
        raise CheckpointError(what, where=str(config), fix="remove the key attn_implementation")
    return {"trust_remote_code": False, "use_safetensors": None if allow_pickle else True, "weights_only": True}


def _kernel(config: Any) -> str:
    """The first kernel of the hub (owner/name) that a config, or one of its parts, names; "" if none does."""
    if not isinstance(config, dict):
        return ""
    named = [value for key in _ATTENTION if isinstance(value := config.get(key), str | dict)]
    texts = [text for one in named for text in (one.values() if isinstance(one, dict) else [one])]
    own = next((str(text) for text in texts if "/" in str(text)), "")
    return own or next(filter(None, map(_kernel, config.values())), "")
