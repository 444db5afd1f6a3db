"""NVIDIA's DataDesigner asking for the benchmark's replies, in its own environment: see `peer_environments`.

It has no messages but the system's and one of the user's, so the examples stand in the user's before the context.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Ask as the settings in the first argument say, and write the replies."""
    settings = json.loads(sys.argv[1])
    rows = [json.loads(line)["messages"] for line in Path(settings["prompts"]).read_text("utf-8").splitlines()]
    prompts = ["\n\n".join(message["content"] for message in row[1:]) for row in rows]
    import data_designer.config as dd
    import pandas as pd
    from data_designer.interface import DataDesigner

    asked = dd.ChatCompletionInferenceParams(max_parallel_requests=settings["concurrency"])
    model = dd.ModelConfig(
        alias="teacher", model=settings["model"], provider="bench", inference_parameters=asked, skip_health_check=True
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"prompt": prompts})))
    builder.add_column(
        dd.LLMTextColumnConfig(
            name="reply", model_alias="teacher", system_prompt=rows[0][0]["content"], prompt="{{ prompt }}"
        )
    )
    provider = dd.ModelProvider(name="bench", endpoint=settings["url"], provider_type="openai", api_key="none")
    designer = DataDesigner(artifact_path=settings["work"], model_providers=[provider])
    quick = {"jinja_rendering_engine": dd.JinjaRenderingEngine.NATIVE, "otel_metrics_port": None}  # its faster choices
    designer.set_run_config(dd.RunConfig(buffer_size=len(prompts), **quick))
    found = designer.create(builder, num_records=len(prompts)).load_dataset()
    Path(settings["out"]).write_text("".join(json.dumps(text) + "\n" for text in found["reply"]), "utf-8")


if __name__ == "__main__":
    main()
