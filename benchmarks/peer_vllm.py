"""vLLM in its own environment: greedy answers about images as token ids, as JSON."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams


def main() -> None:
    """Print each image's tokens, as a JSON list on a line of its own among what vLLM prints."""
    settings = json.loads(sys.argv[1])
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB; by default half of the memory
    model = LLM(settings["model"], dtype="float32", max_model_len=1024, enforce_eager=True)
    conversations: list[Any] = []
    for image in map(Path, settings["images"]):
        url = f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": settings["question"]}]
        conversations.append([{"role": "user", "content": content}])
    sampling = SamplingParams(temperature=0, max_tokens=settings["tokens"])
    replies = model.chat(conversations, sampling)
    ends = model.get_tokenizer().eos_token_id
    print("\n" + json.dumps([[token for token in reply.outputs[0].token_ids if token != ends] for reply in replies]))


if __name__ == "__main__":  # vLLM starts this file again in its processes
    main()
