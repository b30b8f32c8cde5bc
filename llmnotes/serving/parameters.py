"""What is wrong with a request: said before llama.cpp gets it, which takes some request parameters and ignores them."""

import re
from dataclasses import dataclass

CHAT, TEXT, EMBEDDINGS = "/chat/completions", "/completions", "/embeddings"
CHATS = (CHAT, "/responses", "/messages")  # the last two are those of OpenAI's newer interface and of Anthropic's
# Request parameters of OpenAI that llama.cpp ignores, and what to do instead. False, null, 0 and [] ask for nothing.
IGNORED = {
    "echo": "put the prompt before the answer yourself",
    "suffix": "leave it out",
    "functions": "send them as tools",
    "function_call": "send tool_choice",
    "audio": "leave it out",
    "prediction": "leave it out",
    "web_search_options": "leave it out",
}


@dataclass(frozen=True)
class Abilities:
    """What the model behind a server can do: `width` is the length of its vectors, None where its file is silent."""

    name: str
    width: int | None
    chats: bool
    tools: bool
    pictures: bool


def mistake(path: str, body: object, model: Abilities) -> str | None:
    """Return what is wrong with the `body` of a request to `path`, in one sentence with the remedy, or None.

    `path` is one below /v1, and `body` what its JSON means. What llama.cpp refuses by itself is left to it.

    >>> pebble = Abilities("Pebble", 256, chats=False, tools=False, pictures=False)
    >>> mistake("/completions", {"prompt": "Once", "stop": [""]}, pebble)
    'stop holds an empty text, at which every answer would end at once; leave it out.'
    >>> mistake("/completions", {"prompt": "Once", "stop": "."}, pebble) is None
    True
    """
    if not isinstance(body, dict):
        return None
    if path in CHATS and not model.chats:
        return f"{model.name} has no chat template, so it cannot chat; ask it to go on with a text at /v1/completions."
    checks = {CHAT: (_length, _stop, _ignored, _messages, _tools), TEXT: (_length, _stop, _ignored)}
    for check in checks.get(path, (_dimensions,) if path == EMBEDDINGS else ()):
        found = check(body, model)
        if found:
            return found
    return None


def _length(body: dict, _: Abilities) -> str | None:
    name = next((name for name in ("max_tokens", "max_completion_tokens") if body.get(name) == 0), None)
    return name and f"{name} is 0, and an answer has at least one token; give 1 or more."


def _stop(body: dict, _: Abilities) -> str | None:
    stop = body.get("stop")
    if stop is not None and not isinstance(stop, str | list):
        return "stop is neither a text nor a list of texts; give one of them."
    if stop == "" or (isinstance(stop, list) and "" in stop):
        return "stop holds an empty text, at which every answer would end at once; leave it out."
    return None


def _ignored(body: dict, _: Abilities) -> str | None:
    for name, remedy in IGNORED.items():
        if body.get(name):
            return f"{name} is not supported here; {remedy}."
    if isinstance(body.get("best_of"), int) and body["best_of"] > 1:
        return "best_of is not supported here; ask for n answers and choose one."
    if body.get("modalities") not in (None, [], ["text"]):
        return "The answers here are text alone; leave modalities out."
    return None


def _dimensions(body: dict, model: Abilities) -> str | None:
    if body.get("dimensions") in (None, model.width):
        return None
    width = f"{model.width:,}" if model.width else "a fixed number of"
    return f"The vectors of {model.name} have {width} numbers and cannot be made shorter here; leave dimensions out."


def _messages(body: dict, model: Abilities) -> str | None:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None  # llama.cpp says so itself
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return 'A message is an object with a role, such as {"role": "user", "content": "Hello"}; give one.'
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            found = _part(part, model)
            if found:
                return found
    return None


def _part(part: object, model: Abilities) -> str | None:
    """Return what is wrong with a part of a message's content."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str):
        return 'A part of a message is an object with a type, such as {"type": "text", "text": "Hello"}; give one.'
    if kind == "text" and not isinstance(part.get("text"), str):
        return "A part of the type text has no text; give one."
    if kind == "image_url" and not model.pictures:
        return f"{model.name} cannot see pictures; start serve with a model that can, and its projector as --mmproj."
    return None


def _tools(body: dict, model: Abilities) -> str | None:
    """Return what is wrong with tools: llama.cpp drops them where the template has no place for them."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools is None or tools == []:
        wanted = choice == "required" or isinstance(choice, dict)
        return "tool_choice wants a tool, and the request has no tools; send them, too." if wanted else None
    named = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    names = [str(function["name"]) for function in named if isinstance(function, dict) and function.get("name")]
    if not isinstance(tools, list) or len(names) != len(tools):
        return 'A tool is an object such as {"type": "function", "function": {"name": "weather"}}; give a list of them.'
    if choice == "none":
        return None
    if not model.tools:
        return f"The chat template of {model.name} has no place for tools; leave tools out, or serve another model."
    wanted = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(choice, dict) and (not isinstance(wanted, dict) or wanted.get("name") not in names):
        return f"tool_choice names no tool of the request; choose among {', '.join(names)}."
    return None


# What llama.cpp says of a request, and how `llmnotes serve` says it, whose options have other names: (pattern, our
# sentence, whether it is the client's mistake, which llama.cpp may call its own).
SENTENCES = (
    (
        r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\).*",
        r"The request has \1 tokens, and the context \2; shorten it, or start serve with a longer --context.",
        True,
    ),
    (
        r"input \((\d+) tokens\) is too large to process.*size: (\d+).*",
        r"The text has \1 tokens, and an embedding takes \2; give shorter texts.",
        True,
    ),
    (r"This server does not support (.*?)\. Start it with.*", r"llmnotes serve does not support \1.", False),
    (r"(\w+) input is not supported - hint.*", r"The model cannot take \1 input; leave it out of the messages.", True),
)


def reworded(message: str, status: int) -> tuple[str, int]:
    """Return llama.cpp's error as `llmnotes serve` says it, and its HTTP status: no advice that its options lack.

    >>> reworded("This server does not support slots endpoint. Start it with `--slots`", 501)
    ('llmnotes serve does not support slots endpoint.', 501)
    """
    for pattern, sentence, clients in SENTENCES:
        if re.fullmatch(pattern, message, re.DOTALL):
            return re.sub(pattern, sentence, message, flags=re.DOTALL), 400 if clients else status
    return message, status
