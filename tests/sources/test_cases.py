"""Data as people have it: exports of annotation tools and their oddities, each with what is read of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotation_tools import cvat, run_fix
from vistune.errors import AnnotationError
from vistune.sources import open_source
from vistune.sources._annotated import Rules


def test_a_shape_without_a_label_costs_a_box(tmp_path: Path) -> None:
    file = cvat(tmp_path) / "annotations.xml"
    bare = '<polyline label="" points="1.0,2;3,4"/><polygon points="1,2;3,4;6,5"/>'
    file.write_text(file.read_text().replace("<points", f"{bare}<points"))
    source = open_source("cvat", file)
    assert [[box.category for box in record.boxes] for record in source] == [["dog"], ["cat"] * 3]
    assert list(source.findings.lines()) == ["2 boxes without a label are left out"]
    with pytest.raises(AnnotationError, match=r"image 0, polyline 2: the box .* of '' has no label\n  fix: .*--strict"):
        list(open_source("cvat", file, rules=Rules(strict=True)))
    for path in (tmp_path, file):
        with pytest.raises(AnnotationError, match=r"root <annotations>\n  fix: .* --source cvat --show") as raised:
            open_source("voc", path)
        assert [type(one.source).__name__ for one in run_fix(raised.value)] == ["Cvat"]
