from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from vistune.errors import ClientError
from vistune.llm import Reply, Request, RequestError, open_client
from vistune.records import Turn

REQUEST = Request("Be brief.", (Turn("user", "What is this?"),), max_tokens=12)


def complete(model: Path, *requests: Request, **options: int) -> list[Reply]:
    async def work() -> list[Reply]:
        async with open_client(f"local:{model}", device="cpu", **options) as client:
            return await asyncio.gather(*(client.complete(one) for one in requests))

    return asyncio.run(work())


def test_a_batch_gives_what_each_request_gives_alone(language_model: Path) -> None:
    requests = [replace(REQUEST, messages=(Turn("user", "What? " * n),)) for n in (1, 9, 3)]
    batch = complete(language_model, *requests)
    assert [one.text for one in batch] == [complete(language_model, one)[0].text for one in requests]
    assert [one.usage["output"] for one in batch] == [12, 12, 12]
    assert [one.finish for one in batch] == ["length"] * 3


def test_tokens_and_template_are_those_of_transformers(language_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_model)
    prompt = tokenizer("user: Be brief.\n\nWhat is this?<end>assistant: ", return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(language_model)
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    [reply] = complete(language_model, REQUEST)
    assert reply.text == tokenizer.decode(output, skip_special_tokens=True).strip()
    assert reply.usage["input"] == prompt["input_ids"].shape[1]


def test_a_sample_depends_on_its_seed_alone(language_model: Path) -> None:
    hot = [replace(REQUEST, temperature=1.5, seed=seed) for seed in (1, 2, 1)]
    first, second, third = complete(language_model, *hot)
    assert first == third != second
    assert complete(language_model, REQUEST, hot[0])[1] == first


def test_a_prompt_beyond_the_context_window_fails_alone(language_model: Path) -> None:
    async def work() -> list[Reply | BaseException]:
        async with open_client(f"local:{language_model}", device="cpu") as client:
            long = replace(REQUEST, messages=(Turn("user", "x" * 40_000),))
            return await asyncio.gather(client.complete(long), client.complete(REQUEST), return_exceptions=True)

    refused, reply = asyncio.run(work())
    assert isinstance(refused, RequestError)
    assert (refused.reason, refused.retry) == ("context_length", False)
    assert isinstance(reply, Reply)


def test_its_name_is_no_path(language_model: Path) -> None:
    assert open_client(f"local:{language_model}").name == "tiny"


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="cannot be loaded"):
        complete(tmp_path, REQUEST)
