# ruff: noqa: E501 (a table of replies as they are)
"""How real models deviate from the requested form, and what is read of it: the same samples, or a reason."""

from __future__ import annotations

import json

import pytest

from vistune.generate.filters import has_role_marker
from vistune.generate.replies import ReplyError, parse_reply

PAIRS = [
    ("What animals are on the rug?", "There are two dogs on the rug, close to each other."),
    ("What color is the rug?", "The rug is red."),
    ("Where is the cat?", "The cat is on the sofa, to the right of the dogs."),
]
ZH = [("地毯上有什么动物？", "地毯上有两只狗，它们靠得很近。"), ("猫在哪里？", "猫在沙发上，在狗的右边。")]
DE = [
    ("Was liegt auf dem Teppich?", "Zwei Hunde liegen auf dem Teppich."),
    ("Wo ist die Katze?", "Sie ist auf dem Sofa."),
]
DETAIL = "The image shows a cozy living room. Two dogs lie on a red rug at the bottom left, and a cat sits on a sofa."


def blocks(pairs: list[tuple[str, str]], q: str = "Question:\n", a: str = "Answer:\n", between: str = "\n===\n") -> str:
    numbered = [
        (q.replace("%", str(n)) + one, a.replace("%", str(n)) + other) for n, (one, other) in enumerate(pairs, 1)
    ]
    texts = [text for pair in numbered for text in pair]
    return between.join(texts)


GOOD = blocks(PAIRS)
FLAT = [text for pair in PAIRS for text in pair]
TURNS = json.dumps({"turns": [{"question": q, "answer": a} for q, a in PAIRS]})
TABLE = "| Question | Answer |\n|---|---|\n" + "\n".join(f"| {q} | {a} |" for q, a in PAIRS)

DIALOGUES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    name: (text, PAIRS)
    for name, text in {
        "as requested": GOOD,
        "Q and A": blocks(PAIRS, "Q: ", "A: ", "\n"),
        "Q1 and A1": blocks(PAIRS, "Q%: ", "A%: ", "\n\n"),
        "Q1. and A1.": blocks(PAIRS, "Q%. ", "A%. ", "\n"),
        "bold with numbers": "Here is a conversation about the image:\n\n" + blocks(PAIRS, "**Question %:** ", "**Answer %:** ", "\n\n"),
        "bold, colon outside": blocks(PAIRS, "**Question**: ", "**Answer**: ", "\n\n"),
        "headings": blocks(PAIRS, "### Question %\n", "### Answer %\n", "\n\n"),
        "headings with colon": blocks(PAIRS, "## Question %:\n", "## Answer %:\n", "\n\n"),
        "bold headings": blocks(PAIRS, "**Question %**\n", "**Answer %**\n", "\n\n"),
        "note in parentheses": blocks(PAIRS, "Question % (simple):\n", "Answer %:\n"),
        "numbered Q": blocks(PAIRS, "%. Q: ", "   A: ", "\n"),
        "numbered questions": "\n".join(f"{n}. {q}\n   {a}" for n, (q, a) in enumerate(PAIRS, 1)),
        "numbered bold questions": "\n\n".join(f"{n}. **{q}**\n   {a}" for n, (q, a) in enumerate(PAIRS, 1)),
        "numbered with dashes": "\n".join(f"{n}) {q}\n   - {a}" for n, (q, a) in enumerate(PAIRS, 1)),
        "bold questions": "\n\n".join(f"**{q}**\n{a}" for q, a in PAIRS),
        "questions as headings": "\n\n".join(f"### {q}\n{a}" for q, a in PAIRS),
        "User and Assistant": blocks(PAIRS, "User: ", "Assistant: ", "\n\n"),
        "Human and GPT": blocks(PAIRS, "Human: ", "GPT: ", "\n"),
        "Human and Assistant with ===": blocks(PAIRS, "Human:\n", "Assistant:\n"),
        "Person and Visual Assistant": blocks(PAIRS, "**Person:** ", "**Visual Assistant:** ", "\n\n"),
        "User and AI": blocks(PAIRS, "User: ", "AI: ", "\n"),
        "User and Model": blocks(PAIRS, "User: ", "Model: ", "\n"),
        "Question and Response": blocks(PAIRS, "Question: ", "Response: ", "\n\n"),
        "brackets": blocks(PAIRS, "[Question]\n", "[Answer]\n", "\n"),
        "brackets with colon": blocks(PAIRS, "[User]: ", "[Assistant]: ", "\n"),
        "quoted blocks": blocks(PAIRS, "> **Q:** ", "> **A:** ", "\n"),
        "YAML": "\n".join(f"- question: {q}\n  answer: {a}" for q, a in PAIRS),
        "XML": "\n".join(f"<question>{q}</question>\n<answer>{a}</answer>" for q, a in PAIRS),
        "XML pairs": "\n".join(f"<qa>\n<question>{q}</question>\n<answer>{a}</answer>\n</qa>" for q, a in PAIRS),
        "XML roles": "\n".join(f"<user>{q}</user>\n<assistant>{a}</assistant>" for q, a in PAIRS),
        "table": TABLE,
        "numbered table": "| # | Question | Answer |\n|:--|---|--:|\n" + "\n".join(f"| {n} | {q} | {a} |" for n, (q, a) in enumerate(PAIRS, 1)),
        "rules": GOOD.replace("===", "---"),
        "no separators": GOOD.replace("\n===\n", "\n\n"),
        "one line a pair": blocks(PAIRS, "Question: ", "Answer: ", "\n"),
        "capitals": GOOD.replace("Question", "QUESTION").replace("Answer", "ANSWER"),
        "full-width colons": GOOD.replace(":", "："),
        "chatter before": "Sure! Here's the conversation:\n\n" + GOOD,
        "offer at the end": GOOD + "\n\nLet me know if you'd like me to adjust anything!",
        "word count": GOOD + "\n\n(Word count: 87)",
        "note": GOOD + "\n\nNote: I have avoided mentioning captions or bounding boxes as requested.",
        "note in parentheses at the end": GOOD + "\n\n(Note: the answers are based on the scene.)",
        "closing separator and note": GOOD + "\n===\n\nI hope this helps!",
        "end of conversation": GOOD + "\n\n[End of conversation]",
        "code fence": f"```\n{GOOD}\n```",
        "fenced with words": f"Here it is:\n```text\n{GOOD}\n```\nEnjoy!",
        "curly quotes around all": f"“{GOOD}”",
        "answer tag around all": f"<answer>\n{GOOD}\n</answer>",
        "thoughts": f"<think>\nOkay, the user wants a conversation.\nQuestion: what should I ask?\n</think>\n\n{GOOD}",
        "thoughts without beginning": f"Okay, the user wants two dogs.\nI should ask about them.\n</think>\n\n{GOOD}",
        "thoughts twice": f"<think></think>\n<think>\nhm\n</think>\n{GOOD}",
        "thoughts of Seed": f"<seed:think>Okay, let me see.</seed:think>{GOOD}",
        "thoughts of Magistral": f"[THINK]Let me see.[/THINK]{GOOD}",
        "thoughts of Kimi": f"◁think▷Let me see.◁/think▷{GOOD}",
        "thoughts of Command": f"<|START_THINKING|>Let me see.<|END_THINKING|><|START_RESPONSE|>{GOOD}<|END_RESPONSE|>",
        "thoughts of Sky-T1": f"<|begin_of_thought|>So.<|end_of_thought|>\n\n<|begin_of_solution|>{GOOD}<|end_of_solution|>",
        "thoughts at the end": f"{GOOD}\n<think>Was that good?</think>",
        "reasoning tag": f"<reasoning>First, the dogs.</reasoning>\n{GOOD}",
        "thought tag": f"<thought>First, the dogs.</thought>\n{GOOD}",
        "scratchpad": f"<scratchpad>two dogs, a cat</scratchpad>\n{GOOD}",
        "harmony": f"<|channel|>analysis<|message|>We need to write.<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}",
        "harmony with return": f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
        "Gemma's thoughts": f"<unused94>thought\nThe user wants…<unused95>{GOOD}",
        "box of GLM": f"<|begin_of_box|>{GOOD}<|end_of_box|>",
        "end token of Llama": f"{GOOD}<|eot_id|>",
        "another turn after the end token": f"{GOOD}<|im_end|>\n<|im_start|>user\nThanks",
        "end of sequence": f"{GOOD}</s>",
        "end token of Gemma": f"{GOOD}<end_of_turn>\n<eos>",
        "end token of DeepSeek": f"{GOOD}<｜end▁of▁sentence｜>",
        "header of Llama": f"<|start_header_id|>assistant<|end_header_id|>\n\n{GOOD}",
        "header of ChatML": f"<|im_start|>assistant\n{GOOD}<|im_end|>",
        "role at the beginning": f"assistant\n\n{GOOD}",
        "role at the end": f"{GOOD}\nassistant",
        "image token": GOOD.replace("What animals", "<image>\nWhat animals"),
        "entities": GOOD.replace("dogs on", "dogs &nbsp;on").replace("dogs &nbsp;on", "dogs&#32;on"),
        "HTML": GOOD.replace("two dogs", "<b>two dogs</b>"),
        "bold words": GOOD.replace("two dogs", "**two dogs**").replace("red.", "*red*."),
        "Windows lines": GOOD.replace("\n", "\r\n"),
        "JSON": TURNS,
        "JSON list": json.dumps(json.loads(TURNS)["turns"]),
        "JSON in a fence": f"```json\n{TURNS}\n```",
        "JSON with words": f"Sure! Here you go:\n{TURNS}\nLet me know if you need anything else!",
        "JSON with trailing commas": TURNS.replace('"}', '",}').replace("]}", ",]}"),
        "JSON lines": "\n".join(json.dumps(one) for one in json.loads(TURNS)["turns"]),
        "JSON with thoughts": f"<think>hm</think>{TURNS}",
        "JSON with single quotes": TURNS.replace('"', "'"),
        "from and value": json.dumps([{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(FLAT)]),
        "from and value in a conversation": json.dumps({"id": "1", "conversations": [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(FLAT)]}),
        "role and content": json.dumps({"conversation": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(FLAT)]}),
        "messages with a system's": json.dumps({"messages": [{"role": "system", "content": "You see an image."}, *({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(FLAT))]}),
        "user and assistant keys": json.dumps({"dialogue": [{"user": q, "assistant": a} for q, a in PAIRS]}),
        "Q and A keys": json.dumps({"conversations": [{"Q": q, "A": a} for q, a in PAIRS]}),
        "qa_pairs": json.dumps({"qa_pairs": [{"question": q, "answer": a} for q, a in PAIRS]}),
        "numbered keys": json.dumps({f"{k}{n}": text for n, pair in enumerate(PAIRS, 1) for k, text in zip(("question", "answer"), pair, strict=True)}),
        "parallel lists": json.dumps({"questions": [q for q, _ in PAIRS], "answers": [a for _, a in PAIRS]}),
        "wrapped object": json.dumps({"data": {"turns": [{"question": q, "answer": a} for q, a in PAIRS]}}),
    }.items()
}  # fmt: skip
DIALOGUES |= {
    "Chinese markers": (blocks(ZH, "问题：", "回答：", "\n\n"), ZH),
    "Chinese markers with separators": (blocks(ZH, "问题：\n", "答案：\n"), ZH),
    "short Chinese markers": (blocks(ZH, "问：", "答：", "\n"), ZH),
    "numbered Chinese markers": (blocks(ZH, "**问题%：** ", "**答案%：** ", "\n\n"), ZH),
    "Chinese roles": (blocks(ZH, "用户：", "助手：", "\n"), ZH),
    "Chinese keys": (json.dumps([{"问题": q, "回答": a} for q, a in ZH], ensure_ascii=False), ZH),
    "English markers, Chinese text": (blocks(ZH), ZH),
    "German markers": (blocks(DE, "Frage:\n", "Antwort:\n"), DE),
    "German roles": (blocks(DE, "Nutzer: ", "Assistent: ", "\n"), DE),
    "numbered German markers": (blocks(DE, "**Frage %:** ", "**Antwort %:** ", "\n\n"), DE),
    "Spanish markers": (blocks(DE, "Pregunta %: ", "Respuesta %: ", "\n"), DE),
    "French markers": (blocks(DE, "Question : ", "Réponse : ", "\n"), DE),
    "Russian markers": (blocks(DE, "Вопрос: ", "Ответ: ", "\n"), DE),
    "cut in the last answer": (GOOD[:-20], [*PAIRS[:2], (PAIRS[2][0], PAIRS[2][1][:-20])]),
    "a list within an answer": (
        "Question:\nWhich?\n===\nAnswer:\nB: a dog\nA: a cat",
        [("Which?", "B: a dog\nA: a cat")],
    ),
}

DESCRIPTIONS = {
    "plain": DETAIL,
    "heading": f"### Detailed Description\n\n{DETAIL}",
    "bold heading": f"**Description:**\n\n{DETAIL}",
    "label": f"Description: {DETAIL}",
    "announced": f"Certainly! Here's a detailed description of the image:\n\n{DETAIL}\n\nLet me know if you'd like more!",
    "marker": f"Answer:\n{DETAIL}",
    "Assistant": f"Assistant: {DETAIL}",
    "quotes": f'"{DETAIL}"',
    "bold words": DETAIL.replace("red rug", "**red rug**").replace("cozy", "*cozy*"),
    "list": "- The image shows a cozy living room\n- Two dogs lie on a red rug at the bottom left, and a cat sits on a sofa.",
    "numbered list": "1. The image shows a cozy living room.\n2. Two dogs lie on a red rug at the bottom left, and a cat sits on a sofa.",
    "word count": f"{DETAIL}\n\n(Word count: 87)",
    "note": f"{DETAIL}\n\n**Note:** no captions were mentioned.",
    "thoughts": f"The picture has two dogs and a cat. First, the room.\n</think>\n{DETAIL}",
    "end token": f"{DETAIL}<|im_end|>",
    "description key": json.dumps({"description": DETAIL}),
    "other key": json.dumps({"detailed_description": DETAIL}),
    "from and value": json.dumps({"from": "gpt", "value": DETAIL}),
    "image token": f"<image> {DETAIL}",
    "fence": f"```\n{DETAIL}\n```",
    "tag": f"<description>{DETAIL}</description>",
}

REASONS = {
    "thoughts alone": ("<think>\nOkay, the user wants", "unfinished_thinking"),
    "analysis alone": ("<|channel|>analysis<|message|>We need to", "unfinished_thinking"),
    "a refusal": ("I'm sorry, but I can't help with identifying people in images.", "refusal"),
    "a refusal in Chinese": ("抱歉，我无法查看图片。", "refusal"),
    "a refusal in German": ("Es tut mir leid, aber ich kann das nicht tun.", "refusal"),
    "no image": ("I am unable to view images directly. Please upload the image.", "refusal"),
    "nothing": (" \n", "empty_reply"),
    "one question": ("Question:\nWhat is it?", "unanswered"),
    "answers first": (blocks([(a, q) for q, a in PAIRS], "Answer:\n", "Question:\n"), "wrong_order"),
    "two answers": ("Question:\nWhat?\n===\nAnswer:\nA.\n===\nAnswer:\nB.", "wrong_order"),
    "prose": ("The image shows two dogs that lie on a rug.", "unmarked_block"),
}


def test_a_hundred_habits_give_the_right_samples() -> None:
    found = {name: _read(text) for name, (text, _) in DIALOGUES.items()}
    wrong = {
        name: found[name] for name, (_, pairs) in DIALOGUES.items() if found[name] != [t for p in pairs for t in p]
    }
    assert len(DIALOGUES) >= 100
    assert wrong == {}
    del found["a list within an answer"]
    assert not any(has_role_marker(text) for texts in found.values() if isinstance(texts, list) for text in texts)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_is_read_as_plain_text(name: str) -> None:
    assert _read(DESCRIPTIONS[name], answer_only=True) == [DETAIL]


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_read_has_a_reason(name: str) -> None:
    text, reason = REASONS[name]
    assert _read(text) == reason
    if reason in ("refusal", "unfinished_thinking"):
        assert _read(text, answer_only=True) == reason


def test_an_empty_reply_at_the_limit_is_all_thoughts() -> None:
    assert _read("", finish="length") == "unfinished_thinking"


def _read(text: str, answer_only: bool = False, finish: str = "") -> list[str] | str:
    """The texts of the turns, or the reason why there are none."""
    try:
        return [turn.text for turn in parse_reply(text, answer_only, finish).turns]
    except ReplyError as error:
        return str(error)
