"""The models that an evaluation asks: checkpoints, other vision-language models of transformers, servers.

    FOLDER, ID      a checkpoint of LLaVA's architecture, ours or another's: questions about an image share its tokens
    FOLDER, hf:ID   another vision-language model of transformers, with its own processor and chat template
    openai:NAME     a model behind a server with OpenAI's chat completions

Each answers greedily, in batches, and never with an empty text in the place of an error.
"""

from __future__ import annotations

from pathlib import Path

from vistune.errors import CheckpointError, VistuneError
from vistune.evaluate.models.answerer import Answerer, Dtype, Likelihood, Prompt
from vistune.image_files import MAX_MEGAPIXELS
from vistune.llm.budget import Limits
from vistune.reading import read_json

__all__ = ["Answerer", "Dtype", "Likelihood", "Prompt", "open_model"]


def open_model(
    spec: str, *, dtype: Dtype = "float32", load_in_4bit: bool = False, device: str | None = None,
    base_url: str | None = None, key_env: str | None = None, replies: Path | None = None, limits: Limits | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Answerer:  # fmt: skip
    """The model that a spec names; see above. A local one is loaded when its first answer is wanted.

    `dtype`, `load_in_4bit` and `device` (by default a GPU if there is one) are for local models, `base_url`, `key_env`,
    the folder `replies` for what it replies and `limits` for a server's. `max_megapixels` bounds the images that
    are decoded. Raises CheckpointError, ClientError, VistuneError.
    """
    kind, _, name = spec.partition(":")
    if kind == "openai":
        from vistune.evaluate.models.server import ServerModel

        if replies is None:
            raise VistuneError("a server's model needs a folder for its replies", where=spec, fix="give `replies`")
        return ServerModel(spec, replies, limits, max_megapixels, base_url=base_url, key_env=key_env)
    if base_url is not None:
        raise VistuneError("a base URL is for a server's model", where=spec, fix="name the model openai:NAME")
    if kind != "hf" and _is_ours(spec):
        from vistune.evaluate.models.checkpoint import Checkpoint

        return Checkpoint.open(spec, dtype, device, load_in_4bit=load_in_4bit, max_megapixels=max_megapixels)
    from vistune.evaluate.models.transformers_model import TransformersModel

    name = name if kind == "hf" else spec
    return TransformersModel(name, dtype, device, load_in_4bit=load_in_4bit, max_megapixels=max_megapixels)


def _is_ours(name: str) -> bool:
    """Whether `Checkpoint` is to open a model: a LLaVA of supported parts, or no model at all."""
    from vistune.model.families import unsupported
    from vistune.model.pretrained import local_folder

    try:
        return not unsupported(read_json(local_folder(name) / "config.json", CheckpointError))
    except (CheckpointError, AttributeError):
        return True
