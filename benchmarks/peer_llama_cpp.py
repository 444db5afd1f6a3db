"""llama.cpp by llama-cpp-python, in its own environment: embeddings and greedy answers of images, as JSON."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd
from llama_cpp.llama_chat_format import MTMDChatHandler


class Probe(MTMDChatHandler):
    """The handler, which also keeps what the vision encoder computes."""

    def embedding(self, model: Any, image: Path) -> list[list[float]]:
        """The embeddings (I, D) of an image."""
        self._init_mtmd_context(model)
        bitmap = self._create_bitmap_from_bytes(image.read_bytes())
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text()
        text.text, text.text_len, text.add_special, text.parse_special = marker, len(marker), False, True
        chunks = mtmd.mtmd_input_chunks_init()
        assert mtmd.mtmd_tokenize(
            self.mtmd_ctx, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1
        ) == 0  # fmt: skip
        for number in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, number)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                assert mtmd.mtmd_encode_chunk(self.mtmd_ctx, chunk) == 0
                values = mtmd.mtmd_get_output_embd(self.mtmd_ctx)
                count, width = mtmd.mtmd_input_chunk_get_n_tokens(chunk), model.n_embd()
                return [[values[row * width + column] for column in range(width)] for row in range(count)]
        raise AssertionError("the prompt has no image")


def main() -> None:
    """Print a JSON list: for each image its embedding and the answer's tokens."""
    settings = json.loads(sys.argv[1])
    handler = Probe(settings["mmproj"], verbose=False, use_gpu=False)
    model = llama_cpp.Llama(settings["model"], n_ctx=2048, verbose=False, chat_handler=handler)
    rows = []
    for image in map(Path, settings["images"]):
        written: list[int] = []
        sample = model.sample

        def keep(*args: Any, sample: Any = sample, written: list[int] = written, **options: Any) -> int:
            written.append(sample(*args, **options))
            # tokens without a text do not count for max_tokens
            return written[-1] if len(written) < settings["tokens"] else model.token_eos()

        model.sample = keep
        content = [
            {"type": "image_url", "image_url": {"url": image.resolve().as_uri()}},
            {"type": "text", "text": settings["question"]},
        ]
        model.create_chat_completion(
            [{"role": "user", "content": content}], temperature=0.0, max_tokens=settings["tokens"], repeat_penalty=1.0
        )
        model.sample = sample
        ends = written.index(model.token_eos()) if model.token_eos() in written else len(written)
        tokens = written[:ends][: settings["tokens"]]
        rows.append({"tokens": tokens, "embedding": handler.embedding(model, image)})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
