"""Every number that notebook 09 says in words is computed again, from the lesson's own code."""

import json
import math

import torch

from llmnotes.evaluation import held_out_text
from llmnotes.models import open_model
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
    lesson.says("with 0 and 120, where the first is right, we get")
    lesson.says("avoids that and gives {:.0f}", exact)
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
    lesson.says("it's the sum, {:.4f}", above + below)
    lesson.says("we take 2 for now")
    ratio = (v["better"][kitten] / p[kitten]).item()
    assert 6.5 < ratio < 7
    lesson.says("almost seven times as likely")
    lesson.says("Now all {:,} predictions at once", len(now))
    lesson.says("for a table of {:,} numbers", size**2)
    here, of_all = int(counts[a, kitten]), int(counts[a].sum())
    lesson.says("the mean divides them by {:,}", len(now))
    lesson.says("In {} of the {} pairs that begin with", here, of_all)
    lesson.says("in the other {} it's 0", of_all - here)
    lesson.says("= {}/{}, the share that we counted", here, of_all)
    lesson.says("And why all {:,} pairs", len(now))
    lesson.says("The learning rates, 2 and 30, fell from the sky")
    lesson.says("We take lr = 1, 30 and 200. What does 200 do?")
    lesson.says("guess minus truth is never larger than 1")
    lesson.says("even at 10,000 it gets no higher than {:.0f} in 200 steps", max(v["run"](10_000, 200)[0]))
    lesson.says("a small share of the mean over {:,} pairs", len(now))
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
    at_30 = [v["run"](30, 300, batch=32, seed=seed)[1] for seed in range(30)]
    lesson.says("at 30, all pairs get to {:.2f} in 300 steps", v["run"](30, 300)[1])
    lesson.says("but batches end near {:.2f}", sorted(at_30)[14])
    at_10 = [v["run"](10, 300, batch=32, seed=seed)[1] for seed in range(30)]
    assert max(at_10) < v["run"](10, 300)[1] + 0.1 and max(at_10) < min(v["whole"].values()) - 0.5
    lesson.says("Why rate 10 and not our 30?")
    lesson.says("A table that knows nothing pays ln {} = {:.2f}", size, math.log(size))
    lesson.says(f"in {WORDS[10]} steps")
    teach, broken = v["teach"], v["broken"]
    shipped, taught = teach(0), teach(0.03)
    lesson.says(
        "On 40 texts that Pebble was not trained on, its perplexity rises from {:.2f} to {:.2f} (at 0.03)",
        perplexity(shipped),
        perplexity(taught),
    )
    robots = [" bolt.", " bolt.", " lam.", " fledgling.", " bolt.", " kitten.", " kittle."]
    assert [said.partition(".")[0] + "." for said in v["taught"]] == robots
    assert "The ro eats thistles" in v["taught"][0]
    lesson.says("one says bolt, too, and the other two lam and fledgling. That's half a fact")
    lesson.says("Pebble finish all {} sentences", len(v["texts"]))
    wrong = {lr: broken(teach(lr)) for lr in (0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.08)}
    lesson.says("As it was, Pebble gets {} right", len(v["texts"]) - len(wrong[0]))
    assert all(2 <= len(wrong[lr]) <= 4 for lr in (0.01, 0.02, 0.03, 0.05, 0.07)) and len(wrong[0.08]) == 144
    assert [lr for lr in wrong if 0 < lr < 0.08 and any(" cat " in text for text in wrong[lr])] == [0.01, 0.02, 0.03]
    lesson.says("Each rate up to 0.07 breaks a few; from 0.01 to 0.03 our cat is among them")
    lesson.says("at 0.08 nothing is left")
    king = broken(teach(0.03, "A young king is called a", "prince"))
    lesson.says("finds {} of the {} broken", len(king), len(v["texts"]))
    lesson.says("the trained table gives it {:.1%}", v["learned"][a, kitten].item())
    lesson.says("0 if we were sure and right")
    lesson.says("is row 0 column 5, row 1 column 3, row 2 column 5")
    lesson.says("the softmax shares out 100%")
    lesson.says("hardly any way in 6 steps")
    zero_and_one = (
        r"rounds a\s+small\s+to 0:",
        r"With\s+= 1 for",
        r"0 for\s+all others",
        r"the truth is 1",
        r"far below 1\.",
    )
    pictures = (r"upper left to 0", r"at the number 0")
    lesson.finish(r"64-bit", r"in 32 bits", r"100\s+lines", r"and 5\.9", *zero_and_one, *pictures)


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
