"""Chat templates: files of Jinja as transformers renders them, and what is done to any of them."""

from __future__ import annotations

import re
from importlib import resources

from transformers import PreTrainedTokenizerBase

from vistune.errors import CheckpointError, RecipeError, did_you_mean

# Templates are written for text. This goes before them: content given as a list of parts becomes text, the
# image as `<image>` on a line of its own, as in LLaVA's JSON. The last expression guards the white space.
_ACCEPT_PARTS = """\
{%- set ns = namespace(messages=[], text='') -%}
{%- for message in messages -%}
{%- if message['content'] is string or message['content'] is not iterable -%}
{%- set ns.messages = ns.messages + [message] -%}
{%- else -%}
{%- set ns.text = '' -%}
{%- for part in message['content'] -%}
{%- set ns.text = ns.text + ('' if loop.first else '\\n') + ('<image>' if part['type'] == 'image' else part['text']) -%}
{%- endfor -%}
{%- set ns.messages = ns.messages + [{'role': message['role'], 'content': ns.text}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
{{- '' }}"""


def template_names() -> list[str]:
    """The names of the templates that are files here."""
    files = resources.files("vistune.data").joinpath("templates").iterdir()
    return sorted(file.name.removesuffix(".jinja") for file in files if file.name.endswith(".jinja"))


def read_template(name: str) -> str:
    """The template of that name, for content as text or as parts. Raises RecipeError for an unknown name."""
    if name not in template_names():
        raise RecipeError(f"unknown chat template '{name}'", fix=did_you_mean(name, template_names()))
    file = resources.files("vistune.data").joinpath("templates", f"{name}.jinja")
    return accept_parts(file.read_text("utf-8").removesuffix("\n"))


def accept_parts(template: str) -> str:
    """`template` made to accept content as text and as a list of parts ({"type": "image"}, {"type": "text", …})."""
    return template if template.startswith(_ACCEPT_PARTS) else _ACCEPT_PARTS + template


def own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The language model's own template, for content as text or as parts.

    Where the tokenizer, not the template, writes the beginning-of-sequence token, it moves into the template:
    engines differ in whether they add it to a rendered conversation. Raises CheckpointError without a template.
    """
    if not isinstance(tokenizer.chat_template, str):
        fix = f"set model.chat_template to one of: {', '.join(template_names())}"
        raise CheckpointError("the language model has no chat template", where=tokenizer.name_or_path, fix=fix)
    template = accept_parts(tokenizer.chat_template)
    rendered = render(tokenizer, template, [{"role": "user", "content": "x"}])
    bos = tokenizer.bos_token
    if bos and not rendered.startswith(bos) and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id:
        template = template.replace(_ACCEPT_PARTS, _ACCEPT_PARTS + "{{ bos_token }}", 1)
    return template


def render(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: list[dict[str, str]], prompt: bool = False
) -> str:
    """The conversation as text; with `prompt`, up to where the assistant's answer begins."""
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    return str(text)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """All special tokens by their text."""
    return {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The special token that the template writes after an answer. Raises CheckpointError if there is none."""
    answer = "\ue000"
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": answer}]
    after = render(tokenizer, template, messages).rpartition(answer)[2]
    tokens = sorted(special_tokens(tokenizer), key=len, reverse=True)
    found = re.match(r"\s*(" + "|".join(map(re.escape, tokens)) + ")", after) if tokens else None
    if found is None:
        raise CheckpointError(
            f"the chat template ends an answer with {after!r}, not with a special token",
            where=tokenizer.name_or_path,
            fix="set model.chat_template, or add the end-of-turn token to the tokenizer",
        )
    return found[1]
