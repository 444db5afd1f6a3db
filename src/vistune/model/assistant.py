"""The visual assistant: a model with its processor, which answers questions about images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vistune.data.chat_template import checkpoint_template
from vistune.data.encode import PromptEncoder
from vistune.data.image_tokens import ImageTokens
from vistune.data.images import ImageFile, ImageInput, open_image, read_image, to_pixels
from vistune.image_files import MAX_MEGAPIXELS, to_rgb
from vistune.model.adapter_checkpoint import open_on_device
from vistune.model.decode import PromptIds, greedy, likelihoods
from vistune.model.pretrained import reading
from vistune.model.vision import image_grid, see
from vistune.records import IMAGE_TOKEN, Turn

ImageLike = Image.Image | Path | str
Images = ImageLike | Sequence[ImageLike] | None
"""The images of a conversation: one, several in order, or none."""


class Assistant:
    """Answers questions about images by greedy decoding."""

    def __init__(
        self, model: LlavaForConditionalGeneration, processor: LlavaProcessor, max_megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        self.model, self.processor, self._max_megapixels = model.eval(), processor, max_megapixels
        self._prompts = PromptEncoder(processor.tokenizer, checkpoint_template(processor))
        self._grid = image_grid(model.config)

    @classmethod
    def load(
        cls, path: Path | str, device: str | None = None, dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        *, load_in_4bit: bool = False, max_megapixels: float = MAX_MEGAPIXELS,
    ) -> Assistant:  # fmt: skip
        """The assistant of a checkpoint, a folder or a hub id, on the GPU if there is one.

        `load_in_4bit` quantises the language model's layers, on a CUDA device. It reads no images of more than
        `max_megapixels`. Raises CheckpointError.
        """
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        opened = open_on_device(path, place, getattr(torch, dtype), 4 if load_in_4bit else None)
        with reading(path):
            return cls(*opened, max_megapixels)

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
        """The answers to many questions, each about its image (one, a list or None), in order; see `answers`."""
        found = dict(self.answers(prompts, max_new_tokens=max_new_tokens, batch_size=batch_size))
        return [found[index] for index in range(len(prompts))]

    def answers(
        self, prompts: Sequence[tuple[Images, str]], *, max_new_tokens: int = 128, batch_size: int = 64
    ) -> Iterator[tuple[int, str]]:
        """The answers with their questions' indices, a batch of at most `batch_size` after the other.

        Questions about the same images are in one batch and share these tokens' forward pass. Raises DataError for an
        image that cannot be read.
        """
        for indices, batch, features in self._batches(prompts, batch_size):
            written: list[list[int]] = [[] for _ in indices]
            for tokens in greedy(self.model, batch, features, max_new_tokens):
                for row, token in tokens:
                    written[row].append(token)
            for index, ids in zip(indices, written, strict=True):
                yield index, self._decode(ids).strip()

    def likelihoods(
        self, prompts: Sequence[tuple[Images, str]], choices: Sequence[Sequence[str]], *, batch_size: int = 64
    ) -> Iterator[tuple[int, list[tuple[float, int]]]]:
        """The log-likelihood of each of a question's `choices` as its answer, and its number of tokens.

        The end of the answer does not count. Yields them with the question's index, in batches as `answers`; all
        choices of a batch are in one forward pass, after one over the questions. Raises DataError as `answers`, and
        for a choice without tokens.
        """
        for indices, batch, features in self._batches(prompts, batch_size):
            ids = [self._choices(*prompts[i], choices[i]) for i in indices]
            totals = likelihoods(self.model, batch, features, ids)
            for index, own, sums in zip(indices, ids, totals, strict=True):
                yield index, [(total, len(one)) for total, one in zip(sums, own, strict=True)]

    def _batches(
        self, prompts: Sequence[tuple[Images, str]], batch_size: int
    ) -> Iterator[tuple[list[int], list[PromptIds], list[Tensor]]]:
        """Each batch's questions: indices, token ids, and the features of their images."""
        about = [_listed(image) for image, _ in prompts]
        keys = [tuple(map(_key, images)) for images in about]
        tokens = {_key(image): self._tokens(image) for images in about for image in images}
        counts = [tuple(len(tokens[key]) for key in one) for one in keys]
        for indices in _by_images(keys, counts, [len(text) for _, text in prompts], batch_size):
            images = {_key(image): image for i in indices for image in about[i]}
            number = {key: index for index, key in enumerate(images)}
            ids = [self._prompt([Turn("user", prompts[i][1])], [tokens[key] for key in keys[i]]) for i in indices]
            seen = [tuple(number[key] for key in keys[i]) for i in indices]
            batch = [PromptIds(*pair) for pair in zip(ids, seen, strict=True)]
            yield indices, batch, self._see(list(images.values()))

    def _write(self, turns: Sequence[Turn], image: Images, max_new_tokens: int) -> Iterator[int]:
        images = _listed(image)
        prompt = PromptIds(self._prompt(turns, list(map(self._tokens, images))), tuple(range(len(images))))
        for [(_, token)] in greedy(self.model, [prompt], self._see(images), max_new_tokens):
            yield token

    def _prompt(self, turns: Sequence[Turn], images: Sequence[ImageTokens]) -> list[int]:
        return self._prompts.prompt(_with_images(turns, len(images)), images=images)

    def _choices(self, image: Images, question: str, choices: Sequence[str]) -> list[list[int]]:
        images = len(_listed(image))
        return self._prompts.answers(_with_images([Turn("user", question)], images), choices, images=images)

    def _tokens(self, image: ImageLike) -> ImageTokens:
        return self._grid.tokens(lambda: _file(image).size() if isinstance(image, (Path, str)) else image.size)

    def _see(self, images: Sequence[ImageLike]) -> list[Tensor]:
        return see(self.model, [self._input(image) for image in images]) if images else []

    def _input(self, image: ImageLike) -> ImageInput:
        opened = self._opened(image)
        return ImageInput(to_pixels(self.processor.image_processor, opened), self._grid.tokens(lambda: opened.size))

    def _opened(self, image: ImageLike) -> Image.Image:
        return open_image(Path(image), self._max_megapixels) if isinstance(image, (Path, str)) else to_rgb(image)

    def _decode(self, ids: list[int]) -> str:
        text: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _with_images(turns: Sequence[Turn], images: int) -> list[Turn]:
    """The turns, with images before the first one's text."""
    return [Turn(turns[0].role, f"{IMAGE_TOKEN}\n" * images + turns[0].text), *turns[1:]]


def _by_images(
    keys: Sequence[tuple[object, ...]], tokens: Sequence[tuple[int, ...]], lengths: Sequence[int], size: int
) -> Iterator[list[int]]:
    """Batches of questions with as many images of as many tokens each; those about the same images stand together."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index in sorted(range(len(keys)), key=lengths.__getitem__):
        groups[keys[index]].append(index)
    for count in sorted(set(tokens)):
        batch: list[int] = []
        same = [group for group in groups.values() if tokens[group[0]] == count]
        for group in sorted(same, key=lambda group: sum(lengths[index] for index in group)):
            for part in (group[start : start + size] for start in range(0, len(group), size)):
                if len(batch) + len(part) > size:
                    yield batch
                    batch = []
                batch += part
        yield batch


def _listed(image: Images) -> list[ImageLike]:
    if image is None:
        return []
    return [image] if isinstance(image, (Image.Image, Path, str)) else list(image)


def _file(path: Path | str) -> ImageFile:
    return read_image(Path(path))


def _key(image: ImageLike) -> Path | str | int:
    return image if isinstance(image, (Path, str)) else id(image)
