"""Answers in JSON: which tokens may come next in a text that follows a schema, by the library llguidance."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistune.errors import DataError, require

_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One line, as `json.dumps` writes it: a model that may write white space may never stop."""


class Grammars:
    """Compiles JSON schemas for one tokenizer; `vocabulary` is the number of the model's logits."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def grammar(self, schema: dict[str, Any]) -> Grammar:
        """The grammar of one answer. Raises MissingPackageError without llguidance, DataError for a wrong schema."""
        guidance = require("llguidance", "serve", "answers in JSON")
        compiled = guidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_FORM)
        matcher = guidance.LLMatcher(self._tokens, compiled)
        if matcher.is_error():  # its message repeats the schema
            raise DataError(
                "the JSON schema is wrong, or uses what is not supported",
                where="response_format",
                fix="simplify the schema",
            )
        return Grammar(matcher, self._vocabulary)

    @cached_property
    def _tokens(self) -> Any:
        guidance = require("llguidance.hf", "serve", "answers in JSON")
        return guidance.from_tokenizer(self._tokenizer, n_vocab=self._vocabulary)


class Grammar:
    """The state of one answer in its grammar."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def restrict(self, logits: Tensor) -> Tensor:
        """The logits (V), minus infinity for tokens that may not come next; the end may after the whole value."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(bool)
        return logits.masked_fill(torch.from_numpy(~allowed).to(logits.device), -torch.inf)

    def add(self, token: int) -> None:
        """Go on to the state after this token."""
        self._matcher.consume_token(token)
