from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vistune.generate.filters import Sample
from vistune.generate.filters.wording import wrong_language
from vistune.generate.kinds import Prompts
from vistune.records import ImageRecord, Turn

ANSWERS = {
    "en": "The image shows two dogs that lie on a red rug, and a cat is on the sofa.",
    "de": "Das Bild zeigt zwei Hunde, die auf einem roten Teppich liegen, und eine Katze ist auf dem Sofa.",
    "fr": "L'image montre deux chiens qui sont couchés sur un tapis rouge, et un chat est sur le canapé.",
    "es": "La imagen muestra dos perros que están en una alfombra roja, y hay un gato en el sofá.",
    "it": "L'immagine mostra due cani che sono su un tappeto rosso, e un gatto è sul divano con la coda.",
    "pt": "A imagem mostra dois cães que estão em um tapete vermelho, e há um gato no sofá da sala.",
    "nl": "Op de foto zijn twee honden te zien die op een rood kleed liggen, en er is een kat op de bank.",
    "ru": "На картинке две собаки лежат на красном ковре, а на диване сидит кошка.",
    "zh": "图片里有两只狗躺在红色的地毯上，一只猫坐在沙发上。",
    "ja": "二匹の犬が赤い敷物の上に横になっていて、猫がソファーに座っています。",
    "ko": "두 마리의 개가 빨간 양탄자 위에 누워 있고 고양이가 소파에 앉아 있습니다.",
    "ar": "تظهر الصورة كلبين على سجادة حمراء وقطة على الأريكة.",
}


def in_language(code: str, answer: str) -> Sample:
    kind = replace(Prompts().load("conversation"), language=code)
    return Sample(kind, ImageRecord("1", Path("1.jpg")), (Turn("user", "?"), Turn("assistant", answer)))


@pytest.mark.parametrize("code", ANSWERS)
def test_only_answers_in_the_requested_language_pass(code: str) -> None:
    assert [other for other, text in ANSWERS.items() if not wrong_language(in_language(code, text))] == [code]


@pytest.mark.parametrize("text", [
    "Yes.", "A dachshund.", "Two.", "The sign says “Die Bäckerei ist auf dem Markt”.",
    "He plays the ukulele in São Paulo.",
    "A pizza, spaghetti alla carbonara and a café au lait are on the table.",
    "Sofa, tv, lamp, table, chair, dog, cat, rug.",
])  # fmt: skip
def test_short_answers_names_and_quotations_pass(text: str) -> None:
    assert not wrong_language(in_language("en", text))


def test_a_short_dialogue_is_judged_with_its_questions() -> None:
    turns = (Turn("user", "Was liegt auf dem Teppich?"), Turn("assistant", "Zwei Hunde liegen auf dem Teppich."))
    assert wrong_language(Sample(Prompts().load("conversation"), ImageRecord("1", Path("1.jpg")), turns))
