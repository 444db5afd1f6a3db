"""What the wheel and the source distribution hold, and the sites and files around them."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=ROOT, check=True)
    return out


def test_the_wheel_works_elsewhere(built: Path, tmp_path: Path) -> None:
    wheel = next(built.glob("*.whl"))
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import vistune; assert vistune.__file__.startswith(sys.argv[1]), vistune.__file__\n"
        "from vistune.cli import main\n"
        "data = ['demo-data', '--out', 'runs/emoji', '--train', '8', '--val', '0', '--test', '0']\n"
        "for command in (['recipes', 'mini'], data, ['generate', 'runs/emoji', '--out', 'runs/instruct'],\n"
        "                ['view', 'runs/instruct'], ['train', 'mini', '--plan']):\n"
        "    assert main(command) == 0, command\n"
    )
    subprocess.run([sys.executable, "-c", script, str(site)], cwd=work, check=True)


def test_the_description_has_no_relative_links(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        links = re.findall(r"\]\(([^)]+)\)", wheel.read(metadata).decode())
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_source_distribution_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = next(tmp_path.iterdir())
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "again"], cwd=unpacked, check=True)
    names = []
    for folder in (built, unpacked / "again"):
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            names.append({(info.filename, info.CRC) for info in wheel.infolist()})
    assert names[0] == names[1]


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "site/reference/api/index.html").read_text("utf-8")
    assert "Answers questions about images" in text  # the API's docstrings
    every_page = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    listed = {Path(name) for name in re.findall(r"- (\S+\.md)", (ROOT / "mkdocs.yml").read_text("utf-8"))}
    assert listed == every_page
