"""What an assistant is asked, as token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vistune.data.render import Renderer
from vistune.data.templates import special_tokens
from vistune.data.tokenizer import TemplateTokenizer
from vistune.records import IMAGE_TOKEN, Turn

Ids = NDArray[np.int32]


class PromptEncoder:
    """Encodes prompts with one tokenizer and chat template; an image takes `image_tokens` tokens.

    Special tokens come from the template alone: where a turn's text spells one, it is encoded as the ordinary text
    it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, image_tokens: int) -> None:
        self._image_id, self._image_tokens = special_tokens(tokenizer)[IMAGE_TOKEN], image_tokens
        self._tokenize = TemplateTokenizer(tokenizer)
        self._render = Renderer(tokenizer, template, self._tokenize.spell)

    def prompt(self, turns: Sequence[Turn], *, images: int) -> list[int]:
        """The token ids up to where the assistant's next answer begins; the first `images` `<image>` are images.

        Raises DataError if the template refuses the turns or changes them.
        """
        rendered = self._render(turns, images=images, prompt=True, where="prompt")
        parts = [rendered.words[0]]
        for text, words in zip(rendered.texts, rendered.words[1:], strict=True):
            parts += [text, words]
        [encoding] = self._tokenize(["".join(parts)], offsets=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        expanded: list[int] = ids.repeat(self._sizes(ids)).tolist()
        return expanded

    def _sizes(self, ids: Ids) -> NDArray[np.int64]:
        """How many tokens each token becomes."""
        return np.where(ids == self._image_id, self._image_tokens, 1)
