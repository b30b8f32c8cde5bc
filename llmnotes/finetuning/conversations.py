"""Messages become text as the model's chat template writes them, in parts: what is read, and what is learned."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from llmnotes.finetuning.record_forms import broken, learned
from llmnotes.finetuning.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = tuple[str, bool]  # a text, and whether it is learned
OWN = ("role", "content", "weight")  # fields of a message that are honoured in any case
MARK = "a mark that nobody writes"


def parts_of(example: Example, tokenizer: PreTrainedTokenizerBase, left: Counter) -> list[list[Part]]:
    """Return the conversation in parts, (text, whether it is learned), up to the assistant's last word.

    Each answer stands behind the very text that the model is asked with for it. A template that writes an earlier
    answer in another way as the conversation goes on (Qwen3 takes the thoughts out of it) makes several texts of one
    conversation, each with the answers that it writes as the model will meet them. Without a chat template, messages
    are written as "User: ..." and "Assistant: ..." lines.

    What the template has no place for is counted in `left`. Raises `FileBroken`, naming the line, where that would
    change the meaning (tools, tool calls, a whole message), and where the template refuses the messages.
    """
    from jinja2 import TemplateError

    try:
        return _parts(example, tokenizer, left)
    except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise broken(
            example.where, f"is refused by the model's chat template ({error}); change its roles or its fields"
        ) from None


def _parts(example: Example, tokenizer, left: Counter) -> list[list[Part]]:
    given, tools = example.fields["messages"], example.fields.get("tools")
    end = max(place for place, message in enumerate(given) if message["role"] == "assistant") + 1
    left["messages behind the last answer"] += len(given) - end
    given = given[:end]
    messages = [{name: value for name, value in message.items() if name != "weight"} for message in given]
    _check_all_is_written(messages, tools, tokenizer, example.where, left)
    found, parts, text = [], [], ""
    for place, message in enumerate(given):
        if message["role"] != "assistant":
            continue
        before = _written(messages[:place], tools, tokenizer, ask=True)
        after = _written(messages[: place + 1], tools, tokenizer, ask=False)
        if not after.startswith(before):
            raise broken(
                example.where,
                "has an answer that the model's chat template does not write where it asks for one; write the line as "
                "prompt and completion",
            )
        if not before.startswith(text):  # the template has written an earlier answer anew
            found.append(parts)
            parts, text = [], ""
        parts += [(before[len(text) :], False), (after[len(before) :], learned(message))]
        text = after
    return [each for each in [*found, parts] if any(is_learned for _, is_learned in each)]


def _written(messages: list[dict], tools: list[dict] | None, tokenizer, ask: bool) -> str:
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=ask)
    said = "".join(f"{message['role'].capitalize()}: {message['content']}\n" for message in messages)
    return said + "Assistant:" * ask


def _check_all_is_written(messages: list[dict], tools: list[dict] | None, tokenizer, where: str, left: Counter) -> None:
    """Refuse what the template leaves out and is meant; count what it leaves out and may be left out."""
    ends = [place for place, message in enumerate(messages, 1) if message["role"] == "assistant"]

    def texts(some: list[dict], some_tools: list[dict] | None) -> list[str]:
        return [_written(some[:end], some_tools, tokenizer, ask=False) for end in ends]

    whole = texts(messages, tools)

    def changes(other: list[dict], other_tools: list[dict] | None = tools) -> bool:
        try:
            return texts(other, other_tools) != whole
        except Exception:  # the template needs what was taken away
            return True

    if tools and not changes(messages, None):
        raise broken(
            where, 'has "tools", for which the model\'s chat template has no place; remove them, or take another model'
        )
    for name in sorted({name for message in messages for name in message if name not in OWN}):
        if changes([{key: value for key, value in message.items() if key != name} for message in messages]):
            continue
        if name == "tool_calls":
            raise broken(
                where, 'has "tool_calls", for which the model\'s chat template has no place; take another model'
            )
        left[f"{json.dumps(name[:40])} of messages"] += sum(name in message for message in messages)
    for place, message in enumerate(messages):
        said = message["content"].rpartition("</think>")[2].strip()
        if (
            said
            and said not in whole[-1]
            and not changes([*messages[:place], message | {"content": MARK}, *messages[place + 1 :]])
        ):
            raise broken(
                where,
                f"has a message of the role {message['role'][:40]!r} that the model's chat template leaves out; remove "
                "it, or give it another role",
            )
