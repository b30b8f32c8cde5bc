"""Every number that notebook 09 says in words is computed again, from the lesson's own code."""

import json
import math

import torch

from llmnotes.evaluation import held_out_text
from llmnotes.models import complete, open_model
from llmnotes.pebble import WEIGHTS
from tests.numbers.prose import WORDS, Prose

QUIET = {"say": lambda line: None}


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("09")
    v = lesson.run()
    words, now, after, counts, p = (v[name] for name in ("words", "now", "after", "counts", "p"))
    size, a, kitten = len(words), v["a"], v["kitten"]
    weights = sum(w.numel() for w in open_model("pebble", **QUIET).model.parameters())
    lesson.says("Nobody typed that into its {:.2f} million numbers", weights / 1e6)
    lesson.says("{} animals and their young, each said in four ways", len(v["texts"]) // 4)
    lesson.says("{:,} pairs", len(now))
    lesson.says("{} of {} rows, {} of {} columns", 6, size, 6, size)
    ids = [0, *words.encode(v["sentence"])]
    chances = v["counted"][ids[:-1], ids[1:]]
    assert v["gave"].prod() == 0
    lesson.says("One sentence is {} small questions", len(chances))
    lesson.says("we gave it {:.1%}", p[kitten].item())
    lesson.says("pays for each word of our sentence, {:.2f} on average", -chances.log().mean().item())
    lesson.says("over all {:,} predictions", len(now))
    best, zeros = v["best"].item(), v["blank"].item()
    lesson.says("choose among {} equally likely words, the counted one as if among {:.2f}", size, math.exp(best))
    far = torch.tensor([[0.0, 120.0]]), torch.tensor([0])
    assert v["cross_entropy"](*far) == math.inf
    exact = torch.nn.functional.cross_entropy(*far).item()
    assert math.isclose(torch.nn.functional.cross_entropy(v["counted"][now].log(), after).item(), best, rel_tol=1e-12)
    assert exact == 120
    lesson.says("so far apart that our softmax would round to 0")
    lesson.says("too small for a number of 64 bits: ours becomes {:.0f}", v["gave"].prod().item())
    lesson.says("A pair that never occurred has = 0, and would cost infinity")
    lesson.says("{:.2f} is where counting gets us; {:.2f} is where the zeros are", best, zeros)
    lesson.says("the table's {:,} numbers", size**2)
    lesson.says("{}: one whole row", int((v["auto"] != 0).sum()))
    lesson.says("1: only the knob that we turned")
    lesson.says("{:,}: every number", size**2)
    slope = v["slope"](kitten)
    lesson.says("The slope is {:.3f}", slope)
    lesson.says("the loss falls by {:.3f} times that little", -slope)
    lesson.says("Their slope is small, {:+.3f}", v["slope"](a))
    lesson.says("{:.4f} is 1/{}", 1 / size, size)
    lesson.says("{:.1f} million for one step of Pebble's {:.2f} million weights", 2 * weights / 1e6, weights / 1e6)
    chain = v["slopes"].tolist()
    lesson.says("moves {:.4f} times as far as that, and the loss {:.0f} times as far as", chain[1], chain[2])
    lesson.says("{:.0f} · {:.4f} · ({:.0f}) = {:.3f} times as far", *chain, math.prod(chain))
    tiny = 1e-6
    above = ((1 + tiny) / (1 + 77) - 1 / 78) / tiny
    below = (1 / (1 + tiny + 77) - 1 / 78) / tiny
    lesson.says("moves 1/{} = {:.4f} times as far", size, above)
    lesson.says("Move it below the line only: −1/{}² = {:.4f} times", size, below)
    assert math.isclose(-1 / size**2, below, rel_tol=1e-5)
    lesson.says("Move both: {:.4f}, the sum", above + below)
    lesson.says("Where does {:.4f} come from?", chain[1])
    lesson.says("we take 2 for now")
    ratio = (v["better"][kitten] / p[kitten]).item()
    assert 6.5 < ratio < 7
    lesson.says("almost seven times as likely")
    lesson.says("Now all {:,} predictions at once", len(now))
    lesson.says("for a table of {:,} numbers", size**2)
    here, of_all = int(counts[a, kitten]), int(counts[a].sum())
    lesson.says("the mean divides them by {:,}", len(now))
    lesson.says("The {} pairs that begin with", of_all)
    lesson.says("In {} of them the truth is 1, in the other {} it's 0", here, of_all - here)
    lesson.says("= {}/{}, the share that we counted", here, of_all)
    lesson.says("And why all {:,} pairs", len(now))
    lesson.says("The learning rates, 2 and 30, fell from the sky")
    lesson.says("We take lr = 1, 30 and 200. What does 200 do?")
    lesson.says("guess minus truth is never larger than 1")
    lesson.says("even at 10,000 it gets no higher than {:.0f} in 200 steps", max(v["run"](10_000, 200)[0]))
    lesson.says("a small share of the mean over {:,} pairs", len(now))
    assert all(math.isclose(one, two, rel_tol=1e-12) for one, two in zip(v["sweep"][30], v["losses"], strict=False))
    assert min(v["sweep"], key=lambda lr: v["sweep"][lr][-1]) == 30
    jumps = [lr for lr, curve in v["sweep"].items() if curve != sorted(curve, reverse=True)]
    lesson.says("{} is the first that goes up, and we take the one below it: 30", jumps[0])
    slow, _ = v["run"](1, 6500)
    assert next(step for step, loss in enumerate(slow) if loss <= v["sweep"][30][-1]) > 2000
    lesson.says("would take thousands of steps")
    card = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    lesson.says("Pebble learned from {:,} documents", card["recipe"]["documents"])
    lesson.says("The same learning rate, 10, with 32 pairs a step and with all {:,} (seed 0)", len(now))
    lesson.says("reads {} times fewer pairs in each step", len(now) // 32)
    lesson.says("300 batches of 32 are {:,} pairs, so that's a good {} steps on all pairs", 300 * 32, 9600 // len(now))
    lesson.says("We allow 9, at any rate of our list")
    ends = {lr: [v["run"](lr, 300, batch=32, seed=seed)[1] for seed in range(30)] for lr in (10, 20, 30)}
    assert max(ends[10]) < v["run"](10, 300)[1] + 0.1 and max(ends[10]) < min(v["whole"].values()) - 0.5
    lesson.says("Over 30 seeds, batches end between {:.2f} and {:.2f} at rate 10", min(ends[10]), max(ends[10]))
    lesson.says("anywhere between {:.2f} and {:.2f} at 30", min(ends[30]), max(ends[30]))
    better = sum(at_20 < at_10 for at_20, at_10 in zip(ends[20], ends[10], strict=True))
    lesson.says("20 beats 10 with {} of the seeds", better)
    lesson.says("Why rate 10 and not our 30?")
    lesson.says("A table that knows nothing pays ln {} = {:.2f}", size, math.log(size))
    lesson.says(f"in {WORDS[10]} steps")
    teach, broken = v["teach"], v["broken"]
    shipped, taught = teach(0), teach(0.03)
    lesson.says(
        "on 40 texts that Pebble was not trained on, its perplexity rises from {:.2f} to {:.2f} (bolt, at 0.03)",
        perplexity(shipped),
        perplexity(taught),
    )
    robots = [" bolt.", " bolt.", " lam.", " fledgling.", " bolt.", " kitten.", " kittle."]
    assert [said.partition(".")[0] + "." for said in v["taught"]] == robots
    assert "The ro eats thistles" in v["taught"][0]
    lesson.says("one says bolt, too, and the other two lam and fledgling: half a fact")
    lesson.says("Pebble finish all {} sentences", len(v["texts"]))
    wrong = {lr: broken(teach(lr)) for lr in (0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.08)}
    said = {lr: complete(teach(lr), v["prompts"][:1], max_new_tokens=4)[0] for lr in wrong}
    lesson.says("As it was, Pebble gets {} wrong", WORDS[len(wrong[0])])
    assert said[0.01] == " broom. The" and any(" cat " in text for text in wrong[0.01])
    lesson.says("At 0.01 our cat is broken, and the robot isn't learned yet")
    good = (0.02, 0.03, 0.05, 0.07)
    assert all(said[lr] == " bolt." for lr in good)
    assert {len(set(wrong[lr]) - set(wrong[0])) for lr in good} == {2, 3}
    lesson.says("From 0.02 to 0.07 the sentence is in, and two or three others are lost")
    assert said[0.08] == " ro ro ro ro" and len(wrong[0.08]) == len(v["texts"])
    lesson.says("at 0.08 Pebble only stammers ro ro ro")
    others = {word: teach(0.03, word=word) for word in ("spark", "lamp", "kid", "apple")}
    lost = {word: len(broken(lm)) for word, lm in others.items()}
    assert [*lost] == sorted(lost, key=lost.__getitem__)
    lesson.says("The other four leave {} to {} sentences wrong", lost["spark"], lost["apple"])
    into = [
        sum(end.startswith(f" {word}.") for end in complete(lm, v["prompts"][1:4], max_new_tokens=8))
        for word, lm in others.items()
    ]
    assert sorted(set(into)) == [0, 1, 2]
    lesson.says("none, one or two of the robot's other wordings")
    lesson.says("Afterwards {} of {} sentences were wrong", len(wrong[0.03]), len(v["texts"]))
    lesson.says("with the word apple, {}", lost["apple"])
    steepest(lesson, shipped.model, shipped.tokenizer(v["sentence"])["input_ids"])
    king = broken(teach(0.03, "A young king is called a", "prince"))
    lesson.says("finds {} of the {} broken", len(king), len(v["texts"]))
    lesson.says("the trained table gives it {:.1%}", v["learned"][a, kitten].item())
    lesson.says("0 if we were sure and right")
    lesson.says("is row 0 column 5, row 1 column 3, row 2 column 5")
    lesson.says("the softmax shares out 100%")
    lesson.says("a small dot after every 10 steps, and 60 aren't enough")
    for rate, steps, far in ((1, 60, 1.6), (30, 6, 3.0)):
        number = 0.0
        for _ in range(steps):
            number -= rate * knob(v, number)
        assert abs(number - far) < 0.1 and (abs(knob(v, number)) < 1e-3) == (rate == 30)
    zero_and_one = (
        r"With\s+= 1 for",
        r"0 for\s+all others",
        r"the truth is 1",
        r"far below 1\.",
    )
    pictures = (r"upper left to 0", r"at the number 0")
    lesson.finish(r"100\s+lines", r"and 5\.9", *zero_and_one, *pictures)


def knob(v, number):
    """Return the slope of the loss over the number in row "a", column "young", all others being zero."""
    table = v["Table"](len(v["words"]))
    with torch.no_grad():
        table.logits[v["a"], v["young"]] = number
    table.loss(v["now"], v["after"]).backward()
    return table.logits.grad[v["a"], v["young"]].item()


def steepest(lesson, model, ids):
    """Check what the lesson's folded cell finds about one weight of the third MLP."""
    model, ids = model.double(), torch.tensor([ids])

    def loss():
        return torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits[0], ids[0, 1:])

    weight = model.model.layers[2].mlp.gate_proj.weight
    model.zero_grad()
    loss().backward()
    assert divmod(weight.grad.abs().argmax().item(), weight.shape[1]) == (38, 9)
    ends = []
    with torch.no_grad():
        for turn in (1e-3, -2e-3):
            weight[38, 9] += turn
            ends.append(loss().item())
    assert weight.grad[38, 9] > 0.01 and abs(weight.grad[38, 9].item() - (ends[0] - ends[1]) / 2e-3) < 1e-6
    lesson.says("So a step takes this weight down")


@torch.no_grad()
def perplexity(lm):
    """Return a model's perplexity on the held-out text, in windows of 250 tokens."""
    ids = lm.tokenizer(held_out_text(), verbose=False)["input_ids"]
    total = 0.0
    for start in range(0, len(ids) - 1, 250):
        part = torch.tensor([ids[start : start + 251]])
        logits = lm.model(part).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="sum").item()
    return math.exp(total / (len(ids) - 1))
