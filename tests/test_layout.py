"""The layout is the design's, and imports only go forward along the flow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "vistune"
BASE = (
    "errors", "printable", "terminal", "reading", "image_files", "records", "registry", "resources", "storage",
    "output_folder", "interrupt", "seeded", "weights",
)  # fmt: skip
FLOW = (
    "recipe", "scene", "pages", "formats", "llm", "sources", "generate", "data", "view", "model", "train", "serve",
    "export", "evaluate", "demo", "cli",
)  # fmt: skip
REGISTRIES = ("cli", "sources", "formats", "llm/providers", "evaluate/benchmarks", "export/targets")
"""Folders whose files are entries of one kind, which nothing else imports."""
ORDER = dict.fromkeys(BASE, 0) | {name: place for place, name in enumerate(FLOW, 1)}
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "transformers", "accelerate", "tokenizers", "safetensors", "tensorboard"}
LIGHT_STAGES = (*BASE, *FLOW[:7], "cli")


def stage(file: Path) -> str:
    """The top-level folder or module below src/vistune."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file: Path, *, only_on_import: bool = False) -> Iterator[str]:
    """The full names of what a file imports, `vistune.records.Box` for `from vistune.records import Box`."""
    tree = ast.parse(file.read_text("utf-8"))
    inside = {
        id(inner) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }  # fmt: skip
    for node in ast.walk(tree):
        if only_on_import and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_folders_are_the_stages_of_the_flow() -> None:
    found = {stage(file) for file in FILES} - {"__init__"}
    assert found <= set(ORDER)
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {*FLOW}


def module(file: Path) -> str:
    """The name under which a file is imported."""
    return ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """For each module those that it imports, in functions and for types too."""
    modules = {module(file): file for file in FILES}
    found: dict[str, set[str]] = {}
    for name, file in modules.items():
        targets = {one if one in modules else one.rpartition(".")[0] for one in imported(file)}
        found[name] = (targets & modules.keys()) - {name}
    return found


def test_imports_only_go_forward() -> None:
    for file in FILES:
        for name in imported(file):
            parts = name.split(".")
            if parts[0] == "vistune" and stage(file) != "__init__":
                assert len(parts) > 1, f"{file.name} imports all of vistune"
                assert ORDER[parts[1]] <= ORDER[stage(file)], f"{file} imports the later stage {parts[1]}"


def test_no_imports_go_in_a_circle() -> None:
    graph = import_graph()
    while leaves := [name for name, imports in graph.items() if not imports & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these modules import each other: {', '.join(sorted(graph))}"


def test_a_small_file_has_several_importers_or_belongs_into_its_only_one() -> None:
    graph = import_graph()
    for file in FILES:
        folder = file.parent.relative_to(SOURCE).as_posix()
        if folder in REGISTRIES or file.name == "__init__.py" or len(file.read_text("utf-8").splitlines()) >= 60:
            continue
        importers = [name for name, imports in graph.items() if module(file) in imports]
        assert len(importers) != 1, f"{file} is imported by {importers[0]} only"


def test_stages_without_a_model_import_no_torch() -> None:
    for file in FILES:
        if stage(file) in LIGHT_STAGES:
            heavy = {module.split(".")[0] for module in imported(file, only_on_import=True)} & HEAVY
            assert not heavy, f"{file.name} imports {heavy}"


def test_every_package_says_what_it_is() -> None:
    for file in FILES:
        if file.name == "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), f"{file} has no docstring"


def test_tests_mirror_the_source() -> None:
    for file in (ROOT / "tests").rglob("test_*.py"):
        folder = file.parent.relative_to(ROOT / "tests")
        assert (SOURCE / folder).is_dir() or (ROOT / folder).is_dir(), f"{file}: there is no src/vistune/{folder}"


def test_files_stay_small() -> None:
    for file in FILES:
        lines = len(file.read_text("utf-8").splitlines())
        assert lines <= 300, f"{file} has {lines} lines"
