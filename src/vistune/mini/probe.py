"""What the miniature LM can do in text, before any image is involved: the benchmark's questions about rasters."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.scene_qa import SceneQA
from vistune.evaluate.statistics import Measure
from vistune.mini.captions import captions
from vistune.mini.corpus import raster
from vistune.mini.scenes import sample_scene
from vistune.mini.vision import SIDE
from vistune.records import ImageRecord


def probe_language(folder: Path, *, seed: int = 0, scenes: int = 100, batch: int = 100) -> Mapping[str, Measure]:
    """The accuracy, in all and by type, on test scenes told as 64 words in raster order."""
    told, records = {}, []
    for index in range(scenes):
        scene, path = sample_scene("test", seed, index), Path(str(index))
        told[path] = raster(scene)
        texts = captions(scene, random.Random(index))
        records.append(ImageRecord(str(index), path, SIDE, SIDE, texts, scene.boxes))
    benchmark = SceneQA(records, Setting(seed))
    prompts = [f"{told[question.image]}\n{question.text}" for question in benchmark.questions]
    answers: list[str] = []
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for start in range(0, len(prompts), batch):
        answers += _answer(model, tokenizer, prompts[start : start + batch], benchmark.max_new_tokens)
    return benchmark.measure(answers)


@torch.inference_mode()
def _answer(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
    )
    tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    written: list[str] = tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return written
