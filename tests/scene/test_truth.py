"""What the symbolic teacher says of random scenes, against a reader of its own: no statement contradicts the boxes.

The reader knows the names of things from its own table, not from the package.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from vistune.generate.kinds import Prompts
from vistune.generate.replies import parse_reply
from vistune.llm import open_client
from vistune.records import Box, ImageRecord

# each thing with the spellings that data sets have for it, singular and plural; the first is COCO's or the usual one
THINGS = {
    "person": "person people persons human_person",
    "dog": "dog dogs",
    "couch": "couch couches sofa sofas",
    "tv": "tv tvs tvmonitor tvmonitors tv_monitor television televisions",
    "dining table": "dining_table dining_tables diningtable diningtables",
    "potted plant": "potted_plant potted_plants pottedplant pottedplants",
    "motorcycle": "motorcycle motorcycles motorbike motorbikes",
    "airplane": "airplane airplanes aeroplane aeroplanes",
    "traffic light": "traffic_light traffic_lights trafficlight trafficlights",
    "car": "car cars automobile automobiles",
    "cell phone": "cell_phone cell_phones cellphone cellphones",
    "sheep": "sheep",
    "knife": "knife knives",
    "scissors": "scissors pair_of_scissors pairs_of_scissors",
    "mouse": "mouse mice",
    "rbc": "rbc rbcs",
    "platelet": "platelet platelets",
    "kangaroo": "kangaroo kangaroos",
    "stop sign": "stop_sign stop_signs",
    "bicycle": "bicycle bicycles bike bikes",
}
SPELLINGS = {spelling.replace("_", " "): thing for thing, names in THINGS.items() for spelling in names.split()}
NUMBERS = {w: n for n, w in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"])}
NAME = "|".join(sorted(map(re.escape, SPELLINGS), key=len, reverse=True))
SIDES = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}


def things_in(text: str) -> list[str]:
    return [SPELLINGS[name] for name in re.findall(rf"\b({NAME})\b", normal(text))]


def normal(text: str) -> str:
    return re.sub(r"[_\-\s]+", " ", text.lower())


def spelled(thing: str, rng: random.Random) -> str:
    name = rng.choice([name for name in THINGS[thing].split() if "pair" not in name and "human" not in name])
    name = rng.choice([name, name.replace("_", " ")])
    return str(rng.choice([name, name.title(), name.upper(), name.capitalize()]))


def scene(seed: int) -> tuple[ImageRecord, tuple[str, ...], Counter[str]]:
    rng = random.Random(seed)
    own = rng.sample(sorted(THINGS), rng.randint(2, 12))
    vocabulary = [spelled(thing, rng) for thing in own for _ in range(rng.randint(1, 2))]
    boxes = []
    for _ in range(rng.randint(1, 7)):
        x, y, w, h = rng.uniform(0, 0.7), rng.uniform(0, 0.7), rng.uniform(0.03, 0.3), rng.uniform(0.03, 0.3)
        boxes.append(Box(rng.choice(vocabulary), x, y, x + w, y + h))
    present = Counter(things_in(box.category)[0] for box in boxes)
    return ImageRecord(str(seed), Path("1.jpg"), boxes=tuple(boxes)), tuple(sorted(vocabulary)), present


def pairs_about(record: ImageRecord, vocabulary: tuple[str, ...]) -> list[tuple[str, str]]:
    client, found = open_client("symbolic"), list[tuple[str, str]]()
    for name in ("conversation", "detail", "reasoning"):
        kind = Prompts().load(name, client.needs)
        request = kind.request(record, int(record.id))
        reply = asyncio.run(client.complete(replace(request, vocabulary=vocabulary)))
        turns = parse_reply(reply.text, name == "detail").turns if reply.text else ()
        texts = [turn.text for turn in turns]
        found += zip(texts[::2], texts[1::2], strict=True) if name != "detail" else [("", text) for text in texts]
    return found


def wrong(question: str, answer: str, record: ImageRecord, present: Counter[str], own: set[str]) -> list[str]:
    """What a question and its answer state that the boxes contradict."""
    q, a = normal(question), normal(answer)
    faults = [f"in the center twice: {a}"] if re.search(r"in the center and in the center", a) else []
    if a.startswith("no") and not re.search("left of|right of|above|below", q):
        faults += [f"denies {thing}" for thing in things_in(q) if thing in present or thing not in own]
    elif not q.startswith(("is the", "in the image, is the", "does the")):
        faults += [f"invents {thing}" for thing in things_in(a) if thing not in present]
    asked = things_in(q)
    if re.search(r"\b(?:how many|count|number of)\b", q) and len(asked) == 1 and "how do you" not in q:
        said = next((NUMBERS[word] for word in re.findall(r"\w+", a) if word in NUMBERS), -1)
        faults += [f"counts {said} {asked[0]}"] if said != present[asked[0]] else []
    for number, name in re.findall(rf"\b({'|'.join(NUMBERS)}) (?:of the )?({NAME})\b", a):
        faults += [f"states {number} {name}"] if NUMBERS[number] > present[SPELLINGS[name]] else []
    if total := re.search(r"\bthere (?:are|is) (\w+) objects? altogether", a):
        faults += [f"total {total[1]}"] if NUMBERS[total[1]] != present.total() else []
    return faults + places(q, a, record) + relations(q, a, record) + layout(answer, record)


def only(thing: str, record: ImageRecord) -> Box | None:
    found = [box for box in record.boxes if things_in(box.category)[0] == thing]
    return found[0] if len(found) == 1 else None


def places(q: str, a: str, record: ImageRecord) -> list[str]:
    """Statements of where the only object of its kind is: "the dog is at the top left", or after "where is the dog"."""
    said = re.findall(rf"\bthe ({NAME}) is (?:at|on|in) the ((?:top|bottom|left|right|center)(?: left| right)?)\b", a)
    asked = re.match(rf".*\b(?:where|part|position|side)\b.*\b({NAME})\b", q)
    place = re.match(r"(?:it is )?(?:at|on|in) the ((?:top|bottom|left|right|center)(?: left| right)?)\b", a)
    said += [(asked[1], place[1])] if asked and place else []
    faults = []
    for name, where in said:
        box = only(SPELLINGS[name], record)
        if box is None:
            faults.append(f"the {name} is not the only one")
            continue
        for axis, sign in (SIDES[word] for word in where.split() if word in SIDES):
            if sign * (box.center[axis] - 0.5) < 0:
                faults.append(f"{name} {where}")
    return faults


def relations(q: str, a: str, record: ImageRecord) -> list[str]:
    """Statements and affirmed questions of relations between two objects."""
    verb = "(?:is |appears? |placed |located |in the picture )*"
    relation = "(to the left of|to the right of|above|below)"
    pattern = rf"\b(?:the|a|an) ({NAME}) {verb}{relation} the ({NAME})\b"
    said = re.findall(pattern, a) + (re.findall(pattern, q) if a.startswith("yes") else [])
    faults = []
    for one, where, other in said:
        b = only(SPELLINGS[other], record)
        axis, sign = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (1, -1), "below": (1, 1)}[where]
        found = [box for box in record.boxes if things_in(box.category)[0] == SPELLINGS[one]]
        if b is None or not any(sign * (box.center[axis] - b.center[axis]) > 0 for box in found):
            faults.append(f"{one} {where} {other}")
    return faults


SHARES = {
    "less than a tenth": 0.04, "a tenth": 0.1, "a fifth": 0.2, "a quarter": 0.25, "a third": 0.33, "two fifths": 0.4,
    "half": 0.5, "three fifths": 0.6, "two thirds": 0.67, "three quarters": 0.75, "four fifths": 0.8,
    "nine tenths": 0.9, "nearly all": 0.98,
}  # fmt: skip
SHARE = re.compile(
    rf"(?<!upper )(?<!lower )(?<!left )(?<!right )\b(?:about )?({'|'.join(sorted(SHARES, key=len, reverse=True))})\b"
)
HALVES = re.compile(r"\b(left|upper)\b.*\b(right|lower)\b")


def layout(text: str, record: ImageRecord) -> list[str]:
    """Statements of sizes, distances, edges and halves that hold of no object and of no kind of objects."""
    groups: dict[str, list[Box]] = {}
    for box in record.boxes:
        groups.setdefault(things_in(box.category)[0], []).append(box)
    around = [
        Box("", min(b.x1 for b in g), min(b.y1 for b in g), max(b.x2 for b in g), max(b.y2 for b in g))
        for g in groups.values()
    ]
    measures = [(b.x2 - b.x1, b.y2 - b.y1) for b in (*record.boxes, *around)]
    measures += [pair for b in record.boxes for pair in ((b.x1, 1 - b.x2), (b.y1, 1 - b.y2))]
    gaps = [{"left": b.x1, "right": 1 - b.x2, "top": b.y1, "bottom": 1 - b.y2} for b in record.boxes]
    faults = []
    for sentence in re.split(r"(?<=[.])\s", text):
        low = sentence.lower()
        said = [SHARES[share] for share in SHARE.findall(low)]
        pairs = list(zip(said[::2], said[1::2], strict=False))
        if any(all(max(abs(a - w), abs(b - h)) > 0.07 for w, h in measures) for a, b in pairs):
            faults.append(f"no object of this size: {sentence}")
        edges = re.findall(r"the (left|right|top|bottom) edge", low) if not said else []
        if not any(all(gap[edge] < 0.01 for edge in edges) for gap in gaps):
            faults.append(f"no object at these edges: {sentence}")
        if re.search(r"clear of all|none of the image's edges|lies inside the frame|no edge of|all around it", low):
            faults += [] if any(min(gap.values()) > 0.015 for gap in gaps) else [f"all are at an edge: {sentence}"]
        words = [NUMBERS[word] for word in re.findall(r"\w+", low) if word in NUMBERS]
        if len(words) == 2 and not said and HALVES.search(low) and ("half" in low or "middle" in low):
            axis = 0 if "left" in low else 1
            sides = [
                (sum(b.center[axis] < 0.5 for b in g), sum(b.center[axis] > 0.5 for b in g)) for g in groups.values()
            ]
            faults += [] if tuple(words) in sides else [f"no such halves: {sentence}"]
    return faults


def test_no_statement_about_a_thousand_scenes_contradicts_the_boxes() -> None:
    faults, denials, statements = [], 0, 0
    for seed in range(1000):
        record, vocabulary, present = scene(seed)
        own = {things_in(name)[0] for name in vocabulary}
        for question, answer in pairs_about(record, vocabulary):
            statements += 1
            denials += answer.startswith("No") and "any" in question
            faults += [(seed, fault, question, answer) for fault in wrong(question, answer, record, present, own)]
    assert faults == []
    assert statements > 6000
    assert denials > 100


def test_the_reader_finds_what_is_wrong() -> None:
    boxes = (Box("Dog", 0.1, 0.1, 0.3, 0.3), Box("tvmonitor", 0.7, 0.7, 0.9, 0.9))
    record = ImageRecord("1", Path("1.jpg"), boxes=boxes)
    present, own = Counter({"dog": 1, "tv": 1}), {"dog", "tv", "car"}
    for question, answer in (
        ("Are there tvs in this photo?", "No, there is no tv."),
        ("Is there any person in the scene?", "No, I cannot see a person."),
        ("How many dogs are there?", "Two."),
        ("Where is the dog?", "It is at the bottom right."),
        ("Is the dog above the TVmonitor?", "No, the Dog is below the TVmonitor."),
        ("What can you see?", "There are two dogs and a television."),
        ("What can you see?", "A car."),
        ("What can you see?", "In width the dog fills about half of the picture, in height about a fifth."),
        ("What can you see?", "It touches the left edge."),
        ("What can you see?", "The left half holds two, the right half one."),
    ):
        assert wrong(question, answer, record, present, own), question
    for question, answer in (
        ("Is there any car?", "No, there is no car."),
        ("Where is the dog?", "At the top left."),
        ("Is the dog above the tvmonitor?", "Yes."),
    ):
        assert not wrong(question, answer, record, present, own), question
