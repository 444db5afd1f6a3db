"""Exact masks: what is learned is what generation has to write, for every tokenizer and template."""

from __future__ import annotations

import copy
import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from vistune.data.chat_template import chat_template, exchange, special_tokens, template_names
from vistune.data.encode import Encoder, Sample
from vistune.data.image_tokens import ImageGrid
from vistune.data.render import image_marks
from vistune.data.tokenizer import TemplateTokenizer
from vistune.errors import CheckpointError, DataError
from vistune.model.assemble import _prepare_tokenizer
from vistune.records import IMAGE_TOKEN, Conversation, Turn

SNIPPETS = (
    "two dogs", "yes", "no", "a red box, above the cat.", " ", "  ", "\n", "\n\n", "\t", "\r\n", "ASSISTANT:", "USER: ",
    "</s>", "<|end|>", "<|assistant|>\n", "<s>", "<unk>", "<pad>", "<|im_end|>", "<|im_start|>user\n", "###", "####",
    "\n### Human: ", "[/INST]", "[INST] ", "<end_of_turn>", "<|eot_id|>", "<|endoftext|>", "<think>",
    "é", "e\u0301", "\u0301", "犬が二匹", "🐕‍🦺", "👩🏽‍💻", "שלום", "مرحبا", "ﬁ", "\u00a0", "<", "|", "picture", ".",
    "<|begin_of_text|>", "left of", "\ue000", "\ue0010.0\ue000", "<image", "image>", "\u2028", "\u200b", "…", "½",
)  # fmt: skip
KINDS = ("qwen", "llama3", "gpt2", "llama2", "llama2_new", "gemma", "phi3", "unigram")
OWN = (
    "qwen2_5", "qwen3", "gemma2", "gemma3", "llama3", "mistral_v1", "mistral_tekken", "phi3", "smollm2", "smollm3",
    "generation", "parts_only", "deepseek_r1",
)  # fmt: skip
NATURAL = {
    ("qwen", "qwen2_5"), ("qwen", "qwen3"), ("gpt2", "smollm2"), ("llama3", "smollm3"), ("llama3", "llama3"),
    ("llama2_new", "mistral_v1"), ("llama3", "mistral_tekken"), ("gemma", "gemma2"), ("gemma", "gemma3"),
    ("phi3", "phi3"), ("qwen", "generation"), ("unigram", "parts_only"), ("llama3", "deepseek_r1"),
    ("llama2", "vicuna_v0"), ("llama2", "vicuna_v1"), ("llama2", "plain"), ("gpt2", "chatml"), ("qwen", "plain"),
    ("gemma", "vicuna_v1"), ("unigram", "vicuna_v1"), ("gpt2", "vicuna_v0"), ("llama2", "chatml"),
}  # fmt: skip
NAMED = ("chatml", "plain", "vicuna_v0", "vicuna_v1")
"""Templates that a recipe may name for any language model."""
PAIRS = sorted(
    NATURAL | {(kind, name) for kind in KINDS for name in NAMED}
    | {(KINDS[(number * 3 + shift) % 8], name) for number, name in enumerate(OWN) for shift in (0, 4)}
)  # fmt: skip
"""Each tokenizer with each named template, and each model's own template with at least two tokenizers."""
PREFIXED = ("llama2", "phi3", "unigram")
"""Tokenizers that put a space after special tokens."""
TRIMMED: dict[str, Callable[[str], str]] = {
    "gemma2": str.strip, "gemma3": str.strip, "llama3": str.strip, "mistral_v1": str.strip,
    "smollm3": lambda text: text.lstrip("\n"),
}  # fmt: skip
IMAGE = 4
GRID = ImageGrid(IMAGE)
ONE = GRID.tokens(lambda: (9, 9))
Made = tuple[Any, str, Encoder]


@pytest.fixture(scope="module")
def make(make_tokenizer: Any, own_templates: dict[str, str]) -> Callable[[str, str], Made]:
    """A tokenizer, prepared as for training, its template and the encoder."""
    assert tuple(sorted(OWN)) == tuple(own_templates)
    assert tuple(template_names()) == NAMED

    def made(kind: str, name: str) -> Made:
        tokenizer = make_tokenizer(kind)
        tokenizer.chat_template = own_templates.get(name)
        text = chat_template(tokenizer, None if name in own_templates else name)
        _prepare_tokenizer(tokenizer, text)
        return tokenizer, text, Encoder(tokenizer, text, GRID)

    return made


def _text(rng: random.Random, extra: tuple[str, ...] = ()) -> str:
    while True:
        text = "".join(rng.choice(SNIPPETS + extra) + rng.choice(("", " ")) for _ in range(rng.randint(1, 8)))
        if text.strip():
            return text


def _conversation(rng: random.Random, index: int, exchanges: int) -> Conversation:
    """Nasty texts, images in any turn; `<image>` is text in answers, and in a user's turn after the last image."""
    turns: list[Turn] = []
    images: list[str] = []
    for _ in range(rng.randint(1, exchanges)):
        question = _text(rng)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            images.append(f"{len(images)}.png")
            question = rng.choice([f"{IMAGE_TOKEN}\n{question}", f"{question}\n{IMAGE_TOKEN}", IMAGE_TOKEN + question])
        turns += [Turn("user", question), Turn("assistant", _text(rng, (IMAGE_TOKEN,)))]
    if rng.random() < 0.2:
        turns[-2] = Turn("user", f"{turns[-2].text} {IMAGE_TOKEN}")
    if rng.random() < 0.2:
        turns.insert(0, Turn("system", f"be brief {_text(rng, (IMAGE_TOKEN,))}"))
    return Conversation(str(index), tuple(turns), tuple(images))


def _spellings(tokenizer: Any) -> list[bytes]:
    """What each token spells, by its bytes: no decoder tidies anything up."""
    byte_of = {char: byte for byte, char in bytes_to_unicode().items()}
    added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    levels = type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel"
    spelled = []
    for index, piece in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if index in added:
            spelled.append(added[index].encode())
        elif levels:
            spelled.append(bytes(byte_of[char] for char in piece))
        elif piece.startswith("<0x"):
            spelled.append(bytes([int(piece[3:5], 16)]))
        else:
            spelled.append(piece.replace("▁", " ").encode())
    return spelled


def _runs(sample: Sample) -> Iterator[list[int]]:
    """The target tokens that follow each other."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sample.targets, [0]])))
    for start, stop in edges.reshape(-1, 2):
        yield sample.input_ids[start:stop].tolist()


def _expected(name: str, kind: str, turns: tuple[Turn, ...]) -> list[str]:
    """The answers as the template and the tokenizer's normalisation leave them."""
    answers = [TRIMMED.get(name, str)(turn.text) for turn in turns if turn.role == "assistant"]
    if name == "qwen3":
        answers[-1] = answers[-1].lstrip("\n")
    form = {"qwen": "NFC", "unigram": "NFKC"}.get(kind)
    return [unicodedata.normalize(form, answer) if form else answer for answer in answers]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_targets_of_random_conversations_are_the_answers_and_their_end_of_turn(
    make: Callable[[str, str], Made], kind: str, name: str
) -> None:
    tokenizer, template, encoder = make(kind, name)
    before, after, prompt = exchange(tokenizer, template)
    joint, end = before.removeprefix(prompt), after.partition(tokenizer.eos_token)[0] + tokenizer.eos_token
    assert before.startswith(prompt)
    assert not joint.strip()
    special = set(special_tokens(tokenizer).values())
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    spellings = _spellings(tokenizer)
    rng = random.Random(f"{kind} {name}")
    count = 200 if (kind, name) in NATURAL else 50
    conversations = [_conversation(rng, index, 1 if name == "plain" else 4) for index in range(count)]
    markers: dict[Any, list[int]] = {}
    for conversation, sample in zip(conversations, encoder.encode_batch(conversations, 10_000), strict=True):
        assert isinstance(sample, Sample), sample
        runs = list(_runs(sample))
        spelled = [b"".join(spellings[index] for index in run).decode() for run in runs]
        wanted = [joint + answer + end for answer in _expected(name, kind, conversation.turns)]
        if kind in PREFIXED:
            spelled = [one.removeprefix(" ") if one != want else one for one, want in zip(spelled, wanted, strict=True)]
        assert spelled == wanted, conversation
        assert all(run[-1] == tokenizer.eos_token_id and special.isdisjoint(run[:-1]) for run in runs)
        assert sample.images == conversation.images
        assert np.flatnonzero(sample.input_ids == image_id).tolist() == sample.image_at.tolist()
        assert len(sample.image_at) == IMAGE * len(sample.images)
        if conversation.turns[0].role == "system" and name != "plain":
            assert "be brief" in b"".join(spellings[index] for index in sample.input_ids).decode()
        # no text of a turn becomes a special token
        shape = tuple((turn.role, image_marks([turn])) for turn in conversation.turns), len(conversation.images)
        if shape not in markers:
            marks = ((turn, images) for turn, (_, images) in zip(conversation.turns, shape[0], strict=True))
            tame = tuple(Turn(turn.role, "x" + IMAGE_TOKEN * images) for turn, images in marks)
            ids = encoder.encode(Conversation("tame", tame, conversation.images), 10_000).input_ids.tolist()
            markers[shape] = [index for index in ids if index in special]
        assert [index for index in sample.input_ids.tolist() if index in special] == markers[shape]


TURNS = (
    Turn("user", f"{IMAGE_TOKEN}\nhow many dogs are there?"), Turn("assistant", "two dogs"),
    Turn("user", "what is left of the red box"), Turn("assistant", "the cat: yes."),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_ids_are_those_of_plain_transformers(make: Callable[[str, str], Made], kind: str, name: str) -> None:
    tokenizer, template, encoder = make(kind, name)
    turns = TURNS[:2] if name == "plain" else TURNS
    sample = encoder.encode(Conversation("1", turns, ("a.png",)), 1000)
    ids = np.delete(sample.input_ids, sample.image_at[1:]).tolist()
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    plain = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    if kind != "gpt2" or name not in ("llama3", "qwen3"):  # it joins two line breaks only where a prompt ends in them
        assert ids == tokenizer(plain, add_special_tokens=False)["input_ids"][: len(ids)]
    for count in range(1, len(turns), 2):
        prompt = tokenizer.apply_chat_template(
            messages[:count], chat_template=template, tokenize=False, add_generation_prompt=True
        )
        found = encoder.prompt(turns[:count], images=[ONE])
        assert (
            np.delete(found, sample.image_at[1:]).tolist() == tokenizer(prompt, add_special_tokens=False)["input_ids"]
        )


@pytest.mark.parametrize(("kind", "name"), sorted(NATURAL))
def test_a_prompt_is_what_stands_before_the_first_target(
    make: Callable[[str, str], Made], kind: str, name: str
) -> None:
    _, _, encoder = make(kind, name)
    rng = random.Random(0)
    for index in range(20):
        question = Turn("user", _text(rng))
        answer = Turn("assistant", ("\n" if index % 2 and kind != "llama2" else "") + _text(rng))
        sample = encoder.encode(Conversation("1", (question, answer)), 1000)
        first = int(sample.targets.argmax())
        assert encoder.prompt([question], images=[]) == sample.input_ids[:first].tolist()


def test_special_tokens_that_a_user_types_stay_text(make: Callable[[str, str], Made]) -> None:
    for kind, name in (("qwen", "chatml"), ("llama2", "vicuna_v0"), ("unigram", "vicuna_v1"), ("llama2", "vicuna_v1")):
        tokenizer, _, encoder = make(kind, name)
        special = special_tokens(tokenizer)
        typed = "".join(special) + "a ### b"
        tame, nasty = (encoder.prompt([Turn("user", f"{IMAGE_TOKEN}\n{text}")], images=[ONE]) for text in ("x", typed))
        ids = set(special.values())
        assert [one for one in tame if one in ids] == [one for one in nasty if one in ids]
        spellings = _spellings(tokenizer)
        assert typed.replace(" ", "") in b"".join(spellings[one] for one in nasty).decode().replace(" ", "")


def test_a_batch_gives_what_single_conversations_give(make: Callable[[str, str], Made]) -> None:
    _, _, encoder = make("llama2", "vicuna_v1")
    rng = random.Random(2)
    conversations = [_conversation(rng, index, 4) for index in range(40)]
    conversations[7] = Conversation("bad", (Turn("user", "x"), Turn("assistant", "y" * 400)))
    batch = encoder.encode_batch(conversations, 200)
    for one, other in zip(conversations, batch, strict=True):
        if isinstance(other, DataError):
            with pytest.raises(DataError, match=str(other)):
                encoder.encode(one, 200)
            continue
        single = encoder.encode(one, 200)
        assert single.input_ids.tolist() == other.input_ids.tolist()
        assert single.targets.tolist() == other.targets.tolist()
        assert (single.id, single.images, single.dropped_turns) == (other.id, other.images, other.dropped_turns)
    assert sum(isinstance(one, DataError) for one in batch) < len(batch) / 2
    assert any(isinstance(one, Sample) and one.dropped_turns for one in batch)


@pytest.mark.parametrize("name", NAMED)
def test_our_templates_mark_answers_for_other_trainers(make: Callable[[str, str], Made], name: str) -> None:
    """As TRL's `assistant_only_loss` reads them, the marked tokens are our targets."""
    tokenizer, template, encoder = make("qwen", name)
    turns = [Turn("user", "how many"), Turn("assistant", "two dogs"), Turn("user", "q"), Turn("assistant", "yes")]
    given = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in turns], chat_template=template, tokenize=True,
        return_dict=True, return_assistant_tokens_mask=True,
    )  # fmt: skip
    masks = np.array(given["assistant_masks"], dtype=bool)
    marked = np.array(given["input_ids"])[masks].tolist()
    learned = [token for run in _runs(encoder.encode(Conversation("x", tuple(turns)), 1000)) for token in run]
    assert tokenizer.decode(marked).split() == tokenizer.decode(learned).split()


def test_an_answer_that_is_not_learned_is_read_only(make: Callable[[str, str], Made]) -> None:
    _, _, encoder = make("qwen", "qwen3")
    texts = "Q", "first answer", "Q", "second answer", "Q", "third answer"
    turns = [Turn(("user", "assistant")[i % 2], text, learned=i != 3) for i, text in enumerate(texts)]
    whole = encoder.encode(Conversation("x", tuple(Turn(turn.role, turn.text) for turn in turns)), 1000)
    some = encoder.encode(Conversation("x", tuple(turns)), 1000)
    assert some.input_ids.tolist() == whole.input_ids.tolist()
    first, _, third = _runs(whole)
    assert list(_runs(some)) == [first, third]


@pytest.mark.parametrize(("kind", "name"), [("qwen", "qwen3"), ("llama2", "vicuna_v1"), ("phi3", "phi3")])
def test_too_long_conversations_lose_whole_exchanges_from_the_end(
    make: Callable[[str, str], Made], kind: str, name: str
) -> None:
    _, _, encoder = make(kind, name)
    turns = Turn("system", "hi"), *TURNS, Turn("user", f"and {IMAGE_TOKEN}"), Turn("assistant", "no " * 20)
    whole = Conversation("7", turns, ("a.png", "b.png"))
    kept = [encoder.encode(Conversation("7", turns[:count], ("a.png",)), 500) for count in (3, 5)]
    full = encoder.encode(whole, 500)
    for length in range(len(kept[0].input_ids), len(full.input_ids) + 2):
        cut = encoder.encode(whole, length)
        same = full if length >= len(full.input_ids) else kept[length >= len(kept[1].input_ids)]
        assert cut.input_ids.tolist() == same.input_ids.tolist()
        assert cut.targets.tolist() == same.targets.tolist()
        assert cut.images == same.images
        assert len(turns) - cut.dropped_turns == (7 if same is full else 3 + 2 * (same is kept[1]))
    shortest = len(kept[0].input_ids) - 1
    with pytest.raises(DataError, match=f"conversation 7: its first answer does not fit in {shortest} tokens"):
        encoder.encode(whole, shortest)


def test_what_cannot_be_learned_from_is_named(make: Callable[[str, str], Made]) -> None:
    tokenizer, template, encoder = make("qwen", "qwen3")
    question = Turn("user", "yes")
    with pytest.raises(DataError, match="conversation 3: no token of it is a target"):
        encoder.encode(Conversation("3", (question,)), 500)
    with pytest.raises(DataError, match="conversation 4: the chat template changes"):
        encoder.encode(Conversation("4", (question, Turn("assistant", "a</think>b"), *TURNS)), 500)
    shouting = template.replace("content.lstrip('\\n')", "content | upper")
    assert shouting != template
    with pytest.raises(DataError, match="conversation 5: the chat template changes"):
        Encoder(tokenizer, shouting, GRID).encode(Conversation("5", (question, Turn("assistant", "no"))), 500)
    with pytest.raises(DataError, match="conversation 6: the chat template refuses"):
        make("gemma", "gemma2")[2].encode(Conversation("6", TURNS[1:], ("a.png",)), 500)
    with pytest.raises(CheckpointError, match=r"ends an answer with '<\|im_end\|>', the model with '</s>'"):
        Encoder(make("llama2", "vicuna_v1")[0], template, GRID)


def test_a_pattern_that_backtracks_without_end_is_an_error(make_tokenizer: Callable[[str], Any]) -> None:
    tokenizer = copy.deepcopy(make_tokenizer("gpt2"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a|aa)+$"), "isolated")
    with pytest.raises(DataError, match=r"the tokenizer fails on a text: .*\n  fix: use another"):
        TemplateTokenizer(tokenizer)(["a" * 60 + "b"])
