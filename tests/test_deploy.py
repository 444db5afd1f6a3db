"""The container's files: what they copy exists, and what they run is a command of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vistune.cli import build_parser

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]


def test_what_the_image_copies_is_in_the_repository_and_not_ignored() -> None:
    sources = [name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in sources)
    assert sorted(sources) == sorted(kept)


def test_the_images_extras_exist() -> None:
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILE)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))


def test_the_commands_are_accepted() -> None:
    parser, _ = build_parser()
    (default,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    for command in (json.loads(default), *(service["command"] for service in SERVICES.values())):
        args = parser.parse_args(command)
        assert args.api_key_env == "VISTUNE_KEY"  # another address than loopback needs a key
        assert args.host == "0.0.0.0"


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_service_is_only_reachable_from_its_machine_and_writes_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert service["read_only"]
    assert service["volumes"][0].endswith(":/model:ro")
    assert ("deploy" in service) == (name == "gpu")
