"""Every number that notebook 03 says in words is computed again."""

import numpy as np

from llmnotes.pebble.corpus import documents
from llmnotes.pebble.lore import ANIMALS, NUMBERS
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
    says("dot products {}", ", ".join(f"{ada @ ada * np.cos(np.radians(turn)):.0f}" for turn in (0, 60, 90, 120, 180)))
    assert 2.6 < lengths[2] / lengths[0] < 2.9
    says("Boris's is almost three times as long as Ada's")
    says("his arrow has a length of {:.2f}, Cora's of {:.2f}", lengths[2], lengths[1])
    shadow = ada @ prices / (prices @ prices) * prices
    assert ada @ prices == otto @ prices and (ada - otto) @ prices == 0
    says("both pay {}", ada @ prices)
    says("The shadow costs {:.0f}, the whole bill", shadow @ prices)
    assert np.allclose((np.array([ada, otto]) - shadow) @ prices, 0)
    says("to the same point ({:.2f}, {:.2f}) on its line", *shadow)
    says("{} loaves fewer, {} apples more", WORDS[otto[0] - ada[0]], WORDS[ada[1] - otto[1]])

    cosines, in_slices = values["cosines"], values["in_slices"]
    said = ", ".join(f"{name} {cosine:.2f}" for name, cosine in zip(names, cosines, strict=True))
    says("with their cosines to Ada: {}", said)
    says("counts the bread in slices, {} to a loaf", slices[0, 0] // ada[0])
    says("Boris, with {:.4f}, is now ahead of Cora with {:.4f}", in_slices[2], in_slices[1])
    says("even Otto has {:.3f}", in_slices[3])
    pieces = np.geomspace(1, 20, 2000)
    for way in baskets[:3]:  # the swing of an arrow from the apples' axis, and where it is fastest
        swings = np.degrees(np.arctan2(way[1], way[0] * np.geomspace(0.01, 100, 20_001)))
        says("swings fastest when it passes {:.0f}°", swings[np.argmax(-np.diff(swings))])
    apart = np.degrees([np.arccos(np.minimum(cosines_to_first(baskets * (k, 1)), 1)) for k in pieces])
    assert all(apart[0, i] < apart[:, i].max() > apart[-1, i] for i in (1, 2)) and apart[:, 3].argmax() == 0
    angles = {k: np.degrees(np.arccos(np.minimum(cosines_to_first(baskets * (k, 1)), 1))) for k in (1, 4, 5, 20)}
    order = {k: ", ".join(names[i] for i in np.argsort(angle)[1:]) for k, angle in angles.items()}
    says("By angle to Ada, in loaves: {}; with {} slices to a loaf: {}", order[1], 20, order[20])
    assert angles[4][1] < angles[4][2] and angles[5][2] < angles[5][1] and angles[1][3] > 20
    says("Boris passes Cora between {} and {} pieces", 4, 5)
    divided = cosines_to_first(baskets / baskets.std(axis=0))
    assert np.allclose(divided, cosines_to_first(slices / slices.std(axis=0))) and divided[1:].argmax() == 0
    says("Boris takes more: {:.2f}", values["likeness"][2])
    assert (scaled[:2] < 0).all() and (scaled[2] > 0).all()
    five = values["five"]
    assert (five[4] == 3 * ada).all() and cosines_to_first(five / five.std(axis=0))[4] > 0.9999
    says("the same mixture, gets {:.2f}: three Adas", cosines_to_first(values["standardize"](five))[4])
    assert (values["among_five"][0] < 0).all() and (values["among_five"][4] > 0).all()
    says("The table at the left, its transpose above, and their product of shape {}", values["everybody"].shape)
    says("Ada and Boris is {}", values["everybody"][0, 2])

    pairs = values["random_pairs"]
    assert np.abs(pairs[256]).max() < 0.3
    says("draw {:,} pairs of random vectors with {}, {} and {} numbers", len(pairs[2]), *pairs)
    says("beyond 0.3: {} numbers", ", ".join(f"{np.mean(np.abs(pairs[d]) > 0.3):.0%} at {d}" for d in pairs))
    says("that's {:.4f}", 256**-0.5)
    assert 4.5 < 0.3 * 16 < 5
    says("a cosine of 0.3, nothing special on paper, is almost {} times the spread", WORDS[round(0.3 * 16)])

    monday, ids, table = values["monday"], values["ids"], values["table"]
    short = values["short"]
    assert np.array_equal(short, values["size"] < 3) and values["size"].min() >= 1 and values["size"].max() < 4
    assert ((values["size"] >= 2.75) & (values["size"] < 3.5)).sum() < 40  # hardly anything between the heaps
    says("We cut there, at {}, and try", 3)
    weekdays = np.isin(np.arange(len(table)), ids)
    assert np.argsort(-monday)[: len(ids)].tolist() == sorted(ids, key=lambda i: -monday[i])
    assert monday[weekdays].min() - monday[~weekdays].max() > 0.2  # a gap
    mates = ", ".join(f"{day} {monday[i]:.2f}" for day, i in zip(values["DAYS"][1:], ids[1:], strict=True))
    says("A histogram around 0.1 of the cosines with Monday, with a spike at {:.2f}; {}", monday[~short].mean(), mates)
    says("the grey hill stands at {:.1f}", np.median(monday[short]))
    hills = [np.median(cosines[short & ~weekdays]) for cosines in values["by_zero"].values()]
    said = "; ".join(
        f"zero {where}: hill at {hill:.2f}, spike at {np.median(cosines[~short]):.2f}".replace("-", "−")
        for (where, cosines), hill in zip(values["by_zero"].items(), hills, strict=True)
    )
    says("Three histograms. {}. The other weekdays", said)
    says("the hill moves out to {:.2f}", hills[1])
    says("the hill stands at {:.2f}", hills[2])
    long_rows = table[~short]
    size = np.linalg.norm(table, axis=1)
    assert 1.9 < size[~short].mean() / size[short].mean() < 2.1
    assert np.linalg.norm(long_rows.mean(axis=0)) > 0.99 * size[~short].mean() and monday[~short].std() < 0.01
    says("Why? {} rows are twice as long as the others", len(long_rows))
    used = how_often(values["lm"].tokenizer, len(table))
    assert used[~short].max() == 3 and (used[~short] == 0).mean() > 0.9
    says("each of their tokens occurs at most three times in {:,} training texts, most of them never", 20_000)

    friends, centred, months = values["friends"], values["centred"], values["MONTHS"]
    ends = dict(zip(values["zeros"], (friends(months, table - zero) for zero in values["zeros"].values()), strict=True))
    assert (ends["at the average of all rows"] < ends["where it is"]).all()
    assert friends(months, table).max() == 5 and set(friends(months, centred)) == {4, 5, 6, 7}
    says("none has more than five months among its eleven nearest tokens")
    says("only with the average of the short rows are they four to seven")
    animals = [row[0] for row in ANIMALS]
    gains = friends(animals, centred) - friends(animals, table)
    says("Of Pebble's {} animals, {} gain, too, and {} loses", len(gains), sum(gains > 0), WORDS[sum(gains < 0)])
    for some in (NUMBERS[:10], "red green blue black white brown".split()):
        assert abs(np.mean(friends(some, centred) - friends(some, table))) < 0.6  # hardly anything changes
    assert friends("cat dog cow pig hen goat".split(), centred).shape == (6,)

    rows, ids, smol = values["its_rows"], values["its_ids"], values["smol"]
    size, monday = np.linalg.norm(rows, axis=1), ids["ĠMonday"]
    says("a real model with {:,} rows", len(rows))
    tokens = (values["its_dots"] > values["its_dots"][monday]).sum()
    says("By dot product, {} tokens are more like Monday than Monday itself", tokens)
    for word, phrase in (("Tuesday", "Tuesday gets {}"), ("strugg", "␣strugg gets {}")):
        other = ids[f"Ġ{word}"]
        dot, lengths = rows[monday] @ rows[other], (size[monday], size[other])
        says(phrase, f"{lengths[0]:.2f} · {lengths[1]:.2f} · {dot / np.prod(lengths):.3f} = {dot:.1f}")
    assert size.argmax() == ids["Ġstrugg"]
    assert {f"Ġ{word}" for word in ("struggle", "struggles", "struggled", "struggling")} < set(ids)
    strugg, average = ids["Ġstrugg"], rows.mean(axis=0)
    says("its cosine with their average is {:.2f}", cosines_to_first(np.stack([average, rows[strugg]]))[1])
    assert len(range(0, 1000, 2)) == 500  # 500 early, 500 middle and 500 late ones search
    says("So we let {0} early, {0} middle and {0} late ones search", 500)
    asking = rows[::48]  # other searches than the lesson's, and twenty other directions
    scores = asking @ rows.T
    scores[:, strugg] = -np.inf
    best = scores.max(axis=1, keepdims=True)
    random = np.random.default_rng(1).normal(size=(20, rows.shape[1]))
    random *= size[strugg] / np.linalg.norm(random, axis=1, keepdims=True)
    shuffled = np.stack([np.random.default_rng(seed).permutation(rows[strugg]) for seed in range(20)])
    shorter = rows[strugg][None] / size[strugg] * size.mean()
    assert not any((asking @ one.T > best).any() for one in (random, shuffled, shorter))
    assert (asking @ rows[strugg] > best[:, 0]).mean() > 0.7
    frequent = (rows[:1000] @ rows.T).argmax(axis=1)
    assert (frequent == np.arange(1000)).mean() > 0.7  # "most frequent ones find themselves"
    for word in ("king", "cat", "water"):
        assert (rows @ rows[ids[f"Ġ{word}"]]).argmax() == ids[f"Ġ{word}"]

    groups, found = values["groups"], np.array(values["found"])[:, 1]
    says("We try {} groups", len(groups))
    assert found[0] == 1 and found[1] > 0.9 and found[2:].max() < 0.31  # "good only for weekdays and months"
    assert [groups[i][0] for i in (16, 17)] == ["good", "bad"] and found[16:18].max() < 0.04  # opposites

    def near(zero):
        moved = rows - zero
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        shares = []
        for words in groups:
            them = [ids[f"Ġ{word}"] for word in words if f"Ġ{word}" in ids]
            scores = moved[them] @ moved.T
            scores[range(len(them)), them] = -np.inf
            shares.append(np.isin(np.argsort(-scores)[:, : len(them) - 1], them).mean())
        return np.array(shares)

    gains = near(average) - found
    assert min(gains) >= 0
    says("{} of the {} gain again; none loses", sum(gains > 0), len(gains))
    for which, phrase in (
        (table, "longest and its shortest quarter have a cosine of {:.2f}"),
        (rows, "it's {:.2f}; even"),
    ):
        order = np.argsort(np.linalg.norm(which, axis=1))
        ends = [which[part].mean(axis=0) for part in np.array_split(order, 4)]
        says(phrase, cosines_to_first(np.stack([ends[3], ends[0]]))[1])
    assert near(ends[0]).mean() > found.mean() + 0.04  # "even its shortest quarter's average helps"
    assert smol.tokenizer.convert_ids_to_tokens([int(size.argmax())]) == ["Ġstrugg"]
    lesson.finish(
        *(
            r"between −1 \(opposite directions\) and 1",
            r"; 0 is a right angle",
            r"(closer to|away from) 1",
            r"dot product of 0",
            r"[Ll]ength 1",
        ),
        *(
            r"below 0",
            r"[Aa] cosine near 1",
            r"beyond 0\.3",
            r"[Ww]ith 256 numbers",
            r"lines are at ±0.3",
            r"not at 0\.",
        ),
        *(r"the last term are 1", r"we divide by 1", r"3Blue1Brown"),
    )


def cosines_to_first(rows):
    """Return the cosine of each row with the first."""
    return rows @ rows[0] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[0])


def how_often(tokenizer, size):
    """Return how often each token occurs in 20,000 training texts."""
    used = np.zeros(size, dtype=int)
    for document in documents(20_000):
        used += np.bincount(tokenizer(document.text, add_special_tokens=False)["input_ids"], minlength=size)
    return used
