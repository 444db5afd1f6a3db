"""`vistune serve`."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.cli.parsing import add_command, add_precision, announce_loading, count, positive
from vistune.errors import VistuneError, require
from vistune.printable import print_line

if TYPE_CHECKING:
    from vistune.serve.engine import Engine
    from vistune.serve.service import ServerOptions


def add_serve(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "serve", _serve, "Serve an assistant behind OpenAI's API")
    add = command.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="Folder of the assistant, or the hub id of a LLaVA")
    add("--host", default="127.0.0.1", metavar="HOST",
        help="Address to listen on; another than this machine's own needs a key (default: 127.0.0.1)")  # fmt: skip
    add("--port", type=_port, default=8000, metavar="N", help="Port; 0 is any free one (default: 8000)")
    add("--api-key", metavar="KEY", help="Key that requests need; other users of this machine can see it here")
    add("--api-key-env", metavar="NAME", help="Environment variable that holds the key")
    add("--insecure", action="store_true", help="Allow other machines to use the server without a key")
    add("--served-model-name", metavar="NAME", help="Name of the model in the API (default: the folder's name)")
    add("--max-model-len", type=positive, default=4096, metavar="N",
        help="Maximum length of a prompt with its answer in tokens (default: 4096, or less if the model's "
        "own is less)")  # fmt: skip
    add("--max-num-seqs", type=positive, default=16, metavar="N", help="Answers written at once (default: 16)")
    add("--max-queue", type=positive, default=64, metavar="N", help="Answers that wait (default: 64)")
    add("--timeout", type=positive, default=300, metavar="SECONDS", help="Time for an answer (default: 300)")
    add("--limit-mm-per-prompt", type=positive, default=8, metavar="N", help="Images of a request (default: 8)")
    add("--allowed-media-domains", nargs="+", default=[], metavar="DOMAIN",
        help="Domains that images are fetched from; their addresses must be public (default: images come as data "
        "URLs only)")  # fmt: skip
    add("--no-page", dest="page", action="store_false", help="Serve the API alone, without the web page")
    add("--compare", metavar="OTHER|URL", help="Second assistant beside it on the page: a folder, a hub id, or the "
        "address of a server up to and including /v1, with #NAME if it has several models")  # fmt: skip
    add("--compare-key-env", metavar="NAME", help="Environment variable that holds the key of that server")
    add("--votes", type=Path, metavar="FILE", help="File that votes on the page are added to, as JSON lines; with "
        "--compare they are blind (default: no votes)")  # fmt: skip
    add("--examples", type=Path, metavar="FILE", help="File of questions about images that the page offers, in the "
        "forms of `vistune eval --questions`")  # fmt: skip
    add("--device", metavar="NAME", help="Device of PyTorch (default: cuda if there is one, else cpu)")
    add_precision(command)
    add("--load-in-8bit", action="store_true", help="Keep these layers in 8 bits (LLM.int8())")


def _serve(args: argparse.Namespace) -> None:
    uvicorn = require("uvicorn", "serve", "serving")
    require("fastapi", "serve", "serving")
    announce_loading()
    import torch

    from vistune.serve.app import build_app
    from vistune.serve.engine import Engine
    from vistune.serve.guard import check_address
    from vistune.serve.jobs import Limits
    from vistune.serve.service import ServerOptions

    key = _key(args)
    options = ServerOptions(
        name=args.served_model_name or Path(args.checkpoint).resolve().name, api_key=key,
        hosts=check_address(args.host, key, args.insecure), images=args.limit_mm_per_prompt,
        media_domains=frozenset(args.allowed_media_domains),
    )  # fmt: skip
    limits = Limits(
        batch=args.max_num_seqs, queue=args.max_queue, length=args.max_model_len, seconds=float(args.timeout)
    )
    dtype = None if args.dtype == "auto" else getattr(torch, args.dtype)
    load = partial(
        Engine.load,
        device=args.device,
        dtype=dtype,
        limits=limits,
        bits=4 if args.load_in_4bit else 8 if args.load_in_8bit else None,
    )
    server = _bound(args.host, args.port)  # before the weights are loaded: the port may be in use
    with server, load(args.checkpoint) as engine, ExitStack() as stack:
        page = _page(args, engine, options, lambda name: stack.enter_context(load(name))) if args.page else None
        host = f"[{args.host}]" if ":" in args.host else args.host
        print_line(f"{options.name}: http://{host}:{server.getsockname()[1]}/v1", error=True)
        config = uvicorn.Config(
            build_app(engine, options, page), access_log=False, server_header=False, log_level="warning",
            timeout_graceful_shutdown=3,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[server])


def _page(args: argparse.Namespace, engine: Engine, options: ServerOptions, load: Callable[[str], Engine]) -> Any:
    """What adds the web page to the app; `load` opens a second model beside the first."""
    from vistune.serve.models import ChatModel, LocalModel, RemoteModel
    from vistune.serve.service import ChatService
    from vistune.serve.web.mount import mount_page
    from vistune.serve.web.options import PageOptions, read_examples
    from vistune.serve.web.votes import Votes

    others: list[ChatModel] = []
    if args.compare and "://" in args.compare:
        url, _, name = args.compare.partition("#")
        others = [RemoteModel(url, name or None, args.compare_key_env)]
    elif args.compare:
        path, second = Path(args.compare), load(args.compare)
        name = path.resolve().name
        name = "/".join(path.resolve().parts[-2:]) if name == options.name else name
        others = [LocalModel(ChatService(second, replace(options, name=name)))]
    names = [options.name, *(other.name for other in others)]
    defaults = engine.model.generation_config
    shown = PageOptions(
        votes=Votes(args.votes, names) if args.votes else None, examples=read_examples(args.examples),
        answers=engine.batch, queue=args.max_queue,
        max_tokens=engine.max_length, temperature=(defaults.temperature or 1.0) if defaults.do_sample else 0.0,
        top_p=(defaults.top_p or 1.0) if defaults.do_sample else 1.0, max_file_size=options.body,
    )  # fmt: skip

    def add(app: Any, service: ChatService) -> None:
        mount_page(app, [LocalModel(service), *others], shown)

    return add


def _bound(host: str, port: int) -> socket.socket:
    """A socket with that address, which does not listen yet."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server = socket.socket(family, kind, protocol)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(address)
    return server


def _port(text: str) -> int:
    if (port := count(text)) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 0 to 65535")
    return port


def _key(args: argparse.Namespace) -> str | None:
    if args.api_key_env is None:
        key: str | None = args.api_key
    elif not (key := os.environ.get(args.api_key_env)):
        raise VistuneError(
            f"the environment variable {args.api_key_env} is not set",
            where="--api-key-env",
            fix=f"export {args.api_key_env}=YOUR_KEY",
        )
    if key is not None and not key.strip():
        raise VistuneError("the key is empty", where="--api-key", fix="write a key into it")
    return key.strip() if key else None
