"""The forms that a record of training data has in the field, and the three that the rest of llmnotes reads."""

from __future__ import annotations

import json

from llmnotes.errors import FileBroken

KINDS = '{"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}'
READ = frozenset(("messages", "tools", "prompt", "completion", "text", "fact"))  # what is read of a normal record
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
SPEAKERS |= {"tool": "tool", "observation": "tool"}  # ShareGPT's names
INSTEAD = {  # fields that carry a meaning and have another name today
    "functions": 'write "tools"',
    "function_call": 'write "tool_calls"',
    "history": 'write the earlier turns as "messages"',
}


def normal(fields: object, where: str) -> dict:
    """Return a record as {"messages"}, {"prompt", "completion"} or {"text"}, with its other fields.

    In messages every content is a string ("" for null beside tool calls), and a tool call's arguments are an object.
    Raises `FileBroken`, naming `where`, for what is no such record or would lose a meaning.

    >>> normal({"conversations": [{"from": "human", "value": "1+1"}, {"from": "gpt", "value": "2"}]}, "line 1")
    {'messages': [{'role': 'user', 'content': '1+1'}, {'role': 'assistant', 'content': '2'}]}
    """
    if not isinstance(fields, dict):
        raise broken(where, f"is no JSON object; write {KINDS}")
    fields = {name: value for name, value in fields.items() if value is not None}
    found = [kind for kind in ("messages", "conversations", "instruction", "prompt", "text") if kind in fields]
    if len(found) != 1:
        raise broken(where, f"must be one of {KINDS}, and is {'more than one' if found else 'none'} of them")
    for name in INSTEAD:
        if name in fields:
            raise broken(where, f'has a field "{name}", which is not read; {INSTEAD[name]}')
    made = {"conversations": _sharegpt, "instruction": _alpaca}.get(found[0], lambda fields, where: dict(fields))(
        fields, where
    )
    if "text" in made:
        _check_text(made["text"], '"text"', where)
    elif "messages" in made:
        made["messages"] = _messages(made["messages"], where)
    elif isinstance(made["prompt"], list) and isinstance(made.get("completion"), list):
        asked = _messages(made.pop("prompt"), where)
        answer = _messages(made.pop("completion"), where)
        earlier = [message | {"weight": 0} if message["role"] == "assistant" else message for message in asked]
        made["messages"] = earlier + answer
    else:
        _check_text(made["prompt"], '"prompt"', where, empty=True)
        _check_text(made.get("completion"), '"completion"', where)
    if "messages" in made and not any(learned(message) for message in made["messages"]):
        raise broken(where, "has no message of the assistant, so there is nothing to learn; add its answer")
    if "tools" in made:
        made["tools"] = _tools(made["tools"], "messages" in made, where)
        if not made["tools"]:
            del made["tools"]
    return made


def learned(message: dict) -> bool:
    """Return whether the loss falls on a message: it is the assistant's, and its weight is not 0.

    >>> learned({"role": "assistant", "content": "Hm.", "weight": 0})
    False
    """
    return message["role"] == "assistant" and message.get("weight", 1) != 0


def broken(where: str, what: str) -> FileBroken:
    """Return the error that says what is wrong with the record at a place."""
    return FileBroken(f"{where} {what}.")


def _sharegpt(fields: dict, where: str) -> dict:
    """Return ShareGPT's "conversations" as messages; a "system" beside them comes first."""
    turns, messages = fields["conversations"], []
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise broken(where, 'has "conversations" that are no list of {"from": ..., "value": ...}; write one')
    for turn in turns:
        speaker = SPEAKERS.get(str(turn.get("from")))
        if "role" in turn:  # a messages list under the other name
            messages.append(turn)
        elif speaker is None:
            raise broken(where, f"has a turn from {str(turn.get('from'))[:40]!r}; the names are {', '.join(SPEAKERS)}")
        else:
            rest = {name: value for name, value in turn.items() if name not in ("from", "value")}
            messages.append({"role": speaker, "content": turn.get("value")} | rest)
    if fields.get("system"):
        messages.insert(0, {"role": "system", "content": fields["system"]})
    rest = {name: value for name, value in fields.items() if name not in ("conversations", "system")}
    return {"messages": messages} | rest


def _alpaca(fields: dict, where: str) -> dict:
    """Return Alpaca's "instruction", "input" and "output" as a question and its answer."""
    for name in ("instruction", "output"):
        _check_text(fields.get(name), f'"{name}"', where)
    _check_text(fields.get("input") or "", '"input"', where, empty=True)
    asked = "\n\n".join(part for part in (fields["instruction"], fields.get("input")) if part)
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": fields["output"]}]
    if fields.get("system"):
        messages.insert(0, {"role": "system", "content": fields["system"]})
    names = ("instruction", "input", "output", "system")
    return {"messages": messages} | {name: value for name, value in fields.items() if name not in names}


def _messages(messages: object, where: str) -> list[dict]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise broken(where, 'has "messages" that are no list of {"role": ..., "content": ...}; write one')
    return [_message(message, where) for message in messages]


def _message(message: dict, where: str) -> dict:
    """Return a message whose content is a string and whose tool calls are objects."""
    made = dict(message)
    _check_text(made.get("role"), '"role" of a message', where)
    for name in INSTEAD:
        if made.get(name) is not None:
            raise broken(where, f'has a message with "{name}", which is not read; {INSTEAD[name]}')
    made = {
        name: value for name, value in made.items() if value is not None
    }  # OpenAI writes null for what is not there
    if "tool_calls" in made:
        made["tool_calls"] = _calls(made["tool_calls"], where)
        made.setdefault("content", "")
    if isinstance(made.get("content"), list):
        made["content"] = _parts(made["content"], where)
    _check_text(made.get("content"), '"content" of a message', where, empty=True)
    if "weight" in made and (made["role"] != "assistant" or made["weight"] not in (0, 1)):
        raise broken(where, 'has a "weight" that is not 0 or 1 on a message of the assistant; correct it')
    return made


def _parts(parts: list, where: str) -> str:
    """Return the text of a content in parts."""
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        raise broken(
            where, "has a content that is not text (a picture, perhaps); only text is learned, so leave it out"
        )
    for part in parts:
        _check_text(part.get("text"), '"text" of a content', where, empty=True)
    return "".join(part["text"] for part in parts)


def _calls(calls: object, where: str) -> list[dict]:
    """Return tool calls with their arguments as objects: chat templates write them as JSON."""
    made = []
    for call in calls if isinstance(calls, list) and calls else [{}]:
        function = call.get("function", {}) if isinstance(call, dict) else {}
        try:
            arguments = function["arguments"]
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            if not isinstance(arguments, dict) or not isinstance(function["name"], str):
                raise TypeError
            json.dumps(arguments, ensure_ascii=False).encode()
        except (TypeError, KeyError, ValueError, RecursionError):
            raise broken(
                where, 'has "tool_calls" that are no list of {"function": {"name": ..., "arguments": {...}}}; write one'
            ) from None
        made.append(call | {"function": function | {"arguments": arguments}})
    return made


def _tools(tools: object, talks: bool, where: str) -> list[dict]:
    """Return the tools that stand beside messages."""
    try:
        found = json.loads(tools) if isinstance(tools, str) else tools
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        found = None
    if not talks or not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise broken(where, 'has "tools" that are no list of objects beside "messages"; write them as OpenAI does')
    return found


def _check_text(value: object, name: str, where: str, empty: bool = False) -> None:
    if not isinstance(value, str) or not (value or empty):
        raise broken(where, f"lacks the text {name}; write it as a string")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can hold half of a surrogate pair
        raise broken(where, f"has half a character (a lone surrogate) in {name}; write it whole") from None
