"""A LLaVA as others publish it, in the hub's cache: llava-hf's layout, with the processor's files as they are there."""

from __future__ import annotations

import json
from pathlib import Path

from assembling import assemble
from vistune.model.checkpoint import save_checkpoint

TEMPLATE = (
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


def publish(backbones: Path, cache: Path) -> Path:
    """The folder of `owner/llava` in the cache, of tiny random backbones."""
    model, processor = assemble(
        str(backbones / "vision"), str(backbones / "narrow"), projector="mlp2x_gelu", chat_template="vicuna_v1"
    )
    folder = cache / "models--owner--llava" / "snapshots" / "1"
    processor.tokenizer.add_bos_token = True
    save_checkpoint(model, processor, folder)
    (cache / "models--owner--llava" / "refs").mkdir()
    (cache / "models--owner--llava" / "refs" / "main").write_text("1")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    square = {"height": 28, "width": 28}
    images = {
        "crop_size": square, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073], "resample": 3,
        "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor", "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 28},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    whole = {
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default",
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps(whole))
    (folder / "manifest.json").unlink()
    return folder
