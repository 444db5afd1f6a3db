"""Five differently worded captions of a scene, as COCO has them."""

from __future__ import annotations

import random

from vistune.demo.scenes import Background, Scene
from vistune.scene.english import counted, listed, with_article
from vistune.scene.facts import RELATIONS, counts, holds

_CAPTIONS = (
    "{Things} on a {ground} background.",
    "A picture of {things}.",
    "{Ground} background with {things}.",
    "There {is_are} {things} in front of a {ground} background.",
    "An image with {things}.",
    "{Things}, all on {ground}.",
    "A scene that shows {things} over {ground}.",
    "{Things} can be seen here.",
    "This is a photo of {things} on {ground}.",
)


def captions(scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """Five captions; each names every object once, in random order; one states a relation if there is one."""
    relation = _relation(scene, rng)
    templates = rng.sample(_CAPTIONS, 4 if relation else 5)
    written = [_fill(template, scene, rng) for template in templates] + ([relation] if relation else [])
    return tuple(rng.sample(written, 5))


def _fill(template: str, scene: Scene, rng: random.Random) -> str:
    objects = list(counts(scene.boxes).items())
    rng.shuffle(objects)
    things = listed([counted(name, n) for name, n in objects])
    ground = _ground(scene.background)
    return template.format(
        things=things,
        Things=_capital(things),
        ground=ground,
        Ground=_capital(with_article(ground)),
        is_are="is" if objects[0][1] == 1 else "are",
    )


def _relation(scene: Scene, rng: random.Random) -> str | None:
    pairs = [(a, b) for a in scene.boxes for b in scene.boxes if a.category != b.category]
    rng.shuffle(pairs)
    objects = counts(scene.boxes)
    for a, b in pairs:
        true = [name for name in RELATIONS if holds(name, a, b)]
        if true and objects[a.category] == objects[b.category] == 1:
            words = rng.choice(true).replace("left of", "to the left of").replace("right of", "to the right of")
            return f"{_capital(with_article(a.category))} {words} {with_article(b.category)}."
    return None


def _ground(background: Background) -> str:
    return " and ".join(background.colors)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
