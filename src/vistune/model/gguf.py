"""Language models in GGUF files, which transformers reads; what it overlooks is corrected or refused here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from vistune.errors import CheckpointError, require

_LLAMA3: dict[str, Any] = {
    "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
}  # fmt: skip
_LARGEST = {("gemma2", 46), ("gemma3", 62)}
"""Architecture and depth of the models (27B) whose attention scores are scaled by width / heads, not by head_dim."""


class GgufFile:
    """The header of a GGUF file and the config of its model. Raises MissingPackageError without the package `gguf`."""

    def __init__(self, path: Path) -> None:
        gguf = require("gguf", "gguf", "reading a GGUF file", where=str(path))
        self.path = path
        try:
            reader = gguf.GGUFReader(path)
            short = {key: field for key, field in reader.fields.items() if len(field.data) == 1}
            self.values: dict[str, Any] = {key: field.contents() for key, field in short.items()}
            self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}
            if self.values.get("split.count", 1) > 1:
                fix = "join its parts: llama-gguf-split --merge FIRST_PART OUT"
                raise CheckpointError("it is one part of several", where=str(path), fix=fix)
            self.config: Any = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        except CheckpointError:
            raise
        except Exception as error:  # of any type for a broken file
            what = f"cannot be read as a GGUF model: {next(iter(str(error).splitlines()), type(error).__name__)}"
            raise CheckpointError(what, where=str(path), fix="give the original model's folder or hub id") from None
        self.family = str(self.config.model_type)
        self._complete_config()

    def load(self) -> tuple[PreTrainedModel, Any]:
        """The model, in float32, and its tokenizer. Raises CheckpointError if a weight would be left out."""
        where: dict[str, Any] = {"gguf_file": self.path.name}
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            self.path.parent, **where, config=self.config, dtype=torch.float32, trust_remote_code=False
        )
        if hasattr(model.config, "quantization_config"):  # of the file; nothing is quantised any more
            del model.config.quantization_config
        stored = sum(int(tensor.n_elements) for name, tensor in self._tensors.items() if not name.startswith("rope_"))
        read = sum(weight.numel() for weight in model.parameters())  # tied ones once, as in the file
        if stored != read:
            what = f"transformers reads {read:,} values of the {stored:,} in it"
            raise CheckpointError(what, where=str(self.path), fix="give the original model's folder or hub id")
        return model, AutoTokenizer.from_pretrained(self.path.parent, **where, trust_remote_code=False)

    def _complete_config(self) -> None:
        """Set what transformers leaves at its defaults though the file has it."""
        config = self.config
        if "token_embd.weight" in self._tensors:  # may have more rows than the vocabulary has tokens
            config.vocab_size = int(self._tensors["token_embd.weight"].shape[-1])
        if self._get("attention.key_length") and hasattr(config, "head_dim"):
            config.head_dim = self._get("attention.key_length")
        if self.family == "phi3":
            config.sliding_window = self._get("attention.sliding_window")
        if (self.values["general.architecture"], config.num_hidden_layers) in _LARGEST:
            config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads
        scaling = self._rope_scaling()
        full = config.rope_parameters.get("full_attention", config.rope_parameters)  # Gemma 3 scales these layers only
        full.update(scaling)
        width = self._get("rope.dimension_count", 0)
        share = getattr(config, "partial_rotary_factor", None) or full.get("partial_rotary_factor", 1.0)
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if width and width != int(share * head):
            raise self._unknown(f"rotary embeddings of {width} of {head} dimensions")

    def _rope_scaling(self) -> dict[str, Any]:
        if "rope_factors_long.weight" in self._tensors:
            raise self._unknown("rotary embeddings scaled by tables")
        if "rope_freqs.weight" in self._tensors:
            return self._llama3()
        kind, factor = self._get("rope.scaling.type", "linear"), self._get("rope.scaling.factor", 1.0)
        original = self._get("rope.scaling.original_context_length")
        if kind == "none" or factor in (0.0, 1.0):
            return {}
        if kind == "linear":
            return {"rope_type": "linear", "factor": factor}
        if kind == "yarn" and original:
            return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        raise self._unknown(f"rotary embeddings scaled by '{kind}'")

    def _llama3(self) -> dict[str, Any]:
        """Llama 3.1's and 3.2's scaling, of which the file holds only the table that follows from it."""
        table = torch.tensor(self._tensors["rope_freqs.weight"].data)
        plain = self.config.rope_parameters
        for factor in (8.0, 32.0):
            self.config.rope_parameters = {**plain, **_LLAMA3, "factor": factor}
            scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](self.config, torch.device("cpu"))
            self.config.rope_parameters = plain
            steps = torch.arange(0, 2 * len(scaled), 2) / (2 * len(scaled))
            if len(table) == len(scaled) and torch.allclose(table, plain["rope_theta"] ** -steps / scaled, rtol=1e-4):
                return {**_LLAMA3, "factor": factor}
        raise self._unknown("rotary embeddings scaled by a table that is not Llama 3's")

    def _unknown(self, what: str) -> CheckpointError:
        fix = "give the original model's folder or hub id"
        return CheckpointError(f"it has {what}, which is not supported", where=str(self.path), fix=fix)

    def _get(self, key: str, default: Any = None) -> Any:
        return self.values.get(f"{self.values['general.architecture']}.{key}", default)
