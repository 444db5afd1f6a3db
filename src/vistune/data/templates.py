"""What chat templates write: transformers' rendering of any template, and what is read off it."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from vistune.errors import CheckpointError

_TEXT = "\ue000"
"""Stands for a turn's text where only the template's own words are looked at."""


def render(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: list[dict[str, str]], prompt: bool = False
) -> str:
    """The conversation as text; with `prompt`, up to where the assistant's answer begins."""
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    return str(text)


def exchange(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, str, str]:
    """The template's words for a question and its answer: before the answer, after it, and the generation prompt.

    Raises CheckpointError for a template that cannot be rendered or does not show the answer.
    """
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _TEXT}]
    try:
        before, _, after = render(tokenizer, template, messages).partition(_TEXT)
        prompt = render(tokenizer, template, messages[:1], prompt=True)
    except Exception as error:  # templates raise whatever their author chose
        what = f"its chat template cannot be used: {' '.join(str(error).split())}"
        raise CheckpointError(what, where=tokenizer.name_or_path, fix="set model.chat_template") from None
    if not after:
        raise CheckpointError("the chat template leaves answers out or does not end them", where=tokenizer.name_or_path)
    return before, after, prompt


def before_answer(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """What the template writes between the generation prompt and an answer: generation has to write it, too."""
    before, _, prompt = exchange(tokenizer, template)
    return before.removeprefix(prompt) if before.startswith(prompt) else ""


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """All special tokens by their text."""
    return {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The special token that the template writes after an answer. Raises CheckpointError if there is none."""
    _, after, _ = exchange(tokenizer, template)
    tokens = sorted(special_tokens(tokenizer), key=len, reverse=True)
    found = re.match(r"\s*(" + "|".join(map(re.escape, tokens)) + ")", after) if tokens else None
    if found is None:
        raise CheckpointError(
            f"the chat template ends an answer with {after!r}, not with a special token",
            where=tokenizer.name_or_path,
            fix="set model.chat_template, or add the end-of-turn token to the tokenizer",
        )
    return found[1]
