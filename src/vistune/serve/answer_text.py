"""Tokens as text while they are written: characters and stop strings of several tokens, log-probabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from vistune.serve.sampling import Choice


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token's own text (a part of a character becomes `�`), its bytes, and its log-probability."""

    text: str
    content: bytes
    logprob: float
    top: tuple[TokenText, ...] = ()


class AnswerText:
    """The text of one answer. White space before it is dropped, as the chat templates write their own."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], token_bytes: Callable[[int], bytes] | None) -> None:
        self._tokenizer, self._stop, self._token_bytes = tokenizer, [one for one in stop if one], token_bytes
        self._ids: list[int] = []
        self._first = self._read = 0  # tokens from `first` on are decoded; the text of those before `read` is in `text`
        self._text, self._sent = "", 0
        self._tokens: list[tuple[int, TokenText]] = []
        self.stopped = False
        """Whether a stop string has ended the text."""

    def add(self, choice: Choice) -> tuple[str, list[TokenText]]:
        """The text, and the tokens, that can be sent after one more token."""
        if self._token_bytes:
            self._tokens.append((len(self._text), self._described(choice)))
        self._ids.append(choice.token)
        before = self._decode(self._ids[self._first : self._read])
        after = self._decode(self._ids[self._first :])
        if len(after) > len(before) and not after.endswith("\ufffd"):  # else a character that is not yet complete
            self._first, self._read = self._read, len(self._ids)
            self._append(after[len(before) :])
        return self._send(len(self._text) - (0 if self.stopped else self._held()))

    def end(self) -> tuple[str, list[TokenText]]:
        """The rest of the text, at the end of the answer."""
        if not self.stopped:
            before = self._decode(self._ids[self._first : self._read])
            self._append(self._decode(self._ids[self._first :])[len(before) :])
        return self._send(len(self._text), last=not self.stopped)

    def _append(self, piece: str) -> None:
        start = len(self._text)
        self._text += piece if self._text else piece.lstrip()
        longest = max(map(len, self._stop), default=0)
        places = [self._text.find(stop, max(0, start - longest + 1)) for stop in self._stop]
        if any(place >= 0 for place in places):
            self._text, self.stopped = self._text[: min(place for place in places if place >= 0)], True

    def _held(self) -> int:
        """The number of last characters that may be the beginning of a stop string."""
        return max(
            (size for stop in self._stop for size in range(1, len(stop)) if self._text.endswith(stop[:size])), default=0
        )

    def _send(self, until: int, last: bool = False) -> tuple[str, list[TokenText]]:
        piece, self._sent = self._text[self._sent : until], max(self._sent, until)
        ready = [token for start, token in self._tokens if last or start < until]
        self._tokens = self._tokens[len(ready) :]
        return piece, ready

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _described(self, choice: Choice) -> TokenText:
        top = tuple(self._token(token, logprob) for token, logprob in choice.top)
        return self._token(choice.token, choice.logprob, top)

    def _token(self, token: int, logprob: float, top: tuple[TokenText, ...] = ()) -> TokenText:
        assert self._token_bytes is not None
        content = self._token_bytes(token)
        return TokenText(content.decode("utf-8", "replace"), content, logprob, top)


def byte_reader(tokenizer: Any) -> Callable[[int], bytes]:
    """A function for the bytes that a token stands for, in byte-level BPE and in SentencePiece with byte fallback."""
    decoder = tokenizer.backend_tokenizer.decoder
    byte_level = decoder is not None and b'"ByteLevel"' in decoder.__getstate__()  # its JSON
    letters = {letter: bytes([byte]) for byte, letter in bytes_to_unicode().items()}  # GPT-2's

    def read(token: int) -> bytes:
        if token in tokenizer.added_tokens_decoder:
            return str(tokenizer.added_tokens_decoder[token].content).encode()
        piece: str = tokenizer.convert_ids_to_tokens(token) or ""  # none: a padded embedding has no token
        if byte_level:
            return b"".join(letters.get(letter, letter.encode()) for letter in piece)
        if one := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
            return bytes.fromhex(one[1])
        return piece.replace("▁", " ").encode()

    return read
