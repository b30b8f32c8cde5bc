"""What `llmnotes serve` watches in the answers of a chat: the space before them, and tools that must be called."""

import json

from llmnotes.errors import ServerFailed
from llmnotes.llama_cpp.child import Child


class Chat:
    """The answers to one request, seen piece by piece.

    `separator` is what the chat template writes before an answer; `see` takes it away. `left` holds, for each answer,
    what there is still to see of it: nothing is left of one whose first text was seen, unless it must call a tool.
    """

    def __init__(self, count: int, separator: str, must_call: bool):
        self.left: dict[int, str] = dict.fromkeys(range(count), separator) if separator or must_call else {}
        self._must_call = must_call
        self._called: set[int] = set()
        self._count = count

    @classmethod
    def of(cls, body: object, separator: str) -> "Chat | None":
        """Return what to watch in the answer to the request `body`; None if there is nothing."""
        if not isinstance(body, dict):
            return None
        count, choice = body.get("n"), body.get("tool_choice")
        must_call = bool(body.get("tools")) and (choice == "required" or isinstance(choice, dict))
        found = cls(count if isinstance(count, int) else 1, separator, must_call)
        return found if found.left else None

    def see(self, index: int, message: dict) -> None:
        """Take the separator away from `message`, or a piece of one: {"content": ..., "tool_calls": ...}."""
        if message.get("tool_calls"):
            self._called.add(index)
        content, rest = message.get("content"), self.left.get(index)
        if not content or rest is None:
            return
        inside = rest.startswith(content)
        message["content"] = "" if inside else content.removeprefix(rest)
        self.left[index] = rest.removeprefix(content) if inside else ""
        if not self.left[index] and not self._must_call:
            del self.left[index]

    def line(self, line: bytes) -> bytes:
        """Return a line of a stream as it goes on."""
        try:
            event = json.loads(line.removeprefix(b"data: "))
            for choice in event["choices"]:
                self.see(choice["index"], choice["delta"])
        except (ValueError, KeyError, TypeError):
            return line
        return b"data: " + json.dumps(event).encode()

    def uncalled(self) -> bool:
        """Whether a tool had to be called, and an answer is over without a call."""
        return self._must_call and len(self._called) < self._count

    @staticmethod
    def complaint(name: str) -> str:
        """Return the sentence for an answer that is `uncalled`."""
        return f"{name} has written text and called no tool, which tool_choice wants; ask again with more max_tokens."


def separator_of(child: Child) -> str:
    """Return the white space that a chat template writes between its mark for the assistant and what that says.

    A model that learned such a template begins each answer with it, as Pebble does. It belongs to the template, which
    writes it again the next time. Empty where the template does not take such messages.
    """
    user = {"role": "user", "content": "a"}
    try:
        before = child.ask("/apply-template", messages=[user])["prompt"]
        after = child.ask("/apply-template", messages=[user, {"role": "assistant", "content": "X"}, user])["prompt"]
    except ServerFailed:
        return ""
    between = after.removeprefix(before).partition("X")[0] if after.startswith(before) else ""
    return between if between.isspace() else ""
