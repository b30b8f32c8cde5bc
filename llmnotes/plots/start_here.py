"""The pictures of notebook 00: a model's steps, the road from text to text, dice, and a file of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmnotes.plots.drawing import (
    FAINT,
    LARGE,
    NORMAL,
    Numbers,
    arrow,
    bars,
    box,
    brace,
    canvas,
    cell,
    line,
    matrix,
    note,
    show,
    signed,
    vector,
)


def seen(token: str) -> str:
    """Write a token so that its leading space can be seen.

    >>> seen(" cat")
    '␣cat'
    """
    return {"<|bos|>": "‹start›", "\n": "‹line›"}.get(token, token.replace(" ", "␣"))


def loop(tokens: Sequence[str], start: int) -> None:
    """Show the text after each step: the model reads all of it and writes one more token."""
    steps = len(tokens) - start
    ax = canvas(11 + 4.6 * (steps + 1))
    top = 7 + 4.6 * (steps + 1)
    note(ax, 2, top, "it reads all of this …", bold=True, ha="left")
    note(ax, 62, top, "… and writes this", bold=True, ha="right", colour="attention")
    for i in range(steps):
        y = top - 6.4 - 4.6 * i
        known = "".join(tokens[1 : start + i]).strip()
        while len(known) > 36:
            known = "… " + known.removeprefix("… ").partition(" ")[2]
        note(ax, 2, y + 1.6, known, ha="left", code=True)
        word = box(ax, 47, y, 15.4, 3.4, seen(tokens[start + i]), "attention")
        arrow(ax, (41.6, y + 1.7), word.left, thing="stream")
    line(ax, [(2, 5), (62, 5)], "old", 0.8)
    note(ax, 32, 2.6, "each new token becomes part of what it reads next", colour=FAINT)
    show(
        ax,
        "A language model writes one token at a time. It adds the token to the text and reads everything again.",
        "Lines of growing text, each with the token that the model writes next: "
        + ", ".join(seen(token) for token in tokens[start:])
        + ".",
    )


def next_tokens(text: str, names: Sequence[str], chances: Numbers, vocabulary: int) -> None:
    """Show the most probable next tokens as bars, and what all others have together."""
    ax = canvas(10 + 3.4 * (len(names) + 1))
    rest = 1 - sum(float(chance) for chance in chances)
    high = 6 + 3.4 * (len(names) + 1)
    note(ax, 32, high + 1.6, f"“{text} …”", NORMAL, bold=True)
    labels = [seen(name) for name in names] + ["all others"]
    things = ["attention"] + ["old"] * len(names)
    bars(ax, 19, high - 1.4, labels, [*chances, rest], things, length=36, step=3.4, form="{:.1%}")
    show(
        ax,
        f"After “{text}”: the most probable next tokens. There are {vocabulary:,} in all, and each has a share of the "
        "100%.",
        "Bars: "
        + ", ".join(f"{seen(n)} {c:.1%}" for n, c in zip(names, chances, strict=True))
        + f", others {rest:.1%}.",
    )


def road(
    tokens: Sequence[str], ids: Sequence[int], row: Numbers, blocks: int, names: Sequence[str], scores: Numbers
) -> None:
    """Show the whole way from text to text with the model's own numbers; `row` is that of the last token."""
    ax = canvas(72)
    ways = [  # (y, what happens, lesson)
        (67, "1 · text", "what you type"),
        (56.5, "2 · tokens", "lesson 01"),
        (45, "3 · vectors", "lessons 02, 03"),
        (27, "4 · blocks", "lessons 04–06"),
        (11.6, "5 · scores", "lesson 07"),
        (3, "6 · text", "lesson 07"),
    ]
    for y, name, where in ways:
        note(ax, 1, y + 0.9, name, NORMAL, bold=True, ha="left")
        note(ax, 1, y - 1.4, where, colour=FAINT, ha="left")
    box(ax, 20, 65, 42, 4, "".join(tokens[1:]))
    arrow(ax, (41, 64.8), (41, 61.6), "the tokenizer cuts", side="right")
    wide = 42 / len(tokens)
    for i, (token, number) in enumerate(zip(tokens, ids, strict=True)):
        cell(ax, 20 + wide * i, 57.4, wide, 3.6, seen(token).replace("‹start›", "‹›"), "token", code=True)
        cell(ax, 20 + wide * i, 54, wide, 3.4, f"{number}", "table", 0.2)
    arrow(ax, (41, 53.6), (41, 49.6), "look up a row of the table", side="right")
    vector(ax, 20, 45.4, [*row[:4], row[-1]], "stream", 7.6, dots=True)
    note(ax, 41, 43, f"{len(row)} numbers for each token", colour=FAINT)
    line(ax, [(41, 41.4), (41, 24.4)], "stream", 4)
    for y, name, thing, job in (
        (33.4, "attention", "attention", "collects from other tokens"),
        (25.6, "MLP", "mlp", "works on each token alone"),
    ):
        box(ax, 22, y, 14, 4.6, name, thing)
        arrow(ax, (40.6, y + 3.4), (36.2, y + 3.4), thing="stream")
        arrow(ax, (36.2, y + 1.2), (40.6, y + 1.2), thing=thing)
        note(ax, 43, y + 2.3, job, ha="left")
    brace(ax, (20, 23.6), (62, 23.6), f"a block; there are {blocks}, one after another")
    arrow(ax, (41, 19), (41, 16), thing="stream", width=4)
    for i, (name, score) in enumerate(zip(names, scores, strict=True)):
        thing, share = ("attention", 0.3) if i == 0 else ("old", 0)
        cell(ax, 20 + 14.2 * i, 12, 13.6, 3.6, seen(name), thing, share, code=True)
        note(ax, 26.8 + 14.2 * i, 10.2, signed(score, "{:.2f}"), bold=i == 0)
    arrow(ax, (26.8, 8.6), (26.8, 6), "take one, and start again", side="right", thing="attention")
    box(ax, 20, 1.6, 42, 4, "".join(tokens[1:]) + names[0])
    show(
        ax,
        "The whole road. Text becomes tokens, tokens become vectors, the blocks work on them, and the last vector "
        "gives every token a score. The best one is written, and the road starts again.",
        f"Six stations from the text to {len(ids)} ids, a vector of {len(row)} numbers, {blocks} blocks of attention "
        f"and MLP, the scores of three tokens, and the longer text.",
    )


def dice(chances: Numbers, drawn: Sequence[int], names: Sequence[str]) -> None:
    """Show all probabilities laid end to end on one strip, the largest first, and the tokens that some darts have hit.

    `drawn` are the places of the hit tokens in `chances`, and `names` what they are called.
    """
    ax = canvas(33)
    order = np.argsort(-np.asarray(chances), kind="stable")
    ends = 2 + 60 * np.cumsum(np.asarray(chances, dtype=float)[order])
    starts = np.array([2.0, *ends[:-1]])
    large = int(np.sum(np.asarray(chances) > 0.005))
    for i in range(large):
        thing = "attention" if i == 0 else "stream"
        cell(ax, starts[i], 19, ends[i] - starts[i], 6, "", thing, 0.6 if i == 0 else 0.15 + 0.2 * (i % 2))
    cell(ax, ends[large - 1], 19, 62 - ends[large - 1], 6, "", "old", 0.1)
    note(ax, 2, 30.6, "0", bold=True)
    note(ax, 62, 30.6, "1", bold=True)
    note(ax, 32, 30.6, "a random number between 0 and 1 is a dart", colour=FAINT)
    for token in dict.fromkeys(drawn):
        place = int(np.flatnonzero(order == token)[0])
        arrow(ax, ((starts[place] + ends[place]) / 2, 28.8), ((starts[place] + ends[place]) / 2, 25.2))
    middle = (starts[0] + ends[0]) / 2
    arrow(ax, (middle, 14.6), (middle, 18.8), thing="attention")
    note(ax, 2, 12.6, "greedy: always this one", ha="left", bold=True, colour="attention")
    words = [seen(name) for name in names]
    for i in range(3):
        note(ax, 2, 8.6 - 3.2 * i, ("the darts: " if i == 0 else "") + " ".join(words[i * 4 : i * 4 + 4]), ha="left")
    show(
        ax,
        "Every token owns a piece of the strip, as long as its probability. Greedy decoding takes the longest piece "
        "every time. Sampling throws a dart.",
        f"A strip divided among all tokens; {large} of them have more than 0.5%. The darts hit {', '.join(words)}.",
    )


def surprise(words: Sequence[str], chances: Numbers) -> None:
    """Show for each token of a text the probability that the model had given it."""
    ax = canvas(7 + 3 * len(words))
    labels = [seen(word) for word in words]
    things = ["alarm" if chance < 0.01 else "stream" for chance in chances]
    bars(ax, 17, 3 + 3 * len(words), labels, chances, things, length=38, step=3, top=1.0)
    note(ax, 36, 1.6, "probability that the model gave to this token", colour=FAINT)
    show(
        ax,
        "The model reads the story and says at each step how probable it found the token that came. The job it "
        "can't know. For the name it allows four, all the farmers that it has read about.",
        "Bars of probability for the tokens of a sentence: "
        + ", ".join(f"{n} {c:.0%}" for n, c in zip(labels, chances, strict=True))
        + ".",
    )


def exam_paper(right: int, asked: int, wrong_question: str, wrong_answer: str) -> None:
    """Show the exam's questions as squares, and beside them one from outside the model's world."""
    ax = canvas(27)
    note(ax, 16, 25, "questions about its world", NORMAL, bold=True)
    note(ax, 49, 25, "a question about ours", NORMAL, bold=True)
    for i in range(asked):
        thing = "mlp" if i < right else "alarm"
        cell(ax, 1 + 3 * (i % 10), 19.6 - 3 * (i // 10), 2.7, 2.7, "", thing, 0.6)
    note(ax, 16, 4.2, f"{right} of {asked} right", LARGE, bold=True, colour="mlp")
    ask = box(ax, 34, 16.4, 29, 4.6, wrong_question, size=11.2)
    arrow(ax, ask.bottom, (48.5, 12.2))
    box(ax, 38, 7.4, 21, 4.6, wrong_answer, "alarm")
    note(ax, 48.5, 4.2, "said without blinking", colour="alarm")
    show(
        ax,
        "Inside the world that Pebble has read about, it knows its answers. Outside, it answers as well, "
        "with a town of its own world.",
        f"{right} of {asked} squares are green; the question about France gets the answer {wrong_answer.rstrip('.')}.",
    )


def weight_file(parameters: int, size: int, sample: Numbers) -> None:
    """Show the file of a model as numbers of two bytes each."""
    ax = canvas(25)
    matrix(ax, 4, 5, 18, 15, f"{parameters:,}", "stream", small="numbers")
    note(ax, 13, 22.4, "the model", NORMAL, bold=True)
    arrow(ax, (22.6, 12.5), (28, 12.5))
    note(ax, 45.6, 22.4, "five of them, two bytes each", NORMAL, bold=True)
    raw = np.asarray(sample, dtype=np.float32).view(np.uint32) >> 16
    for i, (value, bits) in enumerate(zip(sample, raw, strict=True)):
        x = 29 + 6.8 * i
        cell(ax, x, 13.6, 6.6, 3.6, signed(value), "stream", min(abs(value), 1))
        cell(ax, x, 8.6, 3.3, 3.6, f"{bits >> 8:02x}", "old", 0.2, code=True)
        cell(ax, x + 3.3, 8.6, 3.3, 3.6, f"{bits & 255:02x}", "old", 0.2, code=True)
    note(ax, 45.6, 5, f"together {size:,} bytes", bold=True)
    show(
        ax,
        "A model is a file of numbers. On disk each of Pebble's takes two bytes, written here in hexadecimal.",
        f"A matrix of {parameters:,} numbers; five of them with the two bytes that store each; {size:,} bytes in all.",
    )


def two_models(models: Mapping[str, tuple[Any, int]]) -> None:
    """Show two models to one scale, {name: (config, parameters)}: as wide as their vectors, a slab for each block."""
    deepest = max(config.num_hidden_layers for config, _ in models.values())
    ax = canvas(34 + 1.1 * deepest)
    top = 30 + 1.1 * deepest
    for y, name in ((top - 3, "tokens"), (top - 9.5, "vectors"), (top - 18, "blocks"), (5, "weights")):
        note(ax, 1, y, name, NORMAL, bold=True, ha="left")
    for middle, (name, (config, parameters)) in zip((24, 48), models.items(), strict=True):
        wide = config.hidden_size / 24
        note(ax, middle, top + 2, name, LARGE, bold=True)
        box(ax, middle - 9, top - 5, 18, 4, f"{config.vocab_size:,}", "token")
        arrow(ax, (middle, top - 5.2), (middle, top - 7.6))
        cell(ax, middle - wide / 2, top - 11.2, wide, 3.4, f"{config.hidden_size}", "stream", 0.3)
        arrow(ax, (middle, top - 11.4), (middle, top - 14), thing="stream")
        for i in range(config.num_hidden_layers):
            y = top - 15.2 - 1.1 * i
            cell(ax, middle - wide / 2, y, wide / 2, 1.1, "", "attention", 0.4)
            cell(ax, middle, y, wide / 2, 1.1, "", "mlp", 0.4)
        low = top - 15.2 - 1.1 * config.num_hidden_layers
        note(ax, middle, low - 1, f"{config.num_hidden_layers} blocks", bold=True)
        arrow(ax, (middle, low - 2.6), (middle, low - 5.2), thing="stream")
        note(ax, middle, low - 6.8, "a score for each token")
        note(ax, middle, 5, f"{parameters:,}", NORMAL, bold=True)
    said = [
        f"{name}: {config.vocab_size:,} tokens, vectors of {config.hidden_size} numbers, "
        f"{config.num_hidden_layers} blocks, {parameters:,} weights"
        for name, (config, parameters) in models.items()
    ]
    show(
        ax,
        "One plan, two sizes. A larger model has more tokens, longer vectors and more blocks of attention (orange) and "
        "MLP (green). The stations are the same.",
        ". ".join(said) + ".",
    )
