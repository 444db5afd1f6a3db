"""Token ids of rendered conversations, in which special tokens come from the chat template alone."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from vistune.data.chat_template import special_tokens
from vistune.errors import DataError


class TemplateTokenizer:
    """A tokenizer in which every special token has a spelling that cannot be guessed.

    A template's words are respelled (`spell`) before they are joined with the turns' texts. Where a text holds `</s>`
    or `<image>`, it is thus tokenised as ordinary text, together with its surroundings. Texts
    without such words get the same ids as from the tokenizer itself.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        special = special_tokens(tokenizer)
        nonce = secrets.token_hex(8)
        self._spellings = {content: f"<{nonce}:{index}>" for content, index in special.items()}
        self._pattern = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._backend = _respelled(tokenizer.backend_tokenizer, self._spellings)
        self.cut = f"<{nonce}:cut>"
        """Ends a token wherever it stands in a text; its own token `cut_id` must then be removed."""
        self._backend.add_special_tokens([AddedToken(self.cut, normalized=False)])
        self.cut_id: int = self._backend.get_vocab()[self.cut]

    def spell(self, literal: str) -> str:
        """A template's words, with the special tokens among them as this tokenizer knows them."""
        return self._pattern.sub(lambda found: self._spellings[found[0]], literal)

    def cuts_cleanly(self, before: str, after: str) -> bool:
        """Whether a cut between these texts adds nothing to their tokens, as the `▁` of SentencePiece."""
        whole, cut = self([before + after, before + self.cut + after])
        return "".join(whole.tokens) == "".join(cut.tokens).replace(self.cut, "")

    def __call__(self, texts: Sequence[str], *, offsets: bool = True) -> list[Encoding]:
        """The tokens of spelled texts; their ids are those of the tokenizer. No special token is added.

        Without `offsets` it is faster, and the encodings do not map to characters.
        """
        encode = self._backend.encode_batch if offsets else self._backend.encode_batch_fast
        try:
            encodings: list[Encoding] = encode(list(texts), add_special_tokens=False)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of Rust's is no Exception, as of a pattern that backtracks without end
            what, fix = f"the tokenizer fails on a text: {error}", "use another tokenizer, or shorten the text"
            raise DataError(what, fix=fix) from None
        return encodings


def _respelled(backend: Tokenizer, spellings: Mapping[str, str]) -> Tokenizer:
    """A copy with other words for special tokens, and with offsets that include the white space of a token."""
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        token["content"] = spellings.get(token["content"], token["content"])
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {spellings.get(word, word): index for word, index in model["vocab"].items()}
    else:  # a Unigram's pieces with their scores
        model["vocab"] = [[spellings.get(word, word), score] for word, score in model["vocab"]]
    if "merges" in model:
        model["merges"] = _without(model["merges"], spellings)
    if model.get("unk_token") in spellings:
        model["unk_token"] = spellings[model["unk_token"]]
    return Tokenizer.from_str(
        json.dumps({**content, "post_processor": None, "truncation": None, "padding": None}, ensure_ascii=False)
    )


def _without(merges: Sequence[Any], special: Collection[str]) -> list[Any]:
    """The merges by which ordinary text does not become one of the special tokens, as `#` and `##` would `###`."""
    kept = []
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left not in special and right not in special and left + right not in special:
            kept.append(merge)
    return kept
