"""LLaVAs as others publish them, in the hub's cache: llava-hf's layouts, with their processors' own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from assembling import assemble
from vistune.model.checkpoint import save_checkpoint

VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""That of llava-hf/llava-1.5-7b-hf: for content in parts only, and nothing ends an answer."""
MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + '<\\s> '}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
"""That of llava-hf/llava-v1.6-mistral-7b-hf as first published, with a typing mistake in what ends an answer."""
SIDE = {"height": 28, "width": 28}
IMAGES = {
    "crop_size": SIDE, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
    "do_resize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073], "resample": 3,
    "image_std": [0.26862954, 0.26130258, 0.27577711], "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 28},
}  # fmt: skip
QWEN = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}"
    "{% endfor %}{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""That of llava-hf/llava-interleave-qwen-0.5b-hf, whose generation prompt lacks a space that precedes an answer."""
PUBLISHED: dict[str, tuple[tuple[str, str], dict[str, Any], str, dict[str, Any]]] = {
    "llava-1.5": (
        ("vision", "narrow"),
        {"chat_template": "vicuna_v1"},
        VICUNA,
        {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"},
    ),
    "llava-interleave-qwen": (
        ("siglip", "language"),
        {"image_aspect": "stretch", "feature_layer": -1, "chat_template": "chatml"},
        QWEN,
        {
            "image_processor_type": "SiglipImageProcessor", "processor_class": "LlavaProcessor", "crop_size": None,
            "do_center_crop": None, "size": SIDE,
        },
    ),
    "llava-v1.6": (
        ("vision", "narrow"),
        {"image_aspect": "anyres", "chat_template": "vicuna_v1"},
        MISTRAL,
        {
            "image_processor_type": "LlavaNextImageProcessor", "processor_class": "LlavaNextProcessor", "do_pad": True,
            "aspect_ratio_setting": "anyres",
            "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]],
        },
    ),
}  # fmt: skip
"""The parts, the keys of the model's recipe, the chat template and the image processor's own keys."""


def publish(backbones: Path, cache: Path, like: str = "llava-1.5") -> Path:
    """The folder of `owner/llava` in the cache, of tiny random backbones, in the layout of a published model."""
    (tower, language), keys, template, images = PUBLISHED[like]
    _save_siglip(cache / "siglip", backbones / "vision")
    tower = str(cache / "siglip" if tower == "siglip" else backbones / tower)
    model, processor = assemble(tower, str(backbones / language), projector="mlp2x_gelu", **keys)
    folder = cache / "models--owner--llava" / "snapshots" / "1"
    processor.tokenizer.add_bos_token = True
    if like == "llava-interleave-qwen":  # as with base models: what ends a text is not what ends an answer
        processor.tokenizer.eos_token = processor.tokenizer.pad_token
        model.generation_config.eos_token_id = model.generation_config.pad_token_id
    save_checkpoint(model, processor, folder)
    (cache / "models--owner--llava" / "refs").mkdir()
    (cache / "models--owner--llava" / "refs" / "main").write_text("1")
    (folder / "chat_template.jinja").write_text(template)
    own = {key: value for key, value in {**IMAGES, **images}.items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    whole = {
        "image_token": "<image>", "num_additional_image_tokens": processor.num_additional_image_tokens,
        "patch_size": 14, "processor_class": images["processor_class"],
        "vision_feature_select_strategy": model.config.vision_feature_select_strategy,
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps(whole))
    (folder / "manifest.json").unlink()
    return folder


def _save_siglip(folder: Path, like: Path) -> None:
    config = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        vision_use_head=False,
    )  # fmt: skip
    torch.manual_seed(0)
    SiglipVisionModel(config).save_pretrained(folder)
    shutil.copy(like / "preprocessor_config.json", folder)
