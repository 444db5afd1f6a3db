"""Any vision-language model of transformers under evaluation, with its own processor and chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

from vistune.data.images import open_image
from vistune.errors import CheckpointError, DataError, require
from vistune.evaluate.models.answerer import Dtype, Likelihood, Prompt, naming_prompts
from vistune.evaluate.models.fingerprint import fingerprint
from vistune.image_files import MAX_MEGAPIXELS, to_rgb
from vistune.model.pretrained import local_folder, reading
from vistune.weights import loading_options

_Messages = list[dict[str, Any]]


class TransformersModel:
    """A folder or hub id, loaded when its first answer is wanted; see `Answerer`.

    A question's images stand before its text. A batch has prompts with as many images each, of similar length. Raises
    CheckpointError for a model that is not there, cannot be read or has no chat template.
    """

    def __init__(
        self, name: str, dtype: Dtype, device: str | None, *, load_in_4bit: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:  # fmt: skip
        self._max_megapixels = max_megapixels
        self._folder = local_folder(name)
        self.name = name if self._folder.as_posix() != name else self._folder.resolve().name
        self.identity = f"{fingerprint(self._folder)} {dtype}{' 4bit' if load_in_4bit else ''} transformers"
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if load_in_4bit and not self._device.startswith("cuda"):
            what = f"layers of 4 bits are computed on a CUDA device, this one is {self._device}"
            raise CheckpointError(what, where="--load-in-4bit", fix="leave it out; --dtype bfloat16 halves the weights")
        self._options: dict[str, Any] = {"dtype": self._dtype}
        if load_in_4bit:
            require("bitsandbytes", "qlora", "keeping layers in 4 bits")
            self._options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self._dtype
            )

    @cached_property
    def _processor(self) -> Any:
        try:
            processor = AutoProcessor.from_pretrained(self._folder, trust_remote_code=False)
        except Exception as error:  # of any type for a broken file, ImportError without torchvision
            raise CheckpointError(
                f"its processor cannot be read: {_reason(error)}",
                where=self.name,
                fix="name a vision-language model that this version of transformers reads",
            ) from error
        if not hasattr(processor, "tokenizer"):
            raise CheckpointError(
                "it has no processor of images and texts", where=self.name, fix="name a vision-language model"
            )
        if not processor.chat_template:
            fix = "add chat_template.jinja to its folder"
            raise CheckpointError("its processor has no chat template", where=self.name, fix=fix)
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        return processor

    @cached_property
    def _model(self) -> Any:
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                self._folder, **self._options, **loading_options(self._folder)
            )
        except CheckpointError:
            raise
        except Exception as error:
            what = f"cannot be read as a vision-language model: {_reason(error)}"
            raise CheckpointError(
                what, where=self.name, fix="name one that this version of transformers reads, with safetensors"
            ) from error
        return model.eval().to(self._device)

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        """The answers with their prompts' indices, by transformers' `generate`."""
        greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
        pad = self._processor.tokenizer.pad_token_id
        with reading(self.name), naming_prompts(prompts):
            for indices in _batches(prompts, batch_size):
                inputs = self._inputs([self._question(prompts[i]) for i in indices], add_generation_prompt=True)
                output = self._model.generate(**inputs, max_new_tokens=max_new_tokens, pad_token_id=pad, **greedy)
                start = 0 if self._model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
                texts = self._processor.batch_decode(output[:, start:], skip_special_tokens=True)
                yield from ((index, text.strip()) for index, text in zip(indices, texts, strict=True))

    @torch.inference_mode()
    def likelihoods(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]], *, batch_size: int
    ) -> Iterator[tuple[int, list[Likelihood]]]:
        """The likelihoods of each prompt's choices: a row each, with the prompt, in batches of one prompt's rows."""
        with reading(self.name), naming_prompts(prompts):
            for index, prompt in enumerate(prompts):
                question = self._question(prompt)
                [own] = self._inputs([question], add_generation_prompt=True)["input_ids"].tolist()
                found: list[Likelihood] = []
                for start in range(0, len(choices[index]), batch_size):
                    some = choices[index][start : start + batch_size]
                    found += self._score(question, own, some, prompt.where)
                yield index, found

    def _score(self, question: _Messages, own: list[int], choices: Sequence[str], where: str) -> list[Likelihood]:
        inputs = self._inputs(
            [[*question, _message("assistant", text)] for text in choices], continue_final_message=True
        )
        logits = self._model(**inputs).logits
        found = []
        for row, ids, real, choice in zip(logits, inputs["input_ids"], inputs["attention_mask"], choices, strict=True):
            whole = ids[real.bool()]
            tokens = len(whole) - len(own)
            if tokens < 1 or whole[: len(own)].tolist() != own:
                raise DataError(
                    f"{choice!r} as an answer has no tokens of its own",
                    where=where,
                    fix="score the choices by their letters",
                )
            scores = row[-tokens - 1 : -1].float().log_softmax(-1)  # (T, V); padding is on the left
            found.append(Likelihood(float(scores.gather(1, whole[-tokens:, None]).sum()), tokens))
        return found

    def _question(self, prompt: Prompt) -> _Messages:
        most = self._max_megapixels
        images = [to_rgb(one) if not isinstance(one, Path) else open_image(one, most) for one in prompt.images]
        message = _message("user", prompt.text)
        message["content"] = [{"type": "image", "image": one} for one in images] + message["content"]
        return [message]

    def _inputs(self, conversations: list[_Messages], **options: Any) -> Any:
        inputs = self._processor.apply_chat_template(
            conversations, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs={"padding": True},
            **options,
        )  # fmt: skip
        return inputs.to(self._device, self._dtype)


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Prompts with as many images each, by length."""
    for count in sorted({len(prompt.images) for prompt in prompts}):
        same = [index for index, prompt in enumerate(prompts) if len(prompt.images) == count]
        same.sort(key=lambda index: len(prompts[index].text))
        yield from (same[start : start + size] for start in range(0, len(same), size))
