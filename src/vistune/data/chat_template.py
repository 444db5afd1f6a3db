"""Chat templates, and what makes them fit for training and for every engine that reads the checkpoint.

Whatever a template is, one of ours or a language model's own, the result

- takes content as text and as a list of parts; an image is `<image>` on a line of its own, as in LLaVA's JSON;
- takes a system turn, before the first question where it has no place of its own;
- writes the beginning-of-sequence token itself, if the model had one at the beginning: engines differ in whether
  they add it to a rendered conversation;
- has a generation prompt that is exactly what precedes an answer in training. Qwen3's template writes an empty
  `<think>` block before the last answer, but not in the generation prompt; DeepSeek-R1's opens `<think>` there, but
  before no answer. Generation would then start from a prompt that training never saw. Such a block goes into the
  prompt, or out of it;
- does not depend on the day. A template that asks for the date gets the one that Llama's templates write when they
  cannot know it: otherwise a run that is resumed tomorrow would continue with other data.

Ours are `vicuna_v1` (LLaVA 1.5; llava-hf's checkpoints use it without the system's text), `plain` (stage 1: an image
and its caption), `chatml`, and `vicuna_v0`. In `vicuna_v0` an answer ends with `###`. In the official code of LLaVA v0
this was text, some ordinary tokens that begin the next turn; the loss covered them, and generation stopped when they
appeared in the output. Here it is one special token, the end of the sequence, so that every engine stops at it; a
`###` that a user types is still text, unlike in engines that tokenise the rendered conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vistune.errors import CheckpointError, RecipeError, did_you_mean
from vistune.records import IMAGE_TOKEN
from vistune.resources import folder

_TEXT = "\ue000"
"""Stands for a turn's text where only the template's own words matter."""
_TURNS = "system", "user", "assistant"
_DATE = datetime(2024, 7, 26, tzinfo=UTC)
_NEEDS = re.compile(r"\{#- special tokens: (.*?) -#\}")

# The last expression of each guards the white space that follows it.
_PARTS_TO_TEXT = """\
{%- if messages | map(attribute='content') | reject('string') | list -%}
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
{%- endif -%}
{{- '' }}"""
_TEXT_TO_PART = """\
{%- set ns = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set part = {'type': 'text', 'text': message['content']} -%}
{%- set ns.messages = ns.messages + [{'role': message['role'], 'content': [part]}] -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
{{- '' }}"""
_TEXT_TO_PARTS = """\
{%- set ns = namespace(messages=[], parts=[], text='') -%}
{%- for message in messages -%}
{%- set ns.parts = [] -%}
{%- for piece in message['content'].split('<image>') -%}
{%- if loop.first -%}
{%- set ns.text = piece -%}
{%- elif ns.text | trim -%}
{%- set ns.text = ns.text + '<image>' + piece -%}
{%- else -%}
{%- set ns.parts = ns.parts + [{'type': 'image'}] -%}
{%- set ns.text = piece -%}
{%- endif -%}
{%- endfor -%}
{%- set ns.text = ns.text.lstrip('\n') if ns.parts else ns.text -%}
{%- set ns.parts = ns.parts + [{'type': 'text', 'text': ns.text}] -%}
{%- set ns.messages = ns.messages + [{'role': message['role'], 'content': ns.parts}] -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
{{- '' }}"""
"""As _TEXT_TO_PART, for a template that writes images by itself: those before a text are its own."""
_SYSTEM_TO_USER = """\
{%- if messages[0]['role'] == 'system' -%}
{%- set text = messages[0]['content'] + '\\n\\n' + messages[1]['content'] -%}
{%- set messages = [{'role': messages[1]['role'], 'content': text}] + messages[2:] -%}
{%- endif -%}
{{- '' }}"""
_END_ANSWERS = """\
{%- set ns = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set end = eos_token if message['role'] == 'assistant' else '' -%}
{%- set ns.messages = ns.messages + [{'role': message['role'], 'content': message['content'] + end}] -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
{{- '' }}"""
_OWN_PROMPT = "{%- set wants_answer = add_generation_prompt -%}{%- set add_generation_prompt = false -%}{{- '' }}"


def template_names() -> list[str]:
    """The names of our own templates, which are files."""
    return sorted(file.stem for file in folder("vistune.data", "templates").glob("*.jinja"))


def chat_template(tokenizer: PreTrainedTokenizerBase, name: str | None = None) -> str:
    """The template of that name (none: the language model's own), adapted to the tokenizer.

    Special tokens that a template of ours needs are added to the tokenizer. Raises RecipeError for an unknown name,
    CheckpointError for a language model without a template or with one that cannot be used.
    """
    if name is not None:
        if name not in template_names():
            raise RecipeError(f"unknown chat template '{name}'", fix=did_you_mean(name, template_names()))
        return _adapt(tokenizer, folder("vistune.data", f"templates/{name}.jinja").read_text("utf-8"))
    own: Any = tokenizer.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    if not own:
        fix = f"set model.chat_template to one of: {', '.join(template_names())}"
        raise CheckpointError("the language model has no chat template", where=tokenizer.name_or_path, fix=fix)
    return _adapt(tokenizer, own)


def checkpoint_template(processor: ProcessorMixin) -> str:
    """The chat template of a checkpoint, which others may have made: adapted, and its `<image>` a special token.

    Its generation prompt stays: it is what the checkpoint's authors answer with.
    """
    tokenizer: Any = processor.tokenizer
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    return _adapt(tokenizer, str(processor.chat_template), own_prompt=True)


def keep_template(processor: ProcessorMixin) -> str:
    """The template of a checkpoint for its further training, which the processor then has and saves.

    As `checkpoint_template`, but the generation prompt is what precedes an answer, and answers that the template does
    not end (llava-hf's) end with the end of a sequence; the tokenizer's end is then that of answers.
    """
    tokenizer: Any = processor.tokenizer
    template = _with_prompt(tokenizer, checkpoint_template(processor))
    if _end(tokenizer, template) is None:
        template = template.replace(_PARTS_TO_TEXT, _PARTS_TO_TEXT + _END_ANSWERS, 1)
    processor.chat_template = tokenizer.chat_template = template
    tokenizer.eos_token = end_of_turn(tokenizer, template)
    tokenizer.add_bos_token = False  # the template writes it
    return template


def render(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: list[dict[str, str]], prompt: bool = False
) -> str:
    """The conversation as text; with `prompt`, up to where the assistant's answer begins."""
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    return str(text)


def exchange(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, str, str]:
    """The template's own words around an answer (before it, after it), and its generation prompt.

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
        raise CheckpointError(
            "the chat template leaves answers out or does not end them",
            where=tokenizer.name_or_path,
            fix="set model.chat_template to one of ours, e.g. vicuna_v1",
        )
    return before, after, prompt


def before_answer(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The template's words between the generation prompt and an answer: the model has to generate them, too."""
    before, _, prompt = exchange(tokenizer, template)
    return before.removeprefix(prompt) if before.startswith(prompt) else ""


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """All special tokens by their text."""
    return {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The special token that the template writes after an answer. Raises CheckpointError if there is none."""
    end = _end(tokenizer, template)
    if end is None:
        raise CheckpointError(
            f"the chat template ends an answer with {exchange(tokenizer, template)[1]!r}, not with a special token",
            where=tokenizer.name_or_path,
            fix="set model.chat_template, or add the end-of-turn token to the tokenizer",
        )
    return end


def _end(tokenizer: PreTrainedTokenizerBase, template: str) -> str | None:
    _, after, _ = exchange(tokenizer, template)
    tokens = sorted(special_tokens(tokenizer), key=len, reverse=True)
    found = re.match(r"\s*(" + "|".join(map(re.escape, tokens)) + ")", after) if tokens else None
    return found and found[1]


def _adapt(tokenizer: PreTrainedTokenizerBase, template: str, *, own_prompt: bool = False) -> str:
    needed = _NEEDS.search(template)
    if needed:
        tokens = [AddedToken(token, special=True, normalized=False) for token in needed[1].split()]
        tokenizer.add_tokens(tokens, special_tokens=True)
    template = _without_date(template.removesuffix("\n"))
    if not template.startswith(_PARTS_TO_TEXT):
        to_parts = _TEXT_TO_PARTS if _writes_images(tokenizer, template) else _TEXT_TO_PART
        for change, roles in ((to_parts, _TURNS[1:]), (_SYSTEM_TO_USER, _TURNS)):
            if _shown(tokenizer, change + template, roles) > _shown(tokenizer, template, roles):
                template = change + template
        template = _PARTS_TO_TEXT + template
    if not own_prompt:
        template = _with_prompt(tokenizer, template)
    before, *_ = exchange(tokenizer, template)
    if _begins_with_bos(tokenizer) and not before.startswith(str(tokenizer.bos_token)):
        space = " " if _space_follows_bos(tokenizer) else ""
        template = template.replace(_PARTS_TO_TEXT, f"{_PARTS_TO_TEXT}{{{{ bos_token + '{space}' }}}}", 1)
    return template


def _without_date(template: str) -> str:
    """`strftime_now('%d %B %Y')` as the text that it gives on that day."""
    return re.sub(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", lambda call: json.dumps(_DATE.strftime(call[2])), template)


def _shown(tokenizer: PreTrainedTokenizerBase, template: str, roles: Sequence[str]) -> int:
    """The number of turns whose texts the template shows; 0 if it raises."""
    messages = [{"role": role, "content": chr(0xE000 + number)} for number, role in enumerate(roles)]
    try:
        rendered = render(tokenizer, template, messages)
    except Exception:  # templates raise whatever their author chose
        return 0
    return sum(message["content"] in rendered for message in messages)


def _writes_images(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Whether the template writes an image that is a part of a turn as `<image>`."""
    content: Any = [{"type": "image"}, {"type": "text", "text": "x"}]
    try:
        return IMAGE_TOKEN in render(tokenizer, template, [{"role": "user", "content": content}])
    except Exception:  # templates raise whatever their author chose
        return False


def _with_prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The template with the words before an answer as its generation prompt, except white space at their end."""
    before, _, prompt = exchange(tokenizer, template)
    if before.startswith(prompt) and not before[len(prompt) :].strip():
        return template
    question = render(tokenizer, template, [{"role": "user", "content": "x"}])
    if before.startswith(question):
        lead = json.dumps(before[len(question) :].rstrip(" "), ensure_ascii=False)
        template = template.replace(_PARTS_TO_TEXT, _PARTS_TO_TEXT + _OWN_PROMPT, 1)
        return f"{template}{{{{ {lead} if wants_answer }}}}"
    if before.startswith(prompt):
        return template
    what = f"its chat template's generation prompt is {prompt!r}, but {before!r} precedes its answers"
    raise CheckpointError(what, where=tokenizer.name_or_path, fix="set model.chat_template")


def _space_follows_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer that puts a space before a text puts none after a token that begins it."""
    bos, own = str(tokenizer.bos_token), tokenizer("x", add_special_tokens=False)["input_ids"]
    written, spaced = (tokenizer(bos + text, add_special_tokens=False)["input_ids"][1:] for text in ("x", " x"))
    return bool(written != own and spaced == own)


def _begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model's sequences begin with its beginning-of-sequence token.

    They do if the tokenizer writes it, or the model's own template does so once: SmolLM2's begins every turn.
    """
    bos, own = tokenizer.bos_token, tokenizer.chat_template
    if bos and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id:
        return True
    if not bos or not isinstance(own, str):
        return False
    try:
        rendered = render(tokenizer, own, [{"role": "user", "content": "x"}])
    except Exception:  # templates raise whatever their author chose
        return False
    return rendered.startswith(bos) and rendered.count(bos) == 1
