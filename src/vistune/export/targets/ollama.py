"""Ollama: the GGUF files and a Modelfile."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vistune.data.chat_template import checkpoint_template, render
from vistune.errors import CheckpointError
from vistune.export.targets import ExportOptions, Opened, exporters
from vistune.export.targets.gguf import file_paths, notes, write_both
from vistune.output_folder import locked
from vistune.storage import atomic_text, refuse_existing

_MARKS = [chr(0xE000 + number) for number in range(5)]
"""Stand for turns' texts where only the template's own words matter."""
_TEMPLATE = """\
{{- $before := $FIRST$ }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ $SYSTEM$ }}{{ .Content }}{{ $before = $AFTER_SYSTEM$ }}
{{- else if eq .Role "user" }}{{ $before }}{{ .Content }}{{ $PROMPT$ }}
{{- else }}{{ $LEAD$ }}{{ .Content }}{{ $before = $TURN$ }}
{{- end }}
{{- end }}"""


@dataclass(frozen=True, slots=True)
class Words:
    """A chat template's own words around the turns' texts."""

    first: str
    """Before the first question, without a system turn."""
    system: str
    after_system: str
    prompt: str
    """After a question: the generation prompt."""
    lead: str
    """Between the generation prompt and an answer, which the model writes: Vicuna's blank."""
    turn: str
    """Between an answer and the next question."""

    def render(self, texts: list[str], system: str | None) -> str:
        """A conversation that ends with a question, as the template in Go renders it."""
        before = self.first if system is None else self.system + system + self.after_system
        for number, text in enumerate(texts):
            before += self.lead + text + self.turn if number % 2 else text + self.prompt
        return before


@exporters.register("ollama")
def export_ollama(opened: Opened, out: Path, options: ExportOptions) -> list[str]:
    """Write the GGUF files and OUT/Modelfile, which has the chat template in Go's language."""
    tokenizer = opened.processor.tokenizer
    template = in_go(words(tokenizer, checkpoint_template(opened.processor)))
    with locked(out):
        refuse_existing([out / "Modelfile"], overwrite=options.overwrite)
        text, vision = file_paths(out, options)
        with atomic_text(out / "Modelfile") as file:
            file.write(f"FROM ./{text.name}\nFROM ./{vision.name}\n")
            file.write(f'TEMPLATE """{template}"""\n')
            file.write(f"PARAMETER stop {json.dumps(tokenizer.eos_token)}\nPARAMETER temperature 0\n")
            file.flush()  # before the models: a disk that becomes full leaves none of the files
            write_both(opened, out, options)
    return [f"ollama create NAME -f {out / 'Modelfile'}", *notes(opened)]


def words(tokenizer: Any, template: str) -> Words:
    """The words of a chat template, taken from conversations that it renders.

    Raises CheckpointError if they depend on more than the role of a turn and the one before.
    """
    _, *questions = _MARKS
    first, before_answer, turn, prompt = _between(tokenizer, template, questions[:3], None)
    system, after_system, _ = _between(tokenizer, template, questions[:1], _MARKS[0])
    result = Words(first, system, after_system, prompt, before_answer.removeprefix(prompt), turn)
    for given in (None, _MARKS[0]):
        for texts in (questions[:1], questions[:3], [*questions, "x"]):
            if result.render(texts, given) != _rendered(tokenizer, template, texts, given):
                what = "the chat template's words depend on more than the role of a turn, as Ollama's cannot"
                raise CheckpointError(what, fix="export with --to gguf: llama-server reads the template itself")
    return result


def in_go(parts: Words) -> str:
    """The template in Go's language."""
    result = _TEMPLATE
    for name, text in asdict(parts).items():
        result = result.replace(f"${name.upper()}$", json.dumps(text, ensure_ascii=False))
    return result


def _rendered(tokenizer: Any, template: str, texts: list[str], system: str | None) -> str:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return render(tokenizer, template, messages, prompt=True)


def _between(tokenizer: Any, template: str, texts: list[str], system: str | None) -> list[str]:
    """The template's words before, between and after the texts, which are marks."""
    return re.split("|".join(_MARKS), _rendered(tokenizer, template, texts, system))
