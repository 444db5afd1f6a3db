"""A checkpoint of LLaVA's architecture under evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from vistune.evaluate.models.answerer import Dtype, Likelihood, Prompt, naming_prompts
from vistune.evaluate.models.fingerprint import fingerprint
from vistune.image_files import MAX_MEGAPIXELS
from vistune.model.adapter_checkpoint import is_adapter
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import check_whole
from vistune.model.pretrained import local_folder


class Checkpoint:
    """An assistant, loaded when its first answer is wanted; see `Answerer`."""

    def __init__(self, load: Callable[[], Assistant], name: str, identity: str) -> None:
        self._load, self.name, self.identity = load, name, identity

    @classmethod
    def open(
        cls, name: str, dtype: Dtype, device: str | None, *, load_in_4bit: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> Checkpoint:  # fmt: skip
        """The checkpoint of a folder or a hub id, whole or of adapters. Raises CheckpointError."""
        folder = local_folder(name)
        if not is_adapter(folder):
            check_whole(folder)
        identity = f"{fingerprint(folder)} {dtype}{' 4bit' if load_in_4bit else ''}"
        shown = name if folder != Path(name) else folder.resolve().name
        load = partial(Assistant.load, folder, device, dtype, load_in_4bit=load_in_4bit, max_megapixels=max_megapixels)
        return cls(load, shown, identity)

    @cached_property
    def _assistant(self) -> Assistant:
        return self._load()

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int) -> Iterator[tuple[int, str]]:
        """The answers with their prompts' indices; questions about the same images share these tokens."""
        asked = [(prompt.images, prompt.text) for prompt in prompts]
        with naming_prompts(prompts):
            yield from self._assistant.answers(asked, max_new_tokens=max_new_tokens, batch_size=batch_size)

    def likelihoods(
        self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]], *, batch_size: int
    ) -> Iterator[tuple[int, list[Likelihood]]]:
        """The likelihoods of each prompt's choices, which share the prompt."""
        asked = [(prompt.images, prompt.text) for prompt in prompts]
        with naming_prompts(prompts):
            for index, found in self._assistant.likelihoods(asked, choices, batch_size=batch_size):
                yield index, [Likelihood(*one) for one in found]
