"""Pictures of what quantization costs a model: the KL divergence, a ladder of types, an exam, and a choice."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import INK, NORMAL, THINGS, Numbers, canvas, cell, line, note, show, signed


def divergence(prompt: str, words: Sequence[str], before: Numbers, after: Numbers, kind: str) -> None:
    """Draw the KL divergence at one place: the chances of the likeliest tokens, before and after, and their terms.

    `words` names the likeliest tokens; `before` and `after` are the chances of all tokens.
    """
    p, q = np.array(before, float), np.array(after, float)
    terms, best = p * np.log(p / q), np.argsort(-p)[: len(words)]
    others = np.setdiff1d(np.arange(len(p)), best)
    ax = canvas(10 + 5.4 * (len(words) + 1))
    top = 8 + 5.4 * (len(words) + 1)
    note(ax, 1, top, f"“{prompt} …”", NORMAL, ha="left", bold=True)
    note(ax, 63, top, "p ln(p / p̂)", ha="right", code=True)
    named = [(word.replace(" ", "␣"), p[i], q[i], terms[i]) for word, i in zip(words, best, strict=True)]
    named.append(("all others", p[others].sum(), q[others].sum(), terms[others].sum()))
    rows = [(word, float(was), float(now), float(term)) for word, was, now, term in named]
    for k, (word, was, now, term) in enumerate(rows):
        y = top - 4.4 - 5.4 * k
        note(ax, 11, y, word, ha="right", code=True)
        for value, fill, low in ((was, 0, y + 0.1), (now, 1, y - 2)):
            ax.add_patch(
                Rectangle(
                    (12, low),
                    max(40 * value, 0.15),
                    1.9,
                    facecolor=THINGS["weight"][fill],
                    edgecolor=THINGS["weight"][0],
                    linewidth=1,
                )
            )
            note(
                ax,
                12.8 + 40 * value,
                low + 0.9,
                f"{value:.1%}" + ("" if k else f"  {'before' if value == was else kind}"),
                ha="left",
            )
        note(ax, 63, y, signed(term, "{:+.4f}"), ha="right", colour="error")
    line(ax, ((50, 4.2), (63, 4.2)), "token", 1)
    note(ax, 63, 2, signed(float(terms.sum()), "{:+.4f}"), NORMAL, "error", "right", bold=True)
    note(ax, 49, 2, "KL at this place", NORMAL, ha="right", bold=True)
    show(
        ax,
        f"The chances of the next token before (dark) and in {kind} (pale). What lost chance counts positive, what "
        "gained counts negative, and the sum is never below 0.",
        "A pair of bars for each of the likeliest tokens and for all others, with their terms: "
        + "; ".join(f"{word} {was:.1%} and {now:.1%}" for word, was, now, _ in rows),
    )


def ladder() -> None:
    """Draw what `python -m kit.quantization_ladder` has measured: how many next tokens change, type by type."""
    kept = json.loads(files("llmnotes").joinpath("quantization_ladder.json").read_text(encoding="utf-8"))
    models = {name: kept["models"][name.lower()]["types"] for name in ("Pebble", "SmolLM2")}
    published = kept["published"]
    ax = canvas(41)
    kinds = list(published["kl"])
    floor, unit, step = 12.8, 26, 61 / len(kinds)  # the bars' foot, units for 100%, and between two types
    told = []
    for k, (name, thing) in enumerate(zip(models, ("old", "attention"), strict=True)):
        strong, pale = THINGS[thing]
        for i, kind in enumerate(kinds):
            one, x = models[name][kind], 1.5 + i * step + (0.8 + 4.3 * k)
            height, spread = unit * one["other"], unit * one["other_error"]
            ax.add_patch(Rectangle((x, floor), 4, height, facecolor=pale, edgecolor=strong, linewidth=1.4))
            ax.plot((x + 2,) * 2, (floor + height - spread, floor + height + spread), color=strong, linewidth=1.4)
            note(ax, x + 2, floor + height + spread + 1.3, f"{one['other']:.0%}", colour=thing if k else INK)
            told.append(f"{name} {kind}: {one['other']:.0%}")
        y = 38.9 - 2.8 * k
        ax.add_patch(Rectangle((2.3, y - 0.9), 2.4, 1.8, facecolor=pale, edgecolor=strong, linewidth=1.4))
        note(ax, 5.6, y, name, NORMAL, thing if k else INK, "left", bold=True)
    for i, kind in enumerate(kinds):
        middle = 1.5 + (i + 0.5) * step
        note(ax, middle, floor - 2, kind, NORMAL, bold=True)
        note(ax, middle, floor - 4.7, f"{published['bits'][kind]:.1f} bits")
        note(ax, middle, floor - 7.4, f"KL {published['kl'][kind]:.2g}")
        told.append(f"{published['model']} {kind}: KL {published['kl'][kind]:.2g}")
    ax.plot((1.5, 62.5), (floor, floor), color=INK, linewidth=1.2)
    note(ax, 2.3, 2.2, f"bits per weight and KL of {published['model']}", ha="left")
    ours, theirs = (models[name]["Q4_K_M"]["weight_error"] for name in ("SmolLM2", "Pebble"))
    show(
        ax,
        "How many of the likeliest next tokens of a text are other ones than before (thin lines: standard errors; each "
        "model reads its own kind of text). SmolLM2's bars of Q5_K_M and Q4_K_M are too low, because it comes "
        f"in Q4_1: in Q4_K_M its weights are off by {ours:.0%}, Pebble's by {theirs:.0%}.",
        "Bars for two models and six types, and a row of numbers. " + "; ".join(told),
    )


def hard() -> None:
    """Draw what Pebble's types still know of the hard part of its exam: marks, flips, and chances of right answers."""
    kept = json.loads(files("llmnotes").joinpath("quantization_ladder.json").read_text(encoding="utf-8"))
    part = kept["models"]["pebble"]["hard"]
    step, left, unit = 4.6, 11.5, 19  # a row's height, the bars' foot, units for 100%
    ax = canvas(step * len(part["types"]) + 6.2)
    top = step * len(part["types"]) + 3
    for x, text in ((left, "right"), (35, "lost"), (41.5, "won"), (54, "change"), (63, "chance")):
        note(ax, x, top, text, NORMAL, ha="left" if x == left else "right", bold=True)
    told = []
    for i, (kind, one) in enumerate(part["types"].items()):
        y = top - step * (i + 1)
        name = kind.replace("2 bits, three levels", "3 levels")
        note(ax, 1, y, name, NORMAL, ha="left", bold=True)
        strong, pale = THINGS["weight" if i else "old"]
        length, spread = unit * one["exam"], unit * one["exam_error"]
        ax.add_patch(Rectangle((left, y - 1.4), length, 2.8, facecolor=pale, edgecolor=strong, linewidth=1.4))
        ax.plot((left + length - spread, left + length + spread), (y, y), color=strong, linewidth=2.4)
        note(ax, left + length + spread + 0.8, y, f"{one['exam']:.1%}", ha="left")
        change = signed(100 * one["change"], "{:+.1f}")
        if i:
            note(ax, 35, y, f"{one['lost']:,}", ha="right", colour="error")
            note(ax, 41.5, y, f"{one['won']:,}", ha="right")
            note(ax, 54, y, f"{change} ± {100 * one['change_error']:.1f}", ha="right")
        note(ax, 63, y, f"{one['chance']:.1%}", ha="right")
        told.append(
            f"{name} {one['exam']:.1%} right, {one['lost']:,} lost, {one['won']:,} won, chance {one['chance']:.1%}"
        )
    total = part["seeds"] * part["questions"]
    error = part["types"]["original"]["exam_error"]
    show(
        ax,
        f"{total:,} hard questions ({part['seeds']} seeds). Dark ends of the bars: the standard error of a mark, "
        f"{100 * error:.1f} points. Lost and won: questions that only the original, or only the type, gets right. "
        "Change: in points, with its standard error; questions that are asked the same way change together, and the "
        "error allows for that. Chance: how likely the right answer is, on average.",
        "A table with bars. " + "; ".join(told),
    )


def choices(cards: Mapping[str, Mapping[str, tuple[str, float]]], models: Sequence[str], tokens: int) -> None:
    """Draw what fits each card beside so many tokens: {card: {model: (largest type that fits, bytes of weights)}}."""
    height, left, width = 5.8, 13.5, 50 / len(models)
    ax = canvas(4 + height * len(cards))
    for k, model in enumerate(models):
        note(ax, left + (k + 0.5) * width, height * len(cards) + 2.2, model.upper(), NORMAL, bold=True)
    told = []
    for i, (card, found) in enumerate(cards.items()):
        y = height * (len(cards) - i - 1) + 0.6
        note(ax, 0.8, y + height / 2 - 0.2, card, NORMAL, ha="left", bold=True)
        kinds = {model: found.get(model, ("", 0.0)) for model in models}
        wide = [k for k, (kind, _) in enumerate(kinds.values()) if kind and not kind.startswith(("Q2", "Q3"))]
        for k, (model, (kind, size)) in enumerate(kinds.items()):
            thing = "old" if not kind else "weight" if k in wide else "error"
            strong = k == wide[-1] if wide else False
            cell(ax, left + k * width, y, width - 0.5, height - 0.6, "", thing, 0.1, strong=strong)
            middle = left + (k + 0.5) * width - 0.25
            note(ax, middle, y + (3.6 if kind else 2.6), kind or "—", bold=strong)
            note(ax, middle, y + 1.4, f"{size / 1e9:.1f} GB" if kind else "")
            told.append(f"{card}, {model}: {kind or 'none'}")
    show(
        ax,
        "For each machine (rows) and each size of Qwen3 (columns), the type with the most bits that fits whole on the "
        f"graphics card, beside {tokens:,} tokens of text, and what its weights take. (The table of tokens stays in "
        "ordinary memory.) Framed: the largest model in a type of 4 bits or more. Red: types of fewer.",
        "A table of types. " + "; ".join(told),
    )
