"""A fast tokenizer as the keys of a GGUF file.

llama.cpp has two kinds for our families: byte-level BPE (`gpt2`), with the way of splitting words given by a name,
and SentencePiece (`llama`), which merges the pair of pieces whose result has the highest score.
"""

from __future__ import annotations

import json
from typing import Any

from vistune.data.chat_template import exchange
from vistune.errors import require

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"llama-bpe": _LLAMA3, "qwen2": _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")}
"""The expression that splits a text into words, by the name under which llama.cpp knows it."""
_MARKERS = """\
{%- set ns = namespace(messages=[], text='') -%}
{%- for message in messages -%}
{%- set ns.text = message['content'] -%}
{%- if ns.text is string and '<__media' in ns.text -%}
{%- set ns.text = '' -%}
{%- for piece in message['content'].split('__>') -%}
{%- set ns.text = ns.text + ('' if loop.first else '__>' if piece == '' or piece[0] == '\\n' else '__>\\n') + piece -%}
{%- endfor -%}
{%- endif -%}
{%- set ns.messages = ns.messages + [{'role': message['role'], 'content': ns.text}] -%}
{%- endfor -%}
{%- set messages = ns.messages -%}
{{- '' }}"""
"""llama-server puts its marker of an image directly before the text; in training a line break stands between."""


def tokenizer_obstacles(tokenizer: Any) -> list[str]:
    """Why llama.cpp would split texts in another way than this tokenizer, or why it has no kind for it."""
    content = _content(tokenizer)
    if content["model"]["type"] != "BPE":
        kind = content["model"]["type"]
        return [
            f"a tokenizer of the kind {kind} is written neither by llama.cpp's converter for these families nor here"
        ]
    if _is_sentencepiece(content):
        return _sentencepiece_obstacles(content)
    name = _splitting(content)
    if name is None:
        return ["the tokenizer splits words in a way for which llama.cpp has no name"]
    if content["model"].get("ignore_merges") and name != "llama-bpe":
        return [
            "the tokenizer takes whole words from its vocabulary without merges, which llama.cpp does for Llama 3 only"
        ]
    return []


def add_tokenizer(writer: Any, tokenizer: Any, template: str, rows: int) -> None:
    """Add the tokenizer and the chat template to a GGUF writer; the embeddings have `rows`."""
    content = _content(tokenizer)
    sentencepiece = _is_sentencepiece(content)
    tokens, kinds = _tokens(tokenizer, content, rows, sentencepiece)
    merges = [
        tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in content["model"]["merges"]
    ]
    if sentencepiece:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_prepends_everywhere(content))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(str(_splitting(content)))
        writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(False)  # the template writes it; added by the engine, too, there would be two
    writer.add_add_eos_token(False)
    writer.add_chat_template(exported_template(tokenizer, template))


def exported_template(tokenizer: Any, template: str) -> str:
    """The chat template with a line break after an image's marker, where llama-server leaves it out.

    Special tokens are spelled out, as llama-cpp-python gives the template empty ones.
    """
    special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token")}
    spelled = "".join(f"{{%- set {name} = {json.dumps(text)} -%}}" for name, text in special.items() if text)
    head, mark, rest = template.partition("{{- '' }}")
    changed = head + mark + _MARKERS + rest
    kept = mark and exchange(tokenizer, changed) == exchange(tokenizer, template)
    return f"{spelled}{{{{- '' }}}}{changed if kept else template}"


def _content(tokenizer: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return content


def _steps(content: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    """The parts of a tokenizer's normalizer or pre-tokenizer."""
    step = content[stage]
    if step is None:
        return []
    return list(step.get("pretokenizers") or step.get("normalizers") or [step])


def _is_sentencepiece(content: dict[str, Any]) -> bool:
    return bool(content["model"].get("byte_fallback"))


def _sentencepiece_obstacles(content: dict[str, Any]) -> list[str]:
    vocab = content["model"]["vocab"]
    found = []
    if missing := [byte for byte in range(256) if f"<0x{byte:02X}>" not in vocab]:
        found.append(f"the tokenizer has no token for the byte {missing[0]}")
    kinds = {step["type"] for step in _steps(content, "normalizer")} - {"Prepend", "Replace"}
    if kinds:
        found.append(f"the tokenizer normalizes texts ({', '.join(sorted(kinds))}), which llama.cpp does not")
    return found


def _prepends_everywhere(content: dict[str, Any]) -> bool:
    """Whether a blank comes before every text between special tokens, and not before the first one alone.

    llama.cpp knows only these two. Ours begin with a special token, so that `first` adds none.
    """
    if any(step["type"] == "Prepend" for step in _steps(content, "normalizer")):
        return True
    schemes = [step["prepend_scheme"] for step in _steps(content, "pre_tokenizer") if step["type"] == "Metaspace"]
    return schemes == ["always"]


def _splitting(content: dict[str, Any]) -> str | None:
    """llama.cpp's name of the way in which a byte-level tokenizer splits words."""
    steps = _steps(content, "pre_tokenizer")
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0]["use_regex"] and not steps[0]["add_prefix_space"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and steps[0]["behavior"] == "Isolated" and not steps[1]["use_regex"]:
        expression = steps[0]["pattern"].get("Regex")
        return next((name for name, known in _SPLITS.items() if known == expression), None)
    return None


def _tokens(tokenizer: Any, content: dict[str, Any], rows: int, sentencepiece: bool) -> tuple[list[str], list[int]]:
    """Every row's token and llama.cpp's type of it; rows without a token are unused."""
    kind = require("gguf", "gguf", "writing a GGUF file").TokenType
    tokens = [f"[PAD{number}]" for number in range(rows)]
    kinds = [int(kind.UNUSED)] * rows
    for token, number in tokenizer.get_vocab().items():
        is_byte = sentencepiece and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        tokens[number], kinds[number] = token, int(kind.BYTE if is_byte else kind.NORMAL)
    for number, added in tokenizer.added_tokens_decoder.items():
        tokens[number] = added.content if added.special else added.content.replace("▁", " ")
        kinds[number] = int(kind.CONTROL if added.special else kind.USER_DEFINED)
    unknown = content["model"].get("unk_token")
    if sentencepiece and unknown is not None:
        kinds[tokenizer.convert_tokens_to_ids(unknown)] = int(kind.UNKNOWN)
    return tokens, kinds


def _scores(tokens: list[str], merges: list[tuple[str, ...]]) -> list[float]:
    """A score for each token that orders the merges as the tokenizer does: the earlier, the higher."""
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        first.setdefault(left + right, rank)
    return [-float(first.get(token, len(merges))) for token in tokens]
