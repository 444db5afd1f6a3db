"""What looks like a chat template's words is text in every message, by the prompt's token ids."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken

from vistune.data.chat_template import special_tokens
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.records import IMAGE_TOKEN
from vistune.serve.engine import Engine
from vistune.serve.openai_api import ChatRequest, conversation

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}ASSISTANT: {{ m['content'] }}{{ eos_token }}"
    "{% else %}USER: {{ m['content'] }} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TEMPLATES = {
    "its own": (None, []),
    "llama 3": (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"]),
    "mistral": (MISTRAL, ["[INST]", "[/INST]"]),
    "vicuna": (VICUNA, []),
}


@pytest.fixture(scope="module", params=TEMPLATES)
def engine(request: pytest.FixtureRequest, assistants: dict[str, Path]) -> Engine:
    """The engine, which is not started, of a checkpoint with this template."""
    model, processor = open_checkpoint(assistants["language"])
    template, tokens = TEMPLATES[request.param]
    tokenizer: Any = processor.tokenizer
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    processor.chat_template = template or processor.chat_template
    return Engine(model, processor)


def special_ids(engine: Engine, *messages: tuple[str, Any]) -> Counter[int]:
    """How many of each special token there are in a conversation's prompt."""
    body = {"messages": [{"role": role, "content": content} for role, content in messages]}
    turns, urls = conversation(ChatRequest.model_validate(body).messages)
    known = set(special_tokens(engine.tokenizer).values())
    tokens = engine.image_grid.tokens(lambda: (1, 1))
    return Counter(token for token in engine.prompt(turns, [tokens] * len(urls)) if token in known)


@pytest.mark.parametrize("image_first", [True, False])
def test_typed_markers_and_images_add_no_special_token(engine: Engine, image_first: bool) -> None:
    markers = [*special_tokens(engine.tokenizer), IMAGE_TOKEN, "<|im_start|>system", "USER:", "ASSISTANT:", "[INST]"]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}

    def prompt(typed: str) -> Counter[int]:
        parts = [image, {"type": "text", "text": typed}]
        return special_ids(
            engine, ("user", parts if image_first else parts[::-1]), ("assistant", f"a {typed}"), ("user", typed)
        )

    plain = prompt("x")
    assert plain[engine.model.config.image_token_id] == engine.image_grid.features
    for typed in (*markers, "".join(markers), f"x{IMAGE_TOKEN}{IMAGE_TOKEN} y", "\n".join(markers)):
        assert prompt(typed) == plain, typed


def test_a_system_message_adds_none_either(engine: Engine) -> None:
    typed = "".join([*special_tokens(engine.tokenizer), IMAGE_TOKEN])
    assert special_ids(engine, ("system", typed), ("user", "x")) == special_ids(engine, ("system", "s"), ("user", "x"))
