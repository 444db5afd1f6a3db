"""A probe of the miniature LM in text, before any image is involved: the benchmark's questions about cells."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.pretrain_mini.corpus import Cell, Document, dialogue, raster
from tools.pretrain_mini.language import collate, encode
from tools.pretrain_mini.vision import SIDE
from vistune.demo.dataset import captions
from vistune.demo.scenes import sample_scene
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.scene_qa import SceneQA
from vistune.evaluate.runner import measure, score
from vistune.evaluate.statistics import Measure
from vistune.records import ImageRecord


def probe_language(folder: Path, *, seed: int = 0, scenes: int = 100, batch: int = 100) -> Mapping[str, Measure]:
    """The accuracy, overall and by type, on test scenes written as 64 cells."""
    cells: dict[Path, tuple[Cell, ...]] = {}
    records = []
    for index in range(scenes):
        scene, path = sample_scene("test", seed, index), Path(str(index))
        cells[path] = raster(scene)
        texts = captions(scene, random.Random(index))
        records.append(ImageRecord(str(index), path, SIDE, SIDE, texts, scene.boxes))
    benchmark = SceneQA(Setting(annotated=records, seed=seed))
    questions = list(benchmark.questions())
    prompts = [dialogue([(question.text, "")], cells[question.images[0]]) for question in questions]
    answers: list[str] = []
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for start in range(0, len(prompts), batch):
        answers += _answer(model, tokenizer, prompts[start : start + batch], benchmark.max_new_tokens)
    return measure(benchmark, score(benchmark, questions, answers)).measures


@torch.inference_mode()
def _answer(model: Any, tokenizer: Any, prompts: Sequence[Document], max_new_tokens: int) -> list[str]:
    questions = [Document(prompt.pieces[:-1], prompt.cells) for prompt in prompts]
    inputs = collate([encode(tokenizer, one) for one in questions], tokenizer.pad_token_id, side="left")
    embeds = inputs.embed(model.get_input_embeddings().weight)
    tokens = model.generate(
        inputs_embeds=embeds, attention_mask=inputs.mask, max_new_tokens=max_new_tokens, do_sample=False
    )
    written: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return written
