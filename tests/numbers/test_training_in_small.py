"""Every number that notebook 10 says in words is computed again, from the lesson's own code."""

import json
import math

import pytest
import torch

from llmnotes.little import Table, statements, train
from llmnotes.little.world import tensors, third
from llmnotes.pebble import WEIGHTS
from llmnotes.training import trapezoid
from tests.numbers.prose import Prose

pytestmark = pytest.mark.slow


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("10")
    v = lesson.run()
    words, training, held_out, asked = (v[name] for name in ("words", "training", "held_out", "asked"))
    size = len(words)
    lesson.says('gave "kitten" {:.1%} after', kitten_in_the_table())
    lesson.says("about its {} animals", len({one.subject for one in v["found"]}))
    assert "A young cat is called a kitten." in {one.text for one in held_out}
    lesson.says("seed 3, that holds out")
    lesson.says("The vocabulary has {} words", size)
    lesson.says("about {} b".replace(" b", ""), size)
    lesson.says("about {:.3f}, which is 1/{}", 1 / size, size)
    lesson.says("about {:.1f}", math.log(size))
    assert all(0 < start - math.log(size) < 0.2 for start in v["starts"])
    lesson.says("ln {} = {:.2f}", size, math.log(size))
    lesson.says("we train 20 steps, look, train another 20")
    lesson.says("That's {} questions; the other {} sentences", len(asked), len(held_out) - len(asked))
    assert all(0.8 < loss < 1 for loss, _ in v["ends"])
    lesson.says("Why does the loss stop near 1 and not at 0?")
    early = [true_after(v, 100, seed) for seed in range(3)]
    assert max(early) <= 10, early
    lesson.says("hardly one is true")
    lesson.says("looks back about {} steps, v about {:,}".replace("v about", "about"), 10, 1000)
    means = {name: sum(three) / 3 for name, three in v["last"].items()}
    quarter = (means["plain"] - means["momentum"]) / (means["plain"] - means["AdamW"])
    assert 0.2 < quarter < 0.3
    lesson.says("averaging alone gives about a fifth to a quarter of the gain here")
    lesson.says("with {} steps. Nearly all", 600)
    for name, words_of in (("thin", "{} facts in one wording, {:.0%}"), ("few", "{} facts in three, {:.0%}")):
        mark = sum(lines["exam"] for lines in v[name]) / 3
        facts = third(training, "wordings" if name == "thin" else "facts", 0)
        lesson.says(words_of, len({(one.subject, one.relation) for one in facts}), mark)
    neither = [exam_of(v, third(third(training, "facts", seed), "wordings", seed), seed) for seed in range(3)]
    lesson.says("({} in one, which we tried too: {:.0f}, {:.0f} and {:.0%}.)", *few_facts(neither))
    misses = [1 - lines["exam"] for lines in v["thin"]]
    assert 0.6 < min(misses) and max(misses) < 0.7
    lesson.says("it still misses two facts of three")
    stops = [20 * v["best_step"](lines["all"], patience=3) for lines in v["thin"]]
    marks = [exam_at(v, seed, stop) for seed, stop in enumerate(stops)]
    said = "we would stop at step {} to {}, with an exam of {:.0f} to {:.0%}"
    lesson.says(said, min(stops), max(stops), 100 * min(marks), max(marks))
    assert max(marks) <= min(lines["exam"] for lines in v["thin"])
    best = [20 * v["best_step"](lines["answers"], patience=3) for lines in v["thin"]]
    assert all(one < other for one, other in zip(stops, best, strict=True))
    assert all(min(lines["answers"]) < lines["answers"][-1] for lines in v["thin"])
    lesson.says("stop improving early, and then get a little worse")
    assert {"Every sheep was once a lamb."} <= {one.text for one in held_out}
    lesson.says('We took "every sheep" out of the training')
    lesson.says("a third of the {} sentences", len(training))
    card = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    lesson.says("The last {:,} steps taught it to chat", card["recipe"]["chat_steps"])
    for rate, better in ((0.01, True), (0.003, False)):
        assert all((ends(v, rate, seed, True) < ends(v, rate, seed, False)) is better for seed in range(3))
    lesson.says("We tried 160 steps, three seeds. At lr 0.01 a schedule ended lower each time, at 0.003 higher")
    lesson.says("read {:.0f} million", v["tokens"] / 1e6)
    lesson.says("It fits: {:.0%} of the peak", v["speed"] / 312e12)
    (pebble_home, smol_home), (pebble_away, smol_away) = v["per_word"]
    assert pebble_home < smol_home / 2 and smol_away < pebble_away / 2
    lesson.says("Pebble wins on its animals, and by far; SmolLM2 wins on the doctor, and by far")
    lesson.says("with one block, not four, and {} numbers a row instead of {}", 64, card_width())
    assert v["exam"](v["tiny"]) > 0.5
    lesson.says("compare all weights after {} steps", 50)
    lesson.says("For losses 3, 2, 2.5, 2.4, 1 and a patience of 2 that is {}", v["best_step"]([3, 2, 2.5, 2.4, 1], 2))
    lesson.says("at the 2.4 we stop waiting, and never see the 1")
    lesson.says("on the way forward ({}), and in twice as many on the way back ({})", 2, 4)
    days = 6 * 6.74e9 * 2e12 / (1000 * 0.4 * 312e12) / 86_400
    lesson.says("on 1,000 of them: {:.1f} days", days)
    lesson.says("A day has {:,} of them", 24 * 60 * 60)
    lesson.says("{} sentences show effects", len(training))
    cards = (r"6\.74 billion parameters", r"2\s+trillion tokens", r"184,320", r"312 · 10¹²", r"A100s?", r"135 million")
    task = (r"1\.1 billion", r"100 billion tokens", r"reach 40%", r"number \(from 0\)")
    names = (
        r"as in 04",
        r"in 07,",
        r"lesson\s+07",
        r"−1",
        r"rate 0\.3 come",
        r"= 1, 2, 3…",
        r"start at 0",
        r"dividing by 0",
        r"step 1 mean",
    )
    more = (
        r"like 0\.003",
        r"by 1 − lr",
        r"towards\s+0",
        r"near 1 and not at 0",
        r"Cost\. 6 ·",
        r"16-bit",
        r"steps of 8",
    )
    sources = (r"algorithm 2", r"the 6 comes", r"7B model", r"step \d", r"8 GB")
    lesson.finish(*(name.replace(" ", r"\s+") for name in (*cards, *task, *names, *more, *sources)))


def kitten_in_the_table():
    texts = [one.text for one in statements(["young"])]
    from llmnotes.little import Words

    words = Words(texts)
    lines = [[0, *words.encode(text)] for text in texts]
    now, after = (
        torch.tensor([token for line in lines for token in line[part]]) for part in (slice(-1), slice(1, None))
    )
    table = Table(len(words))
    train(table, (now, after), torch.optim.SGD(table.parameters(), lr=30), steps=1000)
    return torch.softmax(table.logits[words.number["a"]].detach(), dim=-1)[words.number["kitten"]].item()


def exam_at(v, seed, steps):
    """Return the exam of the run with one wording of each fact, stopped after some steps."""
    part = third(v["training"], "wordings", seed)
    return v["curves"](tensors(part, v["words"]), seed, steps)["exam"]


def exam_of(v, part, seed):
    """Return the number of facts in a part of the training, and the exam about them after training on it alone."""
    facts = {(one.subject, one.relation) for one in part}
    known = [(v["held_out"][row].subject, v["held_out"][row].relation) in facts for row in v["asked"][:, 0].tolist()]
    return len(facts), v["curves"](tensors(part, v["words"]), seed, 260, v["asked"][torch.tensor(known)])["exam"]


def few_facts(runs):
    """Return what the lesson says of the three runs: the facts, and each exam, the last one with its sign."""
    [count] = {facts for facts, _ in runs}
    first, second, last = (mark for _, mark in runs)
    return count, 100 * first, 100 * second, last


def card_width():
    return json.loads((WEIGHTS / "pebble" / "config.json").read_text(encoding="utf-8"))["hidden_size"]


def true_after(v, steps, seed):
    """Return how many of 100 samples are sentences of the world after some steps of plain descent."""
    model = v["Small"](len(v["words"]), seed=seed)
    train(model, v["data"], torch.optim.SGD(model.parameters(), lr=0.3), steps, 32, seed)
    return sum(v["sample"](model, number) in v["world"] for number in range(100))


def ends(v, rate, seed, falls, steps=160):
    """Return the training loss after AdamW with a constant rate, or with one that rises and falls."""
    model = v["Small"](len(v["words"]), seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    random, data = torch.Generator().manual_seed(seed), v["data"]
    for step in range(steps):
        if falls:
            optimizer.param_groups[0]["lr"] = rate * trapezoid(step, steps, warmup=16, decay=0.5)
        rows = torch.randint(len(data[0]), (32,), generator=random)
        optimizer.zero_grad()
        model.loss(data[0][rows], data[1][rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return model.loss(*data).item()
