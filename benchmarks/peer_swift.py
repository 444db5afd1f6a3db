"""ms-swift's training of a stage of the benchmark, in its own environment: see `peer_environments`.

It tokenises and decodes images while it trains, as by its defaults.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

ROLES = {"human": "user", "gpt": "assistant"}


def main() -> None:
    """Train as the settings in the first argument say; the last line printed has the figures."""
    settings = json.loads(sys.argv[1])
    folder, out, lora = Path(settings["folder"]), Path(settings["out"]), settings["lora"]
    rows = []
    for row in json.loads((folder / "ordered.json").read_text()):
        turns = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
        rows.append(json.dumps({"messages": turns, "images": [str(folder / row["image"])]}))
    (out / "data.jsonl").write_text("\n".join(rows) + "\n")
    from swift.pipelines import sft_main
    from swift.template import TemplateMeta, register_template
    from swift.template.templates.llava import LlavaHfTemplate

    register_template(
        TemplateMeta(
            "bench", prefix=[], prompt=["<|im_start|> user {{QUERY}}<|im_end|><|im_start|> assistant "],
            chat_sep=["<|im_end|>"], suffix=["<|im_end|>"], template_cls=LlavaHfTemplate,
        )
    )  # fmt: skip
    options: dict[str, Any] = {
        "model": folder / "model", "model_type": "llava1_5_hf", "template": "bench", "dataset": out / "data.jsonl",
        "output_dir": out / "run", "add_version": "false", "max_length": 4096, "num_train_epochs": 1,
        "torch_dtype": "float32", "per_device_train_batch_size": settings["micro_batch_size"],
        "gradient_accumulation_steps": settings["batch_size"] // settings["micro_batch_size"],
        "learning_rate": settings["rate"], "lr_scheduler_type": "cosine", "warmup_ratio": 0, "weight_decay": 0,
        "adam_beta2": 0.999, "train_dataloader_shuffle": "false", "dataset_shuffle": "false", "split_dataset_ratio": 0,
        "seed": 0, "attn_impl": "sdpa", "gradient_checkpointing": "false", "use_cpu": "true", "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "freeze_vit": "true", "freeze_aligner": "false",
        "freeze_llm": str(settings["stage"] == "align").lower(),
        "tuner_type": "lora" if lora else "full",
    }  # fmt: skip
    if lora:
        options |= {
            "lora_rank": lora["rank"], "lora_alpha": lora["alpha"], "lora_dropout": lora["dropout"],
            "target_regex": r"model\.language_model\..*_proj", "modules_to_save": "multi_modal_projector",
        }  # fmt: skip
    log = sft_main([str(word) for key, value in options.items() for word in (f"--{key}", value)])["log_history"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    losses = [line["loss"] for line in log if "loss" in line]
    print(json.dumps({"seconds": log[-1]["train_runtime"], "losses": losses, "peak_mb": peak}))


if __name__ == "__main__":
    main()
