"""The pictures of "Tokens". Each takes the lesson's own numbers and shows itself."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    THINGS,
    arrow,
    bars,
    box,
    canvas,
    cell,
    line,
    note,
    show,
)

Pair = tuple[str, str]
LETTER = 1.0  # units of the canvas that a letter in a strip takes


def seen(token: str) -> str:
    """Write a token so that its space can be seen."""
    return token.replace("Ġ", "␣").replace(" ", "␣").replace("Ċ", "↵")


def strip(ax: Axes, x: float, y: float, tokens: Sequence[str], room: float = 49, h: float = 3) -> tuple[float, float]:
    """Draw tokens side by side in two shades, in a new line where `room` ends; return where the last one ends."""
    at = x
    for i, token in enumerate(tokens):
        wide = LETTER * len(token) + 0.5
        if at + wide > x + room:
            at, y = x, y - h - 0.6
        cell(ax, at, y, wide, h, token, "table", (0.1, 0.36)[i % 2], code=True)
        at += wide
    return at, y


def lines(tokens: Sequence[str], room: float = 49) -> int:
    """Return how many lines `strip` needs."""
    count, at = 1, 0.0
    for token in tokens:
        wide = LETTER * len(token) + 0.5
        if at + wide > room:
            count, at = count + 1, 0.0
        at += wide
    return count


def cuts(rows: Mapping[str, Sequence[str]], caption: str, sizes: Mapping[str, int] | None = None) -> None:
    """Draw the tokens of one text in several tokenizers: the name, its vocabulary's size, the tokens, their number."""
    sizes = sizes or {}
    heights = [3.6 * lines(tokens) for tokens in rows.values()]
    ax = canvas(sum(heights) + 1.6 * len(rows) + 3)
    y = ax.get_ylim()[1] - 2
    note(ax, 63, y, "tokens", ha="right", colour=FAINT)
    y -= 1.4
    for (name, tokens), high in zip(rows.items(), heights, strict=True):
        y -= 3
        note(ax, 0.8, y + (2.4 if name in sizes else 1.5), name, ha="left", bold=True)
        if name in sizes:
            note(ax, 0.8, y + 0.3, f"{sizes[name]:,}", ha="left", colour=FAINT)
        strip(ax, 10.4, y, [seen(token) for token in tokens])
        note(ax, 63, y + 1.5, str(len(tokens)), ha="right", bold=True)
        y -= high - 3 + 1.6
    show(
        ax,
        caption,
        "; ".join(
            f"{name}{f' ({sizes[name]:,})' if name in sizes else ''}: {' | '.join(map(seen, tokens))}"
            for name, tokens in rows.items()
        )
        + ".",
    )


def three_ways(rows: Mapping[str, Sequence[str]]) -> None:
    """Draw the sentence in words, in Pebble's tokens, and in letters."""
    cuts(
        rows,
        "Words: few tokens, but a new word has none. Letters: nothing new can come, but the list is long. Pebble's "
        "tokens "
        "lie in between.",
    )


def same_sentence(rows: Mapping[str, Sequence[str]], sizes: Mapping[str, int]) -> None:
    """Draw the English sentence in real tokenizers, with the sizes of their vocabularies."""
    cuts(
        rows,
        "One sentence, four tokenizers, and how large their vocabularies are. Pebble's is the smallest, and it needs "
        "the most tokens. But size isn't all: it also matters which text a tokenizer was trained on.",
        sizes,
    )


def _in_hex(letter: str) -> str:
    return letter.encode().hex(" ").upper()


def _in_numbers(letter: str) -> str:
    return " ".join(map(str, letter.encode()))


def other_language(rows: Mapping[str, Sequence[str]]) -> None:
    """Draw the German sentence in real tokenizers."""
    cuts(
        rows,
        f"The same in German, with a cat's face. Bytes are written in hex here: {_in_hex('🐱')} for the cat's "
        f"{_in_numbers('🐱')}, {_in_hex('ä')} for the ä's {_in_numbers('ä')}. A dot joins the bytes of one token, and "
        "20 is the space. MiniLM has no bytes: it drops the dots of the ä, and the cat is unknown to it.",
    )


def as_bytes(letters: str) -> None:
    """Draw letters and the bytes that UTF-8 writes for them."""
    ax = canvas(20)
    note(ax, 6, 18, "letter", bold=True)
    note(ax, 35, 18, "its bytes, as numbers from 0 to 255", bold=True)
    for i, letter in enumerate(letters):
        y = 12.4 - 4.6 * i
        spot = box(ax, 3, y, 6, 3.6)
        note(ax, 6, y + 1.8, letter, 15)
        arrow(ax, spot.right, (19, y + 1.8), thing="table")
        for j, byte in enumerate(letter.encode()):
            cell(ax, 20 + 7 * j, y + 0.2, 6.4, 3.2, str(byte), "table", 0.3)
    show(
        ax,
        "UTF-8, the usual way to store text, writes one to four bytes for a letter. There are only 256 different "
        "bytes.",
        "; ".join(f"{letter}: {_in_numbers(letter)}" for letter in letters) + ".",
    )


def pair_counts(words: Sequence[Sequence[str]], counts: Mapping[Pair, int], best: Pair, top: int = 6) -> None:
    """Draw the words in letters with every `best` pair marked, and the commonest pairs as bars."""
    ax = canvas(12 + 3.4 * top)
    high = ax.get_ylim()[1]
    at, y = 0.7, high - 5
    for word in words:
        i = 0
        while i < len(word):
            if tuple(word[i : i + 2]) == best:
                cell(ax, at, y, 1.03, 3, word[i], "table", 0.75, code=True)
                cell(ax, at + 1.03, y, 1.03, 3, word[i + 1], "table", 0.75, code=True)
                at, i = at + 2.06, i + 2
            else:
                cell(ax, at, y, 1.03, 3, seen(word[i]), "table", 0.06, code=True)
                at, i = at + 1.03, i + 1
        at += 0.4
    ranked = sorted(counts.items(), key=lambda item: (item[0] != best, -item[1]))[:top]
    names = [f"{seen(a)} {b}" for (a, b), _ in ranked]
    things = ["table" if pair == best else "old" for pair, _ in ranked]
    first = [best, *(pair for pair, count in counts.items() if count == counts[best] and pair != best)]
    said = " and ".join(f"{seen(a)} {b}" for a, b in first)
    said += " is the commonest" if len(first) == 1 else " are the commonest"
    note(ax, 32, high - 8.6, "how often two neighbours occur", colour=FAINT)
    bars(ax, 22, high - 10.4, names, [count for _, count in ranked], things, length=28, form="{:.0f}", step=3.4)
    show(
        ax,
        f"All pairs of neighbours are counted. {said}, {counts[best]} times. {best[0]} {best[1]} becomes one token.",
        f"The sentence letter by letter with {best[0]} {best[1]} marked {counts[best]} times, and bars for the "
        "commonest "
        "pairs: " + ", ".join(f"{seen(a)} {b} {count}" for (a, b), count in ranked) + ".",
    )


def growth(stages: Mapping[int, Sequence[Sequence[str]]]) -> None:
    """Draw the sentence after several numbers of merges, {merges: words}; longer tokens are darker."""
    ax = canvas(7.4 * len(stages) + 0.8)
    y = ax.get_ylim()[1] - 2.4
    said = []
    for merges, words in stages.items():
        tokens = [token for word in words for token in word]
        said.append(f"after {merges} merges {len(tokens)} tokens")
        note(ax, 0.7, y, f"after {merges} merges", ha="left", bold=True)
        note(ax, 63, y, f"{len(tokens)} tokens", ha="right", bold=True)
        at = 0.7
        for word in words:
            for token in word:
                wide = 1.03 * len(token)
                cell(ax, at, y - 4.6, wide, 3, seen(token), "table", 0.06 + 0.14 * (len(token) - 1), code=True)
                at += wide
            at += 0.4
        y -= 7.4
    show(
        ax,
        "The same sentence, with fewer and longer tokens. What occurs once, like milk, stays in letters.",
        "The sentence in cells: " + "; ".join(said) + ".",
    )


def replay(stages: Sequence[tuple[int, Pair, Sequence[str]]], word: str, name: str) -> None:
    """Draw what a tokenizer's merges do to one word: (number of the merge, its pair, the tokens after it)."""
    ax = canvas(5 * (len(stages) + 1) + 4)
    y = ax.get_ylim()[1] - 2
    note(ax, 1, y, f"merge number, of {name}'s list", ha="left", colour=FAINT)
    rows = [("start", "", list(word)), *((f"{number:,}", f"{seen(a)} + {b}", left) for number, (a, b), left in stages)]
    for number, text, tokens in rows:
        y -= 4.8
        note(ax, 9, y + 1.6, number, ha="right", bold=True)
        note(ax, 11.5, y + 1.6, text, ha="left", code=True)
        at = 26.0
        for token in tokens:
            wide = 4.2 * len(token)
            cell(ax, at, y, wide, 3.2, seen(token), "table", 0.06 + 0.16 * (len(token) - 1), code=True)
            at += wide + 0.5
    show(
        ax,
        f"{name} cuts {seen(word)} by replaying its own merges, in their order. None of them joins the last "
        f"{len(rows[-1][2])}.",
        "; ".join(f"merge {number}, {text}: {' '.join(map(seen, tokens))}" for number, text, tokens in rows[1:]) + ".",
    )


def tree(words: Sequence[str], merges: Sequence[Pair]) -> None:
    """Draw which letters of two words were joined, in which order; the tokens that are left have a thick edge."""
    ax = canvas(28.4)
    step, at, ends = 3.95, 2.6, []
    for word in words:
        nodes: list[tuple[str, float, float]] = []
        for letter in word:
            cell(ax, at - 1.3, 1, 2.6, 3.2, seen(letter), "table", 0.06, code=True)
            nodes.append((letter, at, 4.2))
            at += step
        for number, pair in enumerate(merges, 1):
            i = 0
            while i < len(nodes) - 1:
                if (nodes[i][0], nodes[i + 1][0]) == pair:
                    (left, x0, y0), (right, x1, y1) = nodes[i : i + 2]
                    x, y, text = (x0 + x1) / 2, max(y0, y1) + 2.4, seen(left + right)
                    line(ax, [(x0, y0), (x, y)], "table")
                    line(ax, [(x1, y1), (x, y)], "table")
                    wide = 1.0 * len(text) + 1
                    cell(ax, x - wide / 2, y, wide, 3.2, text, "table", 0.06 + 0.14 * (len(text) - 1), code=True)
                    note(ax, x + wide / 2 + 0.5, y + 2.6, str(number), ha="left", bold=True, colour="table")
                    nodes[i : i + 2] = [(left + right, x, y + 3.2)]
                i += 1
        ends.append(f"{seen(word)} ends as {' '.join(seen(token) for token, _, _ in nodes)}")
        at += 1.4
    show(
        ax,
        f"Which letters were joined, and in which merge. {ends[0]}, as a whole; {ends[1]}.",
        "Two trees that grow upwards from letters. " + "; ".join(ends) + ".",
    )


def round_trip(text: str, tokens: Sequence[str], ids: Sequence[int]) -> None:
    """Draw a text, its tokens and their ids below one another, with the way down and the way up."""
    ax = canvas(24)
    step = 43 / len(tokens)
    note(ax, 1, 20, "text", ha="left", bold=True)
    note(ax, 1, 12, "tokens", ha="left", bold=True)
    note(ax, 1, 4, "ids", ha="left", bold=True)
    cell(ax, 9, 18.2, 43, 3.6, seen(text), "token", code=True)
    for i, (token, number) in enumerate(zip(tokens, ids, strict=True)):
        x = 9 + step * i
        spot = cell(ax, x + 0.5, 10.2, step - 1, 3.6, seen(token), "table", 0.06 + 0.14 * (len(token) - 1), code=True)
        below = cell(ax, x + 0.5, 2.2, step - 1, 3.6, str(number), "token")
        line(ax, [(spot.centre[0], 18.2), spot.top], "table")
        line(ax, [spot.bottom, below.top], "table")
    arrow(ax, (56.4, 19.6), (56.4, 4.4), thing="token", width=2.2)
    arrow(ax, (60, 4.4), (60, 19.6), thing="token", width=2.2)
    note(ax, 56.4, 21.6, "encode", bold=True)
    note(ax, 60, 2.2, "decode", bold=True)
    show(
        ax,
        "Encoding goes down: cut the text into tokens, then look up each token's place in the vocabulary. Decoding "
        "goes up: read the tokens off, and put them one behind another.",
        f"{text}; {' | '.join(map(seen, tokens))}; {', '.join(map(str, ids))}.",
    )


def conversation(tokens: Sequence[str], special: Sequence[str], asked: int) -> None:
    """Draw the tokens of a chat prompt, a block for each turn, with the `special` ones marked.

    `asked` is the number of tokens of the reader's own question.
    """
    says = ("the library puts this in", "your question", "now the model writes on")
    turns: list[list[str]] = []
    for token in tokens:
        if token == special[0]:
            turns.append([])
        turns[-1].append(token)
    rows: list[tuple[int, list[str]]] = []
    for number, turn in enumerate(turns):
        at = 99.0
        for token in turn:
            at += _wide(token, special)
            if at > 62:
                rows.append((number, []))
                at = _wide(token, special)
            rows[-1][1].append(token)
    ax = canvas(4 * len(rows) + 3.6 * len(turns) + 1)
    y, last = ax.get_ylim()[1] - 0.4, -1
    for number, row in rows:
        if number != last:
            note(ax, 0.8, y - 1.6, says[number], ha="left", bold=True)
            y, last = y - 3.6, number
        at = 0.8
        for token in row:
            wide = _wide(token, special)
            mark = token in special
            cell(ax, at, y - 3.4, wide, 3, seen(token), "attention" if mark else "table", 0.8 if mark else 0.1, True)
            at += wide
        y -= 4
    show(
        ax,
        f"What SmolLM2 reads when you ask it those {asked} tokens: {len(tokens)}. Orange: special tokens, where a turn "
        f"begins and ends. ↵ is a new line.",
        "; ".join(f"{words}: {' | '.join(map(seen, turn))}" for words, turn in zip(says, turns, strict=True)) + ".",
    )


def _wide(token: str, special: Sequence[str]) -> float:
    return LETTER * len(token) + (1.6 if token in special else 0.9)


def one_space(without: Mapping[str, tuple[str, float, float]], spaced: Mapping[str, tuple[str, float, float]]) -> None:
    """Draw what comes after prompts, without and with a space at the end.

    Each prompt has its best next token, the probability of that, and the probability of any digit.
    """
    rows = [(prompt, *without[prompt][:2], *spaced[prompt]) for prompt in without]
    ax = canvas(3.7 * len(rows) + 7.6)
    high = ax.get_ylim()[1]
    note(ax, 0.8, high - 4, "prompt", ha="left", bold=True)
    note(ax, 33, high - 4, "as it is", bold=True)
    note(ax, 52.5, high - 1.8, "with a space at the end", bold=True)
    note(ax, 46.2, high - 4.6, "best", colour=FAINT)
    note(ax, 57.4, high - 4.6, "any digit", colour=FAINT)
    y = high - 6.2
    for prompt, best, share, found, other, digit in rows:
        y -= 3.7
        note(ax, 0.8, y + 1.7, prompt, ha="left")
        cell(ax, 26.4, y + 0.2, 8.6, 3, seen(best), "stream", share, code=True)
        note(ax, 39.4, y + 1.7, f"{share:.0%}", ha="right")
        cell(ax, 42.2, y + 0.2, 5.6, 3, seen(found), "alarm" if found.isdigit() else "stream", other, code=True)
        ax.add_patch(Rectangle((49.4, y + 0.5), 9 * digit, 2.4, facecolor=THINGS["alarm"][0], zorder=3))
        note(ax, 63.4, y + 1.7, f"{digit:.0%}", ha="right")
    ax.plot((49.4, 49.4), (y, high - 6.2), color=INK, linewidth=1)
    show(
        ax,
        "SmolLM2's best next token after some prompts, first as they are, then with a space at the end. The bar is the "
        "probability that a digit comes.",
        "; ".join(
            f"{prompt}: {seen(best)} {share:.0%}, with a space {seen(found)} {other:.0%}, any digit {digit:.0%}"
            for prompt, best, share, found, other, digit in rows
        )
        + ".",
    )
