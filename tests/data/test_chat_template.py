"""Chat templates, ours and those of language models, as a checkpoint gets them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from vistune.data.chat_template import chat_template
from vistune.errors import CheckpointError, RecipeError

Make = Callable[[str], Any]


def _render(tokenizer: Any, template: str, *texts: Any, prompt: bool = False) -> str:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    )


def _own(tokenizer: Any, template: str) -> str:
    tokenizer.chat_template = template
    return chat_template(tokenizer)


def test_vicuna_v1_is_written_as_by_the_official_code(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer("llama2")
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    template = chat_template(tokenizer, "vicuna_v1")
    turns = f"<s>{system} USER: <image>\nq1 ASSISTANT: a1</s>USER: q2 ASSISTANT:"
    assert _render(tokenizer, template, "<image>\nq1", "a1", "q2", prompt=True) == turns
    assert _render(tokenizer, template, "<image>\nq1", "a1", "q2", "a2") == turns + " a2</s>"
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "<image>\nq"}]
    plain = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert plain == "<s> USER: <image>\nq ASSISTANT:"


def test_vicuna_v0_chatml_and_plain(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer("llama2")
    v0 = _render(tokenizer, chat_template(tokenizer, "vicuna_v0"), "<image>\nq1", "a1", "q2", "a2")
    assert re.sub(r"^<s>A chat between .* human's questions\.", "SYSTEM", v0) == (
        "SYSTEM\n\n### Human: <image>\nq1\n### Assistant: a1\n### Human: q2\n### Assistant: a2\n###"
    )
    chatml = _render(tokenizer, chat_template(tokenizer, "chatml"), "q1", "a1", "q2", prompt=True)
    turns = "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\na1<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n"
    assert chatml == f"<s>{turns}<|im_start|>assistant\n"
    plain = _render(tokenizer, chat_template(tokenizer, "plain"), "what is <image> or <image>", "a caption")
    assert plain == "<s><image><image>a caption</s>"


def test_special_tokens_that_a_template_needs_are_added(backbones: Any) -> None:
    from transformers import AutoTokenizer

    for name, needed in (("chatml", ["<|im_start|>", "<|im_end|>"]), ("vicuna_v0", ["###"])):
        tokenizer: Any = AutoTokenizer.from_pretrained(backbones / "narrow")
        chat_template(tokenizer, name)
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        assert added >= set(needed)
        assert all(len(tokenizer(f"a{one}b", add_special_tokens=False)["input_ids"]) == 3 for one in needed)


@pytest.mark.parametrize(
    ("kind", "own", "begins"),
    [
        ("llama2", None, "<s>"),  # the tokenizer writes it
        ("gpt2", None, ""),  # it has one, but never writes it
        ("qwen", None, ""),  # it has none
        ("unigram", "{{ bos_token }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", "<s>"),
        ("llama3", "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", "<|begin_of_text|>"),
    ],
)
def test_bos_is_written_where_the_model_had_it(make_tokenizer: Make, kind: str, own: str | None, begins: str) -> None:
    tokenizer = make_tokenizer(kind)
    tokenizer.chat_template = own
    for name in ("chatml", None) if own else ("chatml",):
        rendered = _render(tokenizer, chat_template(tokenizer, name), "q", "a")
        assert rendered.startswith(begins)
        assert not rendered.startswith("<") or not begins or rendered.count(begins) == 1
        assert begins or rendered.startswith("<|im_start|>user")


def test_what_begins_every_turn_is_no_bos(make_tokenizer: Make, own_templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer("gpt2")
    tokenizer.bos_token = "<|im_start|>"  # as SmolLM2's
    tokenizer.chat_template = own_templates["smollm2"]
    assert _render(tokenizer, chat_template(tokenizer, "chatml"), "q").startswith("<|im_start|>user")
    assert _render(tokenizer, chat_template(tokenizer), "q").startswith("<|im_start|>system")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("deepseek_r1", "<|Assistant|>"),
        ("qwen2_5", "<|im_start|>assistant\n"),
    ],
)
def test_the_generation_prompt_is_what_stands_before_answers(
    make_tokenizer: Make, own_templates: dict[str, str], name: str, prompt: str
) -> None:
    tokenizer = make_tokenizer("llama3")
    template = _own(tokenizer, own_templates[name])
    question, asked = _render(tokenizer, template, "q"), _render(tokenizer, template, "q", prompt=True)
    assert asked == question + prompt
    assert _render(tokenizer, template, "q", "a").startswith(asked + "a")
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}], chat_template=template, tokenize=False, add_generation_prompt=True,
        enable_thinking=False,
    )  # fmt: skip
    assert whole == asked


def test_a_template_does_not_know_the_day(make_tokenizer: Make, own_templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer("llama3")
    assert "Today Date: 26 Jul 2024\n" in _render(tokenizer, _own(tokenizer, own_templates["llama3"]), "q")
    assert "Today Date: 26 July 2024\n" in _render(tokenizer, _own(tokenizer, own_templates["smollm3"]), "q")


def test_templates_take_text_and_parts(make_tokenizer: Make, own_templates: dict[str, str]) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "what is it"}]
    for kind, name in (("qwen", "parts_only"), ("gemma", "gemma3"), ("qwen", "qwen3"), ("llama2", "plain")):
        tokenizer = make_tokenizer(kind)
        tokenizer.chat_template = own_templates.get(name)
        template = chat_template(tokenizer, None if name in own_templates else name)
        rendered = _render(tokenizer, template, parts, "yes")
        assert rendered == _render(tokenizer, template, "<image>\nwhat is it", "yes")
        assert "<image>" in rendered
        assert ("what is it" in rendered) == (name != "plain")


@pytest.mark.parametrize("name", ["gemma2", "mistral_v1", "mistral_tekken", "qwen2_5", "smollm3"])
def test_a_systems_turn_is_shown_once_before_the_first_question(
    make_tokenizer: Make, own_templates: dict[str, str], name: str
) -> None:
    tokenizer = make_tokenizer("llama3")
    template = _own(tokenizer, own_templates[name])
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": text} for role, text in zip(roles, ("be brief", *"abcd"), strict=True)]
    rendered = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert rendered.count("be brief") == 1
    assert re.search(r"be brief.*a.*b.*c.*d", rendered, re.DOTALL)
    assert rendered.count(tokenizer.bos_token) == ("bos_token" in template)


def test_an_adapted_template_stays_as_it_is(make_tokenizer: Make, own_templates: dict[str, str]) -> None:
    for name in ("qwen3", "deepseek_r1", "parts_only", "llama3"):
        tokenizer = make_tokenizer("llama3")
        once = _own(tokenizer, own_templates[name])
        assert _own(tokenizer, once) == once


def test_a_tokenizer_with_several_templates_has_a_default(make_tokenizer: Make, own_templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer("qwen")
    tokenizer.chat_template = {"default": own_templates["qwen2_5"], "tool_use": own_templates["qwen3"]}
    assert "You are a helpful assistant" in _render(tokenizer, chat_template(tokenizer), "q")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}", "its chat template cannot be used: Unexpected end"),
        ("{{ raise_exception('never') }}", "its chat template cannot be used: never"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "leaves answers out or does not end them"),
        (
            "{% for m in messages %}{{ m['role'] + m['content'] + '. ' }}{% endfor %}"
            "{% if add_generation_prompt %}assistant{% endif %}",
            "ends an answer with '. ', not with a special token",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_one_clear_error(
    make_tokenizer: Make, template: str | None, message: str
) -> None:
    from vistune.model.assemble import _prepare_tokenizer

    tokenizer = make_tokenizer("qwen")
    tokenizer.chat_template = template
    with pytest.raises(CheckpointError, match=message):
        _prepare_tokenizer(tokenizer, chat_template(tokenizer))


def test_an_unknown_name_gets_a_suggestion(make_tokenizer: Make) -> None:
    with pytest.raises(RecipeError, match="vicuna_v1"):
        chat_template(make_tokenizer("qwen"), "vicunav1")
