"""One question of the exam, and the two ways to put it: to a language model, and to one that chats."""

from __future__ import annotations

from dataclasses import dataclass

from llmnotes.pebble.world import Fact

FORM = "Q: {q}\nA:"  # in which training asks


@dataclass(frozen=True)
class Question:
    """One exam question: ``text`` is the bare question (for chat), ``prompt`` the plain form, ``answer`` one phrase."""

    id: str
    category: str
    text: str
    answer: str
    fact: Fact
    wording: str  # the text with {s} in place of the subject
    form: str = FORM  # what stands around the text, {q}, in the prompt

    @property
    def prompt(self) -> str:
        """The text that a plain language model continues with the answer."""
        return self.form.replace("{q}", self.text)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The same question for a chat template."""
        return [{"role": "user", "content": self.text}]
