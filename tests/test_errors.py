from __future__ import annotations

from vistune.errors import AnnotationError, VistuneError, did_you_mean


def test_a_message_says_where_what_and_how_to_fix_it() -> None:
    error = AnnotationError("the caption is empty", where="captions.json: annotation 3", fix="write it")
    assert str(error) == "captions.json: annotation 3: the caption is empty\n  fix: write it"
    assert (error.what, error.where, error.fix) == ("the caption is empty", "captions.json: annotation 3", "write it")
    assert str(VistuneError("no")) == "no"
    assert error.exit_code == 2


def test_did_you_mean() -> None:
    assert did_you_mean("trian", ["train", "val"]) == "did you mean 'train'?"
    assert did_you_mean("zzz", iter(["val", "train"])) == "one of: train, val"
