"""The page's layout and what its controls do."""

from __future__ import annotations

import html
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from vistune.errors import VistuneError
from vistune.serve.models import ChatModel, LocalModel
from vistune.serve.web.answers import describe, grow
from vistune.serve.web.messages import Message, is_whole, questions, to_openai, user_messages
from vistune.serve.web.options import PageOptions
from vistune.serve.web.saved import read_conversation, write_conversation
from vistune.serve.web.votes import POINTS

LATEX: list[dict[str, str | bool]] = [
    {"left": left, "right": right, "display": display}
    for left, right, display in (("$$", "$$", True), ("\\[", "\\]", True), ("$", "$", False), ("\\(", "\\)", False))
]
ENDINGS = [".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"]
"""What may be uploaded; the page's server would also hand it out again."""
CSS = """
footer, .chat [data-testid="status-tracker"],
.chat [aria-label="Share"], .chat [aria-label="Clear"] { display: none !important; }
.chat .bot-row:has(small) .message { background: none; border: none; padding-top: 0; padding-bottom: 0; }
.chat .bot-row:has(small) + .message-buttons button:not([aria-label="Retry"]) { display: none; }
@media (max-width: 640px) { .gradio-container main { padding: 8px !important; } }
"""
_DARK = """() => {
  const dark = document.body.classList.toggle("dark");
  const url = new URL(window.location);
  url.searchParams.set("__theme", dark ? "dark" : "light");
  history.replaceState(null, "", url);
}"""
"""Switches, and keeps the choice in the address, where Gradio looks for it."""

_RESTORE = "(stored) => { window.restored = true; return stored ?? EMPTY; }"
_STORE = "(stored, ...chats) => [window.restored ? chats : stored]"
"""The chats change before they are restored, too: to empty ones."""
_Answering = Callable[[list[list[Message]]], AsyncGenerator[list[Any]]]
_BUSY = gr.update(interactive=False, submit_btn=False, stop_btn=True)
_IDLE = gr.update(interactive=True, submit_btn=True, stop_btn=False)
_STOPPED = f"() => ({json.dumps(_IDLE)})"
"""By the browser itself: a stop shows at once, however busy the server is."""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class ChatPage:
    """The page for one model, or for two, whose answers are voted on blindly if there is a file of votes.

    The conversation is in the browser only: each event sends it, and the server keeps the images' files for a day.
    """

    def __init__(self, models: Sequence[ChatModel], options: PageOptions) -> None:
        self._models, self._options = tuple(models), options
        self._names = [model.name for model in models]
        self._votes = options.votes
        self._blind = self._votes is not None and len(models) > 1
        self._has_prompt = isinstance(models[0], LocalModel) and not self._blind

    def blocks(self) -> gr.Blocks:
        """The page."""
        title = "A or B?" if self._blind else " and ".join(self._names)
        page: gr.Blocks
        with gr.Blocks(title=title, analytics_enabled=False, fill_height=True, delete_cache=(3600, 86400)) as page:
            self._show_header(title)
            self._show_chats()
            self._show_tools()
            self._answer_questions()
            self._keep_conversation(page)
            if self._blind:
                self._vote_between()
            elif self._votes:
                self._chats[0].like(self._rate, self._chats[0], None, **_QUIET)
        # the engine has a queue of its own: what waits here waits for the page's other work
        page.queue(max_size=self._options.queue, default_concurrency_limit=self._options.answers, api_open=False)
        return page

    def _show_header(self, title: str) -> None:
        with gr.Row():
            gr.Markdown(f"### {html.escape(title)}")
            self._new = gr.Button("New conversation", size="sm", scale=0, min_width=150)
            gr.Button("Dark", size="sm", scale=0, min_width=70).click(None, js=_DARK)
        # what the page can decrypt, its readers can: the secret protects nothing, but a fixed one outlives the server
        key = f"vistune-{len(self._models)}"
        self._stored = gr.BrowserState(None, storage_key=f"{key}-conversation", secret="vistune")
        self._sides = gr.BrowserState({"swapped": False, "voted": False}, storage_key=f"{key}-sides", secret="vistune")

    def _show_chats(self) -> None:
        rated = self._votes and not self._blind
        with gr.Row():
            self._chats = [
                gr.Chatbot(
                    label=name, show_label=len(self._models) > 1, height="60vh", min_height=320, min_width=300,
                    latex_delimiters=LATEX, buttons=["copy"], editable="user", elem_classes="chat",
                    group_consecutive_messages=False,
                    feedback_options=("Like", "Dislike") if rated else None, placeholder="Ask about an image.",
                )
                for name in (("A", "B") if self._blind else self._names)
            ]  # fmt: skip
        self._buttons: list[gr.Button] = []
        if self._blind:
            with gr.Row(elem_classes="votes"):
                self._buttons = [gr.Button(vote, size="sm", min_width=90, interactive=False) for vote in POINTS]
        self._box = gr.MultimodalTextbox(
            show_label=False, placeholder="A question; images by +, paste or drag", file_count="multiple",
            file_types=ENDINGS, sources=["upload"], max_plain_text_length=10**6,
        )  # fmt: skip
        if self._options.examples:
            samples = [
                [{"text": text, "files": [str(file) for file in files]}] for text, files in self._options.examples
            ]
            gr.Examples(samples, [self._box], cache_examples=False, examples_per_page=6, api_visibility="private")

    def _show_tools(self) -> None:
        options = self._options
        with gr.Accordion("Parameters", open=False), gr.Row():
            self._parameters = [
                gr.Slider(0, 2, options.temperature, step=0.05, label="Temperature", info="0: the likeliest tokens"),
                gr.Slider(0.05, 1, options.top_p, step=0.05, label="Top p"),
                gr.Number(min(512, options.max_tokens), label="Maximum tokens", precision=0, minimum=1,
                          maximum=options.max_tokens),
                gr.Number(None, label="Seed", precision=0, info="empty: another one each time"),
            ]  # fmt: skip
        with gr.Accordion("Save, open, prompt", open=False):
            with gr.Row():
                save = gr.Button("Save", size="sm", min_width=90)
                upload = gr.UploadButton("Open", file_types=[".html", ".json"], size="sm", min_width=90)
                prompt = gr.Button("Exact prompt", size="sm", min_width=90, visible=self._has_prompt)
            saved = gr.File(label="The conversation", visible=False, file_count="multiple")
            shown = gr.Textbox(label="What the model reads", lines=6, max_lines=30, visible=False, buttons=["copy"])
        save.click(self._write, self._chats, saved, **_QUIET)
        self._opened = upload.upload(self._read, upload, self._chats, **_QUIET)
        prompt.click(self._prompt, self._chats[0], shown, **_QUIET)

    def _answer_questions(self) -> None:
        inputs, outputs = [*self._parameters, self._sides, *self._chats], [self._box, *self._chats, *self._buttons]
        running: dict[str, Any] = {
            "show_progress": "hidden", "api_visibility": "private", "concurrency_id": "answers",
            "concurrency_limit": self._options.answers,
        }  # fmt: skip
        events: list[Any] = [self._box.submit(self._submit, [self._box, *inputs], outputs, **running)]
        for number, chat in enumerate(self._chats):
            events.append(chat.retry(self._retry, inputs, outputs, **running))
            events.append(chat.edit(self._edit_in(number), inputs, outputs, **running))
        self._box.stop(None, None, self._box, js=_STOPPED, cancels=events, **_QUIET)
        # first the end, then the clearing: what is on its way would come after it
        ended = self._new.click(None, cancels=events, **_QUIET)
        cleared = [_IDLE, *[[] for _ in self._chats], *self._votable(False)]
        self._cleared = ended.then(lambda: cleared, None, outputs, **_QUIET)

    def _keep_conversation(self, page: gr.Blocks) -> None:
        """In the browser's storage, by the browser itself: a path that comes from there must be no answer of ours."""
        empty = json.dumps([[] for _ in self._chats])
        self._restored = page.load(None, self._stored, self._chats, js=_RESTORE.replace("EMPTY", empty), **_QUIET)
        for chat in self._chats:
            chat.change(None, [self._stored, *self._chats], self._stored, js=_STORE, **_QUIET)

    async def _submit(self, message: dict[str, Any], *values: Any) -> AsyncIterator[list[Any]]:
        answer, histories = self._split(values)
        if message["text"].strip() or message["files"]:
            question = user_messages(message["text"], message["files"])
            async for box, *others in answer([[*history, *question] for history in histories]):
                yield [box if box == gr.skip() else {**box, "value": None}, *others]

    async def _retry(self, *values: Any) -> AsyncIterator[list[Any]]:
        answer, histories = self._split(values)
        async for update in answer([_until_last_question(history) for history in histories]):
            yield update

    def _edit_in(self, chat: int) -> Callable[..., AsyncIterator[list[Any]]]:
        async def edit(data: gr.EditData, *values: Any) -> AsyncIterator[list[Any]]:
            """Another text in the place of one, in all conversations; what follows goes."""
            answer, histories = self._split(values)
            turn = questions(histories[chat]).index(_place(data.index))
            edited = [[*history[: questions(history)[turn]], *user_messages(data.value, [])] for history in histories]
            async for update in answer(edited):
                yield update

        return edit

    def _split(self, values: Sequence[Any]) -> tuple[_Answering, list[list[Message]]]:
        """What answers the last questions of conversations, and the conversations, of an event's values."""
        temperature, top_p, max_tokens, seed, sides, *histories = values
        options = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
        given = {name: value for name, value in options.items() if value is not None}
        return partial(self._answer, sides, given), histories

    async def _answer(
        self, sides: dict[str, bool], options: dict[str, Any], histories: list[list[Message]]
    ) -> AsyncGenerator[list[Any]]:
        yield [_BUSY, *histories, *self._votable(False)]
        models = self._models[::-1] if sides["swapped"] else self._models
        # its speed would tell one model from another
        async with aclosing(grow(models, histories, options, with_speed=not self._blind)) as updates:
            async for histories in updates:
                yield [gr.skip(), *histories, *[gr.skip() for _ in self._buttons]]
        yield [_IDLE, *histories, *self._votable(_can_vote(sides, histories))]

    def _rate(self, like: gr.LikeData, history: list[Message]) -> None:
        vote = "like" if like.liked is True else "dislike" if like.liked is False else ""
        assert self._votes
        with _shown_errors():
            self._votes.rate(history, _place(like.index), vote)

    def _vote_between(self) -> None:
        """The votes' buttons. The browser knows which model is left; a vote shows it, and ends the blind part."""
        start = "() => ({swapped: Math.random() < 0.5, voted: false, drawn: true})"
        sides = self._sides
        changes: list[Any] = [
            self._restored.then(None, sides, sides, js=f"(sides) => 'drawn' in sides ? sides : ({start})()", **_QUIET),
            self._cleared.then(None, None, sides, js=start, **_QUIET),
            self._opened,
            *(button.click(self._prefer, [button, sides, *self._chats], sides, **_QUIET) for button in self._buttons),
        ]
        for change in changes:
            change.then(self._show_sides, [sides, *self._chats], [*self._chats, *self._buttons], **_QUIET)

    def _show_sides(self, sides: dict[str, bool], *histories: list[Message]) -> list[Any]:
        names = self._names[::-1] if sides["swapped"] else self._names
        labels = names if sides["voted"] else ["A", "B"]
        return [*(gr.update(label=label) for label in labels), *self._votable(_can_vote(sides, histories))]

    def _votable(self, can_vote: bool) -> list[Any]:
        """The votes' buttons, if there are any."""
        return [gr.update(interactive=can_vote) for _ in self._buttons]

    def _prefer(self, vote: str, sides: dict[str, bool], *histories: list[Message]) -> dict[str, bool]:
        assert self._votes
        if not _can_vote(sides, histories):  # nothing but this page's buttons waits for them
            raise gr.Error("There are no two whole answers to vote on.", print_exception=False)
        with _shown_errors():
            self._votes.prefer(histories[0], histories[1], vote, sides["swapped"])
        return {**sides, "voted": True}

    async def _prompt(self, history: list[Message]) -> Any:
        model = self._models[0]
        assert isinstance(model, LocalModel)
        with _shown_errors():
            messages = to_openai(_until_last_question(history))
            return gr.update(value=await model.prompt(messages) if messages else "", visible=True)

    def _write(self, *histories: list[Message]) -> Iterator[Any]:
        """Both files of each conversation, which Gradio copies before they are removed."""
        with _shown_errors(), tempfile.TemporaryDirectory() as folder:
            names = ["A", "B"] if self._blind else self._names
            files = [
                file for name, history in zip(names, histories, strict=True)
                for file in write_conversation(to_openai(history), name, Path(folder, f"conversation-{name}"))
            ]  # fmt: skip
            yield gr.update(value=list(map(str, files)), visible=True)

    def _read(self, file: str) -> Iterator[Any]:
        """The conversation of a file, whose images Gradio copies before they are removed."""
        with _shown_errors(), tempfile.TemporaryDirectory() as folder:
            messages = read_conversation(Path(file), Path(folder))
            yield [messages] * len(self._chats) if len(self._chats) > 1 else messages


def _place(index: int | Sequence[int]) -> int:
    """The place of a message: Gradio adds that in the message to it."""
    return index if isinstance(index, int) else index[0]


def _can_vote(sides: dict[str, bool], histories: Sequence[list[Message]]) -> bool:
    return not sides["voted"] and all(history and is_whole(history[-1]) for history in histories)


def _until_last_question(history: list[Message]) -> list[Message]:
    places = questions(history)
    return history[: places[-1] + 1] if places else []


@contextmanager
def _shown_errors() -> Iterator[None]:
    """Turns errors that a user can understand into the page's own."""
    try:
        yield
    except VistuneError as error:
        raise gr.Error(html.escape(describe(error)), print_exception=False) from None
    except OSError as error:
        raise gr.Error(f"a file of the server cannot be written: {error.strerror}", print_exception=False) from None
