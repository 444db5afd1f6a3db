"""The visual assistant: a model with its processor, which answers questions about images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.chat_template import checkpoint_template
from vistune.data.encode import PromptEncoder
from vistune.data.images import open_image, to_pixels, to_rgb
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.assemble import image_token_count
from vistune.model.decode import Prompt, greedy
from vistune.model.vision import see
from vistune.records import IMAGE_TOKEN, Turn

ImageLike = Image.Image | Path | str
Images = ImageLike | Sequence[ImageLike] | None
"""The images of a conversation: one, several in order, or none."""


class Assistant:
    """Answers questions about images by greedy decoding."""

    def __init__(self, model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> None:
        self.model, self.processor = model.eval(), processor
        template = checkpoint_template(processor)
        self._prompts = PromptEncoder(processor.tokenizer, template, image_token_count(model.config))

    @classmethod
    def load(cls, path: Path | str, device: str | None = None) -> Assistant:
        """The assistant of a checkpoint folder, on the GPU if there is one. Raises CheckpointError."""
        model, processor = open_checkpoint(Path(path))
        module: torch.nn.Module = model
        module.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model, processor)

    def chat(self, image: Images, question: str, history: Sequence[Turn] = (), *, max_new_tokens: int = 512) -> str:
        """The answer to `question` about `image` (one, a list or None), after the turns of `history`.

        To continue, call again with `history=[*history, Turn("user", question), Turn("assistant", answer)]`.
        """
        return self._decode(list(self._write([*history, Turn("user", question)], image, max_new_tokens))).strip()

    def stream(self, messages: Sequence[Turn], image: Images = None, *, max_new_tokens: int = 512) -> Iterator[str]:
        """The answer to a conversation that ends with the user's turn, piece by piece.

        `image` (one, a list or None) stands before the first turn's text. Raises DataError for an image that cannot
        be read.
        """
        written: list[int] = []
        text = shown = ""
        for token in self._write(messages, image, max_new_tokens):
            written.append(token)
            text = self._decode(written).lstrip()
            if text.startswith(shown) and not text.endswith("\ufffd"):  # else a character that is not yet complete
                yield text[len(shown) :]
                shown = text
        yield text[len(shown) :]

    def answer(
        self, prompts: Sequence[tuple[Images, str]], *, max_new_tokens: int = 128, batch_size: int = 64
    ) -> list[str]:
        """The answers to many questions, each about its image (one, a list or None), in batches of `batch_size`.

        Questions about the same images share these tokens' forward pass. Raises DataError for an image that cannot
        be read.
        """
        about = [_listed(image) for image, _ in prompts]
        keys = [tuple(map(_key, images)) for images in about]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        order = sorted(range(len(prompts)), key=lambda i: (first[keys[i]], len(prompts[i][1])))
        answers = [""] * len(prompts)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            images = {_key(image): image for i in chosen for image in about[i]}
            number = {key: index for index, key in enumerate(images)}
            batch = [
                Prompt(self._prompt([Turn("user", prompts[i][1])], len(keys[i])), tuple(number[key] for key in keys[i]))
                for i in chosen
            ]
            written: list[list[int]] = [[] for _ in chosen]
            for tokens in greedy(self.model, batch, self._features(list(images.values())), max_new_tokens):
                for row, token in tokens:
                    written[row].append(token)
            for index, ids in zip(chosen, written, strict=True):
                answers[index] = self._decode(ids).strip()
        return answers

    def _write(self, turns: Sequence[Turn], image: Images, max_new_tokens: int) -> Iterator[int]:
        images = _listed(image)
        prompt = Prompt(self._prompt(turns, len(images)), tuple(range(len(images))))
        for [(_, token)] in greedy(self.model, [prompt], self._features(images), max_new_tokens):
            yield token

    def _prompt(self, turns: Sequence[Turn], images: int) -> list[int]:
        turns = [Turn(turns[0].role, f"{IMAGE_TOKEN}\n" * images + turns[0].text), *turns[1:]]
        return self._prompts.prompt(turns, images=images)

    def _features(self, images: Sequence[ImageLike]) -> Tensor | None:
        if not images:
            return None
        opened = [open_image(Path(one)) if isinstance(one, (Path, str)) else to_rgb(one) for one in images]
        return see(self.model, torch.stack([to_pixels(self.processor.image_processor, one) for one in opened]))

    def _decode(self, ids: list[int]) -> str:
        text: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _listed(image: Images) -> list[ImageLike]:
    if image is None:
        return []
    return [image] if isinstance(image, (Image.Image, Path, str)) else list(image)


def _key(image: ImageLike) -> Path | str | int:
    return image if isinstance(image, (Path, str)) else id(image)
