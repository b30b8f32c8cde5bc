"""Every number that notebook 03 says in words is computed again."""

import numpy as np

from llmnotes.pebble.corpus import documents
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("03")
    values = lesson.run()
    prices, ada, names, baskets = (values[name] for name in ("prices", "ada", "names", "baskets"))
    by_name = dict(zip(names, baskets, strict=True))
    otto, slices, scaled = by_name["Otto"], values["slices"], values["scaled"]
    lengths = np.linalg.norm(baskets, axis=1)
    says = lesson.says

    says("A loaf of bread costs {}, an apple costs {}. Ada takes {} loaves and {} apples", *prices, *ada)
    says("The prices {} and {} above Ada's amounts {} and {}; their products add up to {}", *prices, *ada, prices @ ada)
    people = ", ".join(f"{name} ({row[0]}, {row[1]})" for name, row in by_name.items())
    says("A table of loaves and apples for {}, and beside it", people)
    dots = dict(zip(names, values["dots"], strict=True))
    assert max(dots, key=dots.get) == "Boris"
    says("Boris, with {}. Cora has {} and Otto {}", dots["Boris"], dots["Cora"], dots["Otto"])
    says("Ada with herself has {}", dots["Ada"])
    says("with the sides {} and {}; its length is {:.2f}", *ada, lengths[0])
    says("dot products {}", ", ".join(f"{ada @ ada * np.cos(np.radians(turn)):.0f}" for turn in (0, 60, 90, 120, 180)))
    says("his arrow has a length of {:.2f}, Cora's of {:.2f}", lengths[2], lengths[1])
    shadow = ada @ prices / (prices @ prices) * prices
    assert ada @ prices == otto @ prices and (ada - otto) @ prices == 0
    says("both pay {}", ada @ prices)
    says("to the same point ({:.2f}, {:.2f}) on its line", *shadow)
    says("{} loaves fewer, {} apples more", WORDS[otto[0] - ada[0]], WORDS[ada[1] - otto[1]])

    cosines, in_slices = values["cosines"], values["in_slices"]
    said = ", ".join(f"{name} {cosine:.2f}" for name, cosine in zip(names, cosines, strict=True))
    says("with their cosines to Ada: {}", said)
    says("counts the bread in slices, {} to a loaf", slices[0, 0] // ada[0])
    says("Boris, with {:.4f}, is now ahead of Cora with {:.4f}", in_slices[2], in_slices[1])
    says("even Otto has {:.3f}", in_slices[3])
    says("Boris takes more: {:.2f}", values["likeness"][2])
    assert (scaled[:2] < 0).all() and (scaled[2] > 0).all()
    one, other = values["units"][[0, 3]]
    says("the dot product is {:.2f}, the distance between their ends {:.2f}", one @ other, np.linalg.norm(one - other))
    says("The table at the left, its transpose above, and their product of shape {}", values["everybody"].shape)
    says("Ada and Boris is {}", values["everybody"][0, 2])

    pairs = values["random_pairs"]
    says("draw {:,} pairs of random vectors with {}, {} and {} numbers", len(pairs[2]), *pairs)
    says("beyond 0.3: {} numbers", ", ".join(f"{np.mean(np.abs(pairs[d]) > 0.3):.0%} at {d}" for d in pairs))
    says("that's {:.4f}", 256**-0.5)
    assert 4.5 < 0.3 * 16 < 5
    says("a cosine of 0.3, nothing special on paper, is almost {} times the spread", WORDS[round(0.3 * 16)])

    monday, ids, table = values["monday"], values["ids"], values["table"]
    others = np.delete(monday, ids[0])
    assert set(np.flatnonzero(monday > 0.3)) == set(ids)
    says("Out of {:,} tokens, exactly {} are beyond 0.3", len(others), WORDS[len(ids) - 1])
    says("isn't centred at 0 but at {:.1f}", np.median(others))
    mates = ", ".join(f"{day} {monday[i]:.2f}" for day, i in zip(values["DAYS"][1:], ids[1:], strict=True))
    says("A histogram around 0.1 of the cosines with Monday; {} lie far to the right", mates)
    rare = rarely_used(values["lm"].tokenizer, table)
    says("the spike at {:.2f} is {} tokens", monday[rare].mean(), rare.sum())
    assert monday[rare].std() < 0.02
    best = (table @ table.T).argmax(axis=1)
    other = best != np.arange(len(table))
    says("the {} tokens behind the {:.0%}", other.sum(), other.mean())
    favourite = np.bincount(best[other]).max()
    says("the favourite of {} of them, and {:.0%} of them lie", favourite, rare[other].mean())
    says("Outside the spike, it is {:.0%}", other[~rare].mean())
    months = table[values["lm"].tokenizer.convert_tokens_to_ids([f"Ġ{month}" for month in values["MONTHS"]])]
    alike = values["cosine_similarity"](months, months)[~np.eye(len(months), dtype=bool)].mean()
    assert 3.5 < alike * 16 < 4
    says("their mean cosine with each other is {:.2f}, almost {} times the spread", alike, WORDS[round(alike * 16)])
    most = values["friends"](values["MONTHS"]).max()
    says("of a month's eleven nearest tokens, at most {} are months", WORDS[most])
    says(
        "A matrix of {} by {} times one of {} by {:,} gives {} by {:,} cosines", 3, 256, 256, len(table), 3, len(table)
    )
    lesson.finish(
        *(
            r"between −1 \(opposite directions\) and 1",
            r"; 0 is a right angle",
            r"(closer to|away from) 1",
            r"dot product of 0",
            r"[Ll]ength 1",
        ),
        *(r"below 0", r"[Aa] cosine near 1", r"beyond 0\.3", r"[Ww]ith 256 numbers", r"dashed line is at 0.3"),
        *(r"the last term are 1", r"we divide by 1", r"3Blue1Brown"),
    )


def rarely_used(tokenizer, table):
    """Return which rows point nearly the way of the average row, after checking that texts hardly use their tokens."""
    units = table / np.linalg.norm(table, axis=1, keepdims=True)
    middle = table.mean(axis=0)
    rare = units @ middle / np.linalg.norm(middle) > 0.8
    used = np.zeros(len(table), dtype=int)
    for document in documents(20_000):
        used += np.bincount(tokenizer(document.text, add_special_tokens=False)["input_ids"], minlength=len(table))
    assert used[rare].max() <= 10 and np.median(used[~rare]) > 100
    return rare
