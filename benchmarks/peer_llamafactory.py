"""LLaMA-Factory's training of a stage of the benchmark, in its own environment: see `peer_environments`.

Where there are images, it averages the means of micro-batches, so its losses differ from the others' by a little. It
tokenises before the time that it reports, and decodes images within.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path


def main() -> None:
    """Train as the settings in the first argument say; the last line printed has the figures."""
    settings = json.loads(sys.argv[1])
    folder, out, lora = Path(settings["folder"]), Path(settings["out"]), settings["lora"]
    rows = json.loads((folder / "ordered.json").read_text())
    for row in rows:
        row["images"] = [str(folder / row.pop("image"))]
    (out / "data.json").write_text(json.dumps(rows))
    columns = {"messages": "conversations", "images": "images"}
    datasets = {"bench": {"file_name": "data.json", "formatting": "sharegpt", "columns": columns}}
    (out / "dataset_info.json").write_text(json.dumps(datasets))
    if importlib.util.find_spec("torchaudio") is None:  # it is imported, and used for sounds only
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)
    from llamafactory.data.formatter import StringFormatter
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.template import register_template
    from llamafactory.train.tuner import run_exp

    register_template(
        name="bench",
        format_user=StringFormatter(slots=["<|im_start|> user {{content}}<|im_end|><|im_start|> assistant "]),
        format_assistant=StringFormatter(slots=["{{content}}<|im_end|>"]),
        mm_plugin=get_mm_plugin(name="llava", image_token="<image>"),
    )
    options = {
        "stage": "sft", "do_train": True, "model_name_or_path": str(folder / "model"), "dataset_dir": str(out),
        "dataset": "bench", "template": "bench", "cutoff_len": 4096, "output_dir": str(out / "run"),
        "num_train_epochs": 1.0, "per_device_train_batch_size": settings["micro_batch_size"],
        "gradient_accumulation_steps": settings["batch_size"] // settings["micro_batch_size"],
        "learning_rate": settings["rate"], "lr_scheduler_type": "cosine", "warmup_ratio": 0.0, "weight_decay": 0.0,
        "seed": 0, "disable_shuffling": True, "disable_gradient_checkpointing": True, "use_cpu": True, "bf16": False,
        "fp16": False, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "freeze_vision_tower": True,
        "freeze_multi_modal_projector": False, "freeze_language_model": settings["stage"] == "align",
        "finetuning_type": "lora" if lora else "full",
    }  # fmt: skip
    if lora:
        options |= {
            "lora_rank": lora["rank"], "lora_alpha": lora["alpha"], "lora_dropout": lora["dropout"],
            "lora_target": "all", "additional_target": "multi_modal_projector",
        }  # fmt: skip
    run_exp(options)
    log = json.loads((out / "run" / "trainer_state.json").read_text())["log_history"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    losses = [line["loss"] for line in log if "loss" in line]
    print(json.dumps({"seconds": log[-1]["train_runtime"], "losses": losses, "peak_mb": peak}))


if __name__ == "__main__":
    main()
