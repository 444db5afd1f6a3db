"""distilabel asking for the benchmark's replies, in its own environment: see `peer_environments`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Ask as the settings in the first argument say, and write the replies."""
    settings = json.loads(sys.argv[1])
    rows = [json.loads(line) for line in Path(settings["prompts"]).read_text("utf-8").splitlines()]
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts, StepResources
    from distilabel.steps.tasks import ChatGeneration

    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=settings["concurrency"])
        llm = OpenAILLM(model=settings["model"], base_url=settings["url"], api_key="none")
        # a batch is asked at once and waited for, so two processes have half of the requests each
        replicas = 1 if settings["concurrency"] % 2 else 2
        size = settings["concurrency"] // replicas
        load >> ChatGeneration(llm=llm, input_batch_size=size, resources=StepResources(replicas=replicas))
    found = pipeline.run(use_cache=False)["default"]["train"]
    Path(settings["out"]).write_text("".join(json.dumps(text) + "\n" for text in found["generation"]), "utf-8")


if __name__ == "__main__":
    main()
