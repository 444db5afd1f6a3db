"""The miniature language model: Llama's architecture, its own byte-level BPE, trained on scenes in text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.pretrain_mini.corpus import ASSISTANT, BOS, CELLS, END, PAD, USER, Cell, Document, document
from tools.pretrain_mini.optim import MuonWithAdam

VOCABULARY = 1024
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{{ '<image>\\n' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def language_config() -> LlamaConfig:
    """2.4 million parameters."""
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=192, intermediate_size=512, num_hidden_layers=5, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 50_000.0}, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=3, pad_token_id=4, initializer_range=0.05,
    )  # fmt: skip


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE with the chat markers as special tokens; end of turn is end of sequence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=[BOS, USER, ASSISTANT, END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        ),
    )  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, pad_token=PAD, chat_template=CHAT_TEMPLATE,
        additional_special_tokens=[USER, ASSISTANT], padding_side="right", model_max_length=2048,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """A tokenized document.

    ids (S), -1 for a cell; labels (S), the id of a target token and -100 elsewhere; the ids and weights of each
    cell's words.
    """

    ids: list[int]
    labels: list[int]
    cells: list[list[tuple[int, float]]]


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> Sample:
    """The document in tokens."""
    ids: list[int] = []
    labels: list[int] = []
    for piece, learned in document.pieces:
        part = [-1] * len(document.cells) if piece == CELLS else tokenizer.encode(piece, add_special_tokens=False)
        ids += part
        labels += part if learned else [-100] * len(part)
    return Sample(ids, labels, [_encode_cell(tokenizer, cell) for cell in document.cells])


def _encode_cell(tokenizer: PreTrainedTokenizerFast, cell: Cell) -> list[tuple[int, float]]:
    """A word of several tokens is their mean."""
    parts = [(tokenizer.encode(f" {word}", add_special_tokens=False), weight) for word, weight in cell.items()]
    return [(token, weight / len(part)) for part, weight in parts for token in part]


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded samples: ids, labels and mask (B, S); all cells in order, as `embedding_bag` takes them."""

    ids: Tensor
    labels: Tensor
    mask: Tensor
    cell_ids: Tensor
    cell_weights: Tensor
    cell_starts: Tensor

    def embed(self, table: Tensor) -> Tensor:
        """The input embeddings (B, S, D); table (V, D)."""
        at = self.ids == -1
        states = F.embedding(self.ids.masked_fill(at, 0), table)
        cells = F.embedding_bag(
            self.cell_ids, table, self.cell_starts, mode="sum", per_sample_weights=self.cell_weights
        )
        return states.masked_scatter(at[..., None], cells)


def collate(samples: Sequence[Sample], pad: int, *, side: Literal["left", "right"] = "right") -> Batch:
    """The samples as one batch, padded on one side."""
    longest = max(len(one.ids) for one in samples)

    def padded(values: list[int], filler: int) -> list[int]:
        more = [filler] * (longest - len(values))
        return more + values if side == "left" else values + more

    cells = [cell for one in samples for cell in one.cells]
    words = [word for cell in cells for word in cell]
    return Batch(
        ids=torch.tensor([padded(one.ids, pad) for one in samples]),
        labels=torch.tensor([padded(one.labels, -100) for one in samples]),
        mask=torch.tensor([padded([1] * len(one.ids), 0) for one in samples]),
        cell_ids=torch.tensor([token for token, _ in words], dtype=torch.long),
        cell_weights=torch.tensor([weight for _, weight in words]),
        cell_starts=torch.tensor(list(accumulate(map(len, cells), initial=0))[:-1], dtype=torch.long),
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """A kind of documents, the number of steps on it, and the number of documents in a step."""

    write: Callable[[int, int], Document]
    steps: int
    batch: int


def _write_some(write: Callable[[int, int], Document], seed: int, indices: range) -> list[Document]:
    return [write(seed, index) for index in indices]


def _batches(
    tokenizer: PreTrainedTokenizerFast, pool: ProcessPoolExecutor, seed: int, lesson: Lesson
) -> Iterator[Batch]:
    """Batches of documents of similar length, written by another process while the model trains."""
    group = min(16, lesson.steps)  # the number of batches that are sorted by length together
    order = torch.Generator().manual_seed(seed)
    starts = range(0, lesson.steps * lesson.batch, group * lesson.batch)
    chunks = [range(start, start + group * lesson.batch) for start in starts]
    coming = pool.submit(_write_some, lesson.write, seed, chunks[0])
    for number in range(len(chunks)):
        documents = coming.result()
        if number + 1 < len(chunks):
            coming = pool.submit(_write_some, lesson.write, seed, chunks[number + 1])
        samples = sorted((encode(tokenizer, one) for one in documents), key=lambda one: len(one.ids))
        for i in torch.randperm(group, generator=order).tolist():
            yield collate(samples[i * lesson.batch : (i + 1) * lesson.batch], tokenizer.pad_token_id)


def attend_to_same(model: LlamaForCausalLM) -> None:
    """Start every layer with keys that equal queries, so that a word first attends to its earlier occurrences.

    A question about a scene is answered by finding its words in it (Trockman and Kolter, Mimetic
    Initialization of Self-Attention Layers, 2023).
    """
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def blur(batch: Batch, embeds: Tensor, share: float) -> Tensor:
    """The embeddings (B, S, D); in this share of the documents, cells have noise and a common shift.

    A projector's features are as far from sums of words as that, above all early in its training.
    """
    cell = batch.ids == -1
    rows = cell.nonzero()[:, 0]  # the document of each cell
    cells = embeds[cell]
    size = cells.detach().std()
    blurred = (torch.rand(len(embeds), 1) < share).to(embeds.dtype)
    shift = torch.randn(len(embeds), cells.shape[-1]) * torch.rand(len(embeds), 1) * blurred * 2
    noise = torch.randn_like(cells) * (torch.rand(len(embeds), 1) * blurred)[rows] * 0.4
    return embeds.masked_scatter(cell[..., None], cells + size * (shift[rows] + noise))


def loss_sum(model: LlamaForCausalLM, batch: Batch, *, blurred: float = 0.0) -> tuple[Tensor, Tensor]:
    """The summed loss over the target tokens of a batch padded on the right, and whether each prediction is right."""
    embeds = batch.embed(model.model.embed_tokens.weight)
    if blurred:
        embeds = blur(batch, embeds, blurred)
    states = model.model(inputs_embeds=embeds).last_hidden_state[:, :-1]  # (B, S - 1, D)
    target = batch.labels[:, 1:]
    learned = target != -100
    logits = model.lm_head(states[learned])  # (T, V)
    return F.cross_entropy(logits, target[learned], reduction="sum"), logits.argmax(-1) == target[learned]


def train_language(
    out: Path, *, seed: int, lessons: Sequence[Lesson], lr: float = 3e-3, tokenizer_documents: int = 4000
) -> None:
    """Train on the lessons in order, on fresh documents; save model and tokenizer (in half precision) to `out`."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(document(seed + 1, index).text for index in range(tokenizer_documents))
    model = LlamaForCausalLM(language_config())
    attend_to_same(model)
    _teach(model, tokenizer, lessons, seed=seed + 2, lr=lr, blurred=0.0)
    _save(model, tokenizer, out)


def continue_language(
    folder: Path, lesson: Lesson, *, seed: int, lr: float, blurred: float, attention: Literal["eager", "sdpa"]
) -> None:
    """Continue to train the saved model on a lesson, with this share of its documents blurred, and save it again.

    After exact sums of words alone, the loss does not fall for cells without a place or with a common shift, which is
    how a projector begins: its gradient would have no direction to improve in.
    """
    torch.manual_seed(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).train()
    _teach(model, tokenizer, [lesson], seed=seed, lr=lr, blurred=blurred)
    _save(model, tokenizer, folder)


def _teach(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    lessons: Sequence[Lesson],
    *,
    seed: int,
    lr: float,
    blurred: float,
) -> None:
    steps = sum(lesson.steps for lesson in lessons)
    optimizer = MuonWithAdam(model, lr=lr, steps=steps)
    with ProcessPoolExecutor(1) as pool:
        batches = chain.from_iterable(
            islice(_batches(tokenizer, pool, seed + i, lesson), lesson.steps) for i, lesson in enumerate(lessons)
        )
        for step, batch in enumerate(batches, 1):
            with torch.autocast("cpu", torch.bfloat16):  # faster than fp32 on the CPUs this was made on
                loss, right = loss_sum(model, batch, blurred=blurred)
            (loss / len(right)).backward()
            optimizer.step()
            if step % 50 == 0 or step == steps:
                share = right.float().mean().item()
                print(f"language {step}/{steps}  loss {loss.item() / len(right):.4f}  right {share:.4f}", flush=True)


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    half: Any = model.half()
    half.save_pretrained(out)
    tokenizer.save_pretrained(out)
