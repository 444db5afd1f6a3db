from __future__ import annotations

import numpy as np
import pytest
import torch

from vistune.data.collate import collate
from vistune.data.encode import Sample
from vistune.data.groups import make_groups
from vistune.data.image_tokens import ImageGrid

IMAGE = 9
TOKENS = ImageGrid(2).tokens(lambda: (1, 1))


def _sample(name: str, tokens: list[int], first_target: int, images: str) -> Sample:
    ids = np.array([one for token in tokens for one in [token] * (2 if token == IMAGE else 1)], dtype=np.int32)
    targets = np.arange(len(ids)) >= first_target
    return Sample(
        name, ids, targets, tuple(images), (TOKENS,) * len(images), np.flatnonzero(ids == IMAGE).astype(np.int32)
    )


@pytest.mark.parametrize(
    ("images", "shared"),
    [
        (("ab", "ab"), 8),  # to the first difference of the texts
        (("ab", "ac"), 4),  # to the other image
        (("ab", "cb"), None),  # not the same first image
        (("aa", "ab"), 4),
    ],
)
def test_what_is_shared_ends_where_an_image_differs(images: tuple[str, str], shared: int | None) -> None:
    one = _sample("1", [1, IMAGE, 2, IMAGE, 3, 4, 5, 6], 9, images[0])
    other = _sample("2", [1, IMAGE, 2, IMAGE, 3, 4, 7, 6], 9, images[1])
    groups = make_groups([one, other])
    assert [group.shared for group in groups] == ([0, 0] if shared is None else [shared])


def test_what_is_shared_ends_before_the_first_target_and_text_alone_shares_nothing() -> None:
    samples = [_sample("1", [1, IMAGE, 2, 3, 4], 5, "a"), _sample("2", [1, IMAGE, 2, 3, 5], 4, "a")]
    samples += [_sample("3", [1, 2, 3], 2, "")] * 2
    assert [(len(group.samples), group.shared) for group in make_groups(samples)] == [(2, 3), (1, 0), (1, 0)]


def test_features_come_from_each_images_own_pixels() -> None:
    samples = [
        _sample("1", [1, IMAGE, IMAGE, 3], 5, "ab"), _sample("2", [1, IMAGE, IMAGE, 4], 5, "ac"),
        _sample("3", [5, 6], 1, ""), _sample("4", [1, 2, IMAGE, 3], 4, "b"),
    ]  # fmt: skip
    batch = collate(make_groups(samples), lambda name, _: torch.full((1, 3, 1, 1), float(ord(name))))
    assert batch.pixel_values is not None
    assert [chr(int(one)) for one in batch.pixel_values[:, 0, 0, 0]] == ["a", "b", "c"]
    assert batch.input_ids.tolist() == [1, 9, 9, 9, 9, 3, 9, 9, 4, 5, 6, 1, 2, 9, 9, 3]
    assert batch.image_at.tolist() == [1, 2, 3, 4, 6, 7, 13, 14]
    assert batch.image_from.tolist() == [0, 1, 2, 3, 4, 5, 2, 3]  # c's features 4 and 5; b's again
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 0, 1, 2, 3, 4]
