"""bespokelabs-curator asking for the benchmark's replies, in its own environment: see `peer_environments`."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def main() -> None:
    """Ask as the settings in the first argument say, and write the replies."""
    settings = json.loads(sys.argv[1])
    rows = [json.loads(line) for line in Path(settings["prompts"]).read_text("utf-8").splitlines()]
    # it counts tokens with a tokenizer's file that would be downloaded, and that litellm has
    tokenizers = Path(find_spec("litellm").origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tokenizers)
    from bespokelabs import curator

    class Writer(curator.LLM):
        def prompt(self, row: dict[str, Any]) -> Any:
            return row["messages"]

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:  # noqa: ARG002
            return {"text": response}

    limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10}
    asked = {"base_url": settings["url"], "api_key": "none", "max_concurrent_requests": settings["concurrency"]}
    writer = Writer(model_name=settings["model"], backend="openai", backend_params=limits | asked)
    found = writer(rows, working_dir=settings["work"])
    texts = found.dataset["text"] if hasattr(found, "dataset") else found["text"]
    Path(settings["out"]).write_text("".join(json.dumps(text) + "\n" for text in texts), "utf-8")


if __name__ == "__main__":
    main()
