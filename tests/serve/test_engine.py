"""The engine writes what transformers' generate writes, in any batch."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vistune.records import Turn
from vistune.serve.engine import Engine
from vistune.serve.images import ImageReader, Picture
from vistune.serve.jobs import Job, Limits, Piece, QueueFullError
from vistune.serve.sampling import Sampling

QUESTIONS = ("how many dogs are there", "what is left of the red cat", "é 犬?", "yes", "no", "two", "a red box")


@pytest.fixture(scope="module", params=["language", "narrow"])
def path(request: pytest.FixtureRequest, assistants: dict[str, Path]) -> Path:
    return assistants[request.param]


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with Engine.load(path, "cpu", limits=Limits(batch=4, queue=20)) as engine:
        yield engine


def read(engine: Engine, image: Image.Image) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return ImageReader(engine.image_processor, engine.image_grid).read(file.getvalue(), "image")


def job(engine: Engine, question: str, images: list[Image.Image] | None = None, **options: Any) -> Job:
    pictures = [read(engine, one) for one in images or []]
    turns = [Turn("user", "<image>\n" * len(pictures) + question)]
    ids = engine.prompt(turns, [picture.tokens for picture in pictures])
    sampling = Sampling(**({"max_tokens": 12} | options))
    return Job(ids, pictures, sampling, lambda _: None)


def write(engine: Engine, jobs: list[Job]) -> list[str]:
    """The answers of jobs of one request."""

    async def collect() -> list[str]:
        texts = [""] * len(jobs)
        async for index, piece in engine.answer(jobs):
            texts[index] += piece.text
        return texts

    return asyncio.run(collect())


def generate(path: Path, question: str, images: list[Image.Image], tokens: int) -> tuple[list[int], str]:
    """What plain transformers answers."""
    processor: Any = AutoProcessor.from_pretrained(path)
    model: Any = AutoModelForImageTextToText.from_pretrained(path)
    content = "<image>\n" * len(images) + question
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=images or None, text=text, add_special_tokens=False, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return written.tolist(), str(processor.decode(written, skip_special_tokens=True)).lstrip()


def test_greedy_answers_are_those_of_transformers_while_others_join_and_leave(
    path: Path, engine: Engine, pictures: list[Image.Image]
) -> None:
    a, b, c = pictures
    about: list[list[Image.Image]] = [[a], [], [b, a], [c], [a], [], [a, b, c]]
    lengths = (5, 40, 3, 25, 12, 1, 30)  # with four rows for seven requests
    jobs = [
        job(engine, question, images, max_tokens=length)
        for question, images, length in zip(QUESTIONS, about, lengths, strict=True)
    ]
    answers = write(engine, jobs)
    for question, images, request, answer in zip(QUESTIONS, about, jobs, answers, strict=True):
        ids, text = generate(path, question, images, request.sampling.max_tokens)
        assert request.written == ids, question
        assert answer == text or "\ufffd" in text  # bytes that are no character end the text in other ways
    assert write(engine, [job(engine, QUESTIONS[0], about[0], max_tokens=lengths[0])]) == answers[:1]


def test_images_in_tiles_are_read_in_parts_of_any_size(assistants: dict[str, Path]) -> None:
    path = assistants["tiles"]
    wide, high, square = (Image.effect_noise(size, 90).convert("RGB") for size in ((90, 20), (30, 71), (40, 40)))
    about = [[wide], [high, wide], [square], [wide, square, high]]
    with Engine.load(path, "cpu") as engine:
        engine._part = 7
        jobs = [job(engine, question, images) for question, images in zip(QUESTIONS, about, strict=False)]
        write(engine, jobs)
    assert engine.counters.images_encoded == 3
    for question, images, request in zip(QUESTIONS, about, jobs, strict=False):
        assert request.written == generate(path, question, images, 12)[0]


def test_one_image_is_encoded_once_and_its_tokens_run_once(engine: Engine, pictures: list[Image.Image]) -> None:
    alone = [write(engine, [job(engine, question, [pictures[0]])])[0] for question in QUESTIONS]
    before = engine.counters.cached_tokens
    answers: list[str] = [""] * 16

    def client(number: int) -> None:
        answers[number] = write(engine, [job(engine, QUESTIONS[number % len(QUESTIONS)], [pictures[0]])])[0]

    threads = [threading.Thread(target=client, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [alone[number % len(alone)] for number in range(16)]
    assert engine.counters.images_encoded == 1
    assert engine.counters.cached_tokens - before >= 16 * engine.image_grid.features


def test_short_prompts_are_read_together_and_like_ones_after_each_other(
    engine: Engine, pictures: list[Image.Image]
) -> None:
    def rounds(jobs: list[Job]) -> int:
        before = engine.counters.rounds
        write(engine, jobs)
        return engine.counters.rounds - before

    assert rounds([job(engine, question, max_tokens=2) for question in QUESTIONS[:4]]) <= 2
    cached = engine.counters.cached_tokens
    assert rounds([job(engine, "yes", [pictures[0]], max_tokens=2) for _ in range(4)]) <= 3
    assert engine.counters.cached_tokens - cached >= 3 * engine.image_grid.features
    assert engine.counters.images_encoded == 1


def test_a_following_turn_runs_only_what_is_new(engine: Engine, pictures: list[Image.Image]) -> None:
    first = job(engine, QUESTIONS[0], [pictures[0]])
    [answer] = write(engine, [first])
    turns = [Turn("user", f"<image>\n{QUESTIONS[0]}"), Turn("assistant", answer), Turn("user", QUESTIONS[1])]
    ids = engine.prompt(turns, [first.pictures[0].tokens])
    following = Job(ids, first.pictures, first.sampling, lambda _: None)
    [cached] = write(engine, [following])
    assert following.cached >= len(first.ids) - 2
    engine._slots = engine._new_slots()
    assert write(engine, [Job(ids, first.pictures, first.sampling, lambda _: None)]) == [cached]


def test_a_seed_gives_the_same_draws_in_any_batch(engine: Engine) -> None:
    def draw(seed: int) -> Job:
        return job(engine, "yes", temperature=1.0, top_p=0.95, top_k=100, seed=seed)

    alone = [write(engine, [draw(seed)])[0] for seed in range(4)]
    assert len(set(alone)) > 1
    assert write(engine, [draw(seed) for seed in range(4)]) == alone
    greedy = write(engine, [job(engine, "yes")])
    assert write(engine, [job(engine, "yes", temperature=1.0, top_k=1)]) == greedy
    assert write(engine, [job(engine, "yes", temperature=1.0, top_p=1e-9)]) == greedy


def test_stop_strings_end_the_text_wherever_tokens_end(engine: Engine) -> None:
    [text] = write(engine, [job(engine, "yes", max_tokens=30)])
    for start in range(1, len(text) - 3):
        stop = text[start : start + 3]
        pieces: list[Piece] = []
        done = threading.Event()
        request = job(engine, "yes", max_tokens=30, stop=(stop, "never in it"), logprobs=1)
        request.deliver = lambda piece, kept=pieces, done=done: (kept.append(piece), piece.end and done.set())  # type: ignore[misc]
        engine.submit([request])
        assert done.wait(60)
        written = "".join(piece.text for piece in pieces)
        assert written == text[: text.index(stop)]
        assert pieces[-1].end == "stop"
        tokens = "".join(token.text for piece in pieces for token in piece.tokens)
        assert tokens.lstrip().startswith(written) or "\ufffd" in tokens


def test_log_probabilities_are_those_of_the_model(engine: Engine) -> None:
    request = job(engine, "yes", logprobs=3)

    async def collect() -> list[Any]:
        return [token async for _, piece in engine.answer([request]) for token in piece.tokens]

    tokens = asyncio.run(collect())
    with torch.inference_mode():
        logits = engine.model(input_ids=torch.tensor([request.ids])).logits[0, -1].log_softmax(-1)
    values = logits.topk(3).values.tolist()
    assert [one.logprob for one in tokens[0].top] == pytest.approx(values, abs=1e-4)
    assert tokens[0].logprob == pytest.approx(values[0], abs=1e-4)


def test_bfloat16_is_computed_on_a_cpu_too(path: Path, pictures: list[Image.Image]) -> None:
    def first(dtype: torch.dtype) -> Any:
        with Engine.load(path, "cpu", dtype, Limits(batch=1)) as engine:
            request = job(engine, "yes", [pictures[0]], max_tokens=1, logprobs=1)

            async def tokens() -> list[Any]:
                return [token async for _, piece in engine.answer([request]) for token in piece.tokens]

            return asyncio.run(tokens())[0]

    exact, rounded = first(torch.float32), first(torch.bfloat16)
    assert rounded.top[0].logprob == pytest.approx(exact.top[0].logprob, abs=0.3)


def test_leaving_cancels_and_frees_the_place(engine: Engine) -> None:
    async def leave() -> None:
        answers = engine.answer([job(engine, "yes", max_tokens=400) for _ in range(8)])
        async for _ in answers:
            break
        await answers.aclose()  # type: ignore[attr-defined]
        for _ in range(200):
            if not any(engine.load_now):
                return
            await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert engine.load_now == (0, 0)
    assert engine.counters.cancelled == 8
    assert engine.counters.written_tokens < 400


def test_a_full_queue_refuses_a_request_as_a_whole(engine: Engine) -> None:
    with pytest.raises(QueueFullError):
        engine.submit([job(engine, "yes") for _ in range(25)])
    assert len(write(engine, [job(engine, "yes") for _ in range(24)])) == 24


def test_a_late_answer_is_cut_and_a_late_request_refused(path: Path) -> None:
    with Engine.load(path, "cpu", limits=Limits(batch=1, seconds=0.0)) as engine:

        async def last() -> Any:
            return [piece async for _, piece in engine.answer([job(engine, "yes")])][-1].end

        assert asyncio.run(last()) == "timeout"


def test_a_failed_round_ends_its_requests_only(engine: Engine, pictures: list[Image.Image]) -> None:
    broken = job(engine, "yes", [pictures[0]])
    broken.pictures = [Picture(torch.zeros(1, 3, 5, 5), broken.pictures[0].tokens, 1)]

    async def last() -> Any:
        return [piece async for _, piece in engine.answer([broken])][-1].end

    assert asyncio.run(last()) == "error"
    assert write(engine, [job(engine, "yes")]) == write(engine, [job(engine, "yes")])
