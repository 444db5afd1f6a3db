"""More habits of models in writing a reply: sections, symbols, tags, JSON of other shapes, titles, notes."""

from __future__ import annotations

import json

import pytest

from vistune.generate.filters import has_role_marker
from vistune.generate.replies import ReplyError, parse_reply

PAIRS = [
    ("What is on the rug?", "Two dogs lie on the rug."),
    ("Where is the cat?", "The cat sits on the sofa, on the right."),
    ("Why are they calm?", "They probably feel safe, because the room is quiet."),
]
D = "The image shows a cozy living room. Two dogs lie on a red rug at the bottom left, and a cat sits on a sofa."


def lines(question: str, answer: str, between: str = "\n\n", within: str = "\n") -> str:
    """The pairs with these markers; % is the number of the pair."""
    numbered = enumerate(PAIRS, 1)
    return between.join(
        f"{question.replace('%', str(n))}{q}{within}{answer.replace('%', str(n))}{a}" for n, (q, a) in numbered
    )


DIALOGUES = {
    "Turn N headings": "\n\n".join(f"**Turn {i}**\nUser: {q}\nAssistant: {a}" for i, (q, a) in enumerate(PAIRS, 1)),
    "Round N": "\n\n".join(f"### Round {i}\n**User**: {q}\n\n**Assistant**: {a}" for i, (q, a) in enumerate(PAIRS, 1)),
    "Pair N:": "\n\n".join(f"Pair {i}:\nQuestion: {q}\nAnswer: {a}" for i, (q, a) in enumerate(PAIRS, 1)),
    "Exchange": "\n\n".join(f"Exchange {i}\nQ: {q}\nA: {a}" for i, (q, a) in enumerate(PAIRS, 1)),
    "blockquote": lines("> **Q:** ", "> **A:** "),
    "emoji": lines("👤 User: ", "🤖 Assistant: "),
    "bold whole line": lines("**Q%: ", "").replace("?\n", "?**\n"),
    "bullets q a": "\n".join(f"- **Question:** {q}\n- **Answer:** {a}" for q, a in PAIRS),
    "nested bullets": "\n".join(f"- Q: {q}\n  - A: {a}" for q, a in PAIRS),
    "question mark colon missing": "\n===\n".join(f"Question\n{q}\n===\nAnswer\n{a}" for q, a in PAIRS),
    "uppercase": lines("QUESTION: ", "ANSWER: "),
    "dash markers": lines("Question - ", "Answer - "),
    "parenthesised": lines("(Q) ", "(A) "),
    "bracket number": lines("[Question %] ", "[Answer %] "),
    "roman": "\n\n".join(f"{r}. {q}\n{a}" for r, (q, a) in zip(("I", "II", "III"), PAIRS, strict=False)),
    "letters": "\n\n".join(f"{r}) {q}\n{a}" for r, (q, a) in zip("abc", PAIRS, strict=False)),
    "numbered dash": "\n".join(f"{i}. {q} - {a}" for i, (q, a) in enumerate(PAIRS, 1)),
    "numbered same line": "\n".join(f"{i}. {q} {a}" for i, (q, a) in enumerate(PAIRS, 1)),
    "heading bold answers": "\n\n".join(f"## {q}\n\n{a}" for q, a in PAIRS),
    "italic": "\n\n".join(f"*{q}*\n\n{a}" for q, a in PAIRS),
    "html dl": "<dl>" + "".join(f"<dt>{q}</dt><dd>{a}</dd>" for q, a in PAIRS) + "</dl>",
    "xml turns": "<conversation>"
    + "".join(f"<turn><user>{q}</user><assistant>{a}</assistant></turn>" for q, a in PAIRS)
    + "</conversation>",
    "xml attrs": "".join(
        f'<question id="{i}">{q}</question><answer id="{i}">{a}</answer>' for i, (q, a) in enumerate(PAIRS, 1)
    ),
    "xml role": "".join(f'<message role="user">{q}</message><message role="assistant">{a}</message>' for q, a in PAIRS),
    "json conversation key str": json.dumps(
        {"conversation": "\n".join(f"User: {q}\nAssistant: {a}" for q, a in PAIRS)}
    ),
    "json response nested": json.dumps({"response": {"turns": [{"question": q, "answer": a} for q, a in PAIRS]}}),
    "json dict of q->a": json.dumps(dict(PAIRS)),
    "json list of lists": json.dumps([[q, a] for q, a in PAIRS]),
    "json list flat": json.dumps([x for p in PAIRS for x in p]),
    "json user assistant list": json.dumps([{"user": q, "assistant": a} for q, a in PAIRS]),
    "json single-key turns": json.dumps([y for q, a in PAIRS for y in ({"user": q}, {"assistant": a})]),
    "json single-key qa": json.dumps({"turns": [y for q, a in PAIRS for y in ({"question": q}, {"answer": a})]}),
    "json human": json.dumps({"conversations": [{"human": q, "gpt": a} for q, a in PAIRS]}),
    "json Question 1": json.dumps(
        {f"{w} {i}": t for i, (q, a) in enumerate(PAIRS, 1) for w, t in (("Question", q), ("Answer", a))}
    ),
    "json q1": json.dumps({k: v for i, (q, a) in enumerate(PAIRS, 1) for k, v in ((f"q{i}", q), (f"a{i}", a))}),
    "json speaker": json.dumps(
        [{"speaker": s, "text": t} for q, a in PAIRS for s, t in (("User", q), ("Assistant", a))]
    ),
    "json type": json.dumps([{"type": s, "content": t} for q, a in PAIRS for s, t in (("question", q), ("answer", a))]),
    "json role Q": json.dumps([{"role": s, "content": t} for q, a in PAIRS for s, t in (("Human", q), ("AI", a))]),
    "json content parts": json.dumps(
        [
            {"role": s, "content": [{"type": "text", "text": t}]}
            for q, a in PAIRS
            for s, t in (("user", q), ("assistant", a))
        ]
    ),
    "python dict": str({"turns": [{"question": q, "answer": a} for q, a in PAIRS]}),
    "yaml": "turns:\n" + "\n".join(f"  - question: {q}\n    answer: {a}" for q, a in PAIRS),
    "yaml quoted": "\n".join(f'- question: "{q}"\n  answer: "{a}"' for q, a in PAIRS),
    "final answer prefix": "Final answer:\n\n" + lines("Question: ", "Answer: "),
    "title then": "# Conversation about the image\n\n" + lines("**User:** ", "**Assistant:** "),
    "horizontal rules": "\n\n---\n\n".join(f"**Question:** {q}\n\n**Answer:** {a}" for q, a in PAIRS),
    "rules between all": "\n---\n".join(x for q, a in PAIRS for x in (f"Question:\n{q}", f"Answer:\n{a}")),
    "stars rule": "\n***\n".join(f"Question: {q}\nAnswer: {a}" for q, a in PAIRS),
    "spanish": lines("**Pregunta %:** ", "**Respuesta %:** "),
    "zh numbered": lines("问题%：", "回答%："),
    "ja": lines("質問：", "回答："),
    "ko": lines("질문: ", "답변: "),
    "ar": lines("سؤال: ", "جواب: "),
    "hi": lines("प्रश्न: ", "उत्तर: "),
    "pl": lines("Pytanie: ", "Odpowiedź: "),
    "think after": lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n") + "\n<think>Did I do well?</think>",
    "think inside json": '{"thoughts": "ok", "turns": '
    + json.dumps([{"question": q, "answer": a} for q, a in PAIRS])
    + "}",
    "reasoning tag": "<reasoning>x</reasoning>\n<answer>\n"
    + lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n")
    + "\n</answer>",
    "output tag": "<output>\n" + lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n") + "\n</output>",
    "box": "<|begin_of_box|>" + lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n") + "<|end_of_box|>",
    "eos": lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n") + "</s>",
    "im_end mid": lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n") + "\n<|im_end|>\n<|im_start|>assistant\nMore",
    "trailing sep+note": lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n")
    + "\n===\n\n*Note: I made sure not to mention the captions.*",
    "checklist end": lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n") + "\n\n✅ All questions are answered.",
    "sure end": "Sure!\n\n"
    + lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n")
    + "\n\nWould you like more questions?",
    "okay thinking no tags": "Okay, let me write a conversation.\n\n"
    + lines("Question:\n", "Answer:\n", "\n===\n", "\n===\n"),
    "sep no newline": " === ".join(f"Question: {q} === Answer: {a}" for q, a in PAIRS),
    "crlf": lines("Question:\r\n", "Answer:\r\n", "\r\n===\r\n", "\r\n===\r\n"),
    "tabs": lines("\tQuestion:\n\t", "\tAnswer:\n\t", "\n===\n", "\n===\n"),
    "nbsp": lines("Question:\u00a0", "Answer:\u00a0"),
    "fullwidth Q": lines("Q：", "A："),
    "assistant is name": lines("Person: ", "Visual AI: "),
    "Me/You": lines("Viewer: ", "Assistant: "),
    "speaker A": lines("Speaker A: ", "Speaker B: "),
    "Query/Response": lines("Query: ", "Response: "),
    "sample question": lines("Sample Question %: ", "Sample Answer %: "),
    "follow-up": "Question: "
    + PAIRS[0][0]
    + "\nAnswer: "
    + PAIRS[0][1]
    + "\n\nFollow-up question: "
    + PAIRS[1][0]
    + "\nAnswer: "
    + PAIRS[1][1]
    + "\n\nFollow-up question: "
    + PAIRS[2][0]
    + "\nAnswer: "
    + PAIRS[2][1],
}

DESCRIPTIONS = {
    "analysis": f"Analysis: two dogs.\n\nDescription: {D}",
    "plan": f"Thinking Process:\n\n1. **Look**: two dogs.\n2. Write.\n\n**Final Output:**\n\n{D}",
    "bold intro": f"**Detailed description:** {D}",
    "caption label": f"Image Description:\n{D}",
    "heres": f"Here's a detailed description:\n\n{D}",
    "sure": f"Sure, here you go!\n\n{D}",
    "block quote": f"> {D}",
    "json text": json.dumps({"text": D}),
    "json nested": json.dumps({"answer": {"text": D}}),
    "json list": json.dumps([D]),
    "yaml": f"answer: {D}",
    "q and a": f"Question:\nDescribe the image.\n===\nAnswer:\n{D}",
    "xml": f"<answer>{D}</answer>",
    "think": f"<think>hm</think>{D}",
    "final": f"Final Answer: {D}",
    "chars": f"{D}\n\n[Word count: 30 words]",
    "tokens": f"{D}<|eot_id|>",
    "hr": f"---\n\n{D}\n\n---",
    "title": f"# A Cozy Living Room\n\n{D}",
    "bold title": f"**A Cozy Living Room**\n\n{D}",
    "asst": f"assistant\n\n{D}",
    "overall": f"{D}\n\n---\n\nLet me know if you need changes.",
    "quotes": f"“{D}”",
    "code": f"```text\n{D}\n```",
    "latex boxed": f"\\boxed{{{D}}}",
    "okay": f"Okay, here's a description of the image based on the provided information:\n\n{D}",
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_gives_its_pairs(name: str) -> None:
    texts = [turn.text for turn in parse_reply(DIALOGUES[name]).turns]
    assert texts == [text for pair in PAIRS for text in pair]
    assert not any(map(has_role_marker, texts))


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_is_read_as_plain_text(name: str) -> None:
    assert [turn.text for turn in parse_reply(DESCRIPTIONS[name], answer_only=True).turns] == [D]


@pytest.mark.parametrize(
    "text", ["A cat and a dog?", '["What is it?"]', '{"What is it?": 3, "Who?": 4}', "Turn 1\nTurn 2"]
)
def test_what_has_no_pairs_is_no_dialogue(text: str) -> None:
    with pytest.raises(ReplyError):
        parse_reply(text)
