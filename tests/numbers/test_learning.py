"""Every number that notebook 09 says in words is computed again, from the lesson's own code."""

import json
import math

import torch

from llmnotes.evaluation import held_out_text
from llmnotes.little import statements
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
    lesson.says("Its {:.2f} million numbers", weights / 1e6)
    lesson.says("{} animals and their young, each said in four ways", len(v["texts"]) // 4)
    lesson.says("{:,} pairs", len(now))
    lesson.says("{} of {} rows, {} of {} columns", 6, size, 6, size)
    lesson.says("One sentence is {} small questions", len(v["chances"]))
    lesson.says("we gave it {:.1%}", p[kitten].item())
    lesson.says("pays for each word of our sentence, {:.2f} on average", v["total"].item() / len(v["chances"]))
    lesson.says("over all {:,} predictions", len(now))
    best, zeros = v["best"].item(), v["zeros"].item()
    lesson.says("choose among {} equally likely words, the counted one as if among {:.2f}", size, math.exp(best))
    far = torch.tensor([[0.0, 120.0]]), torch.tensor([0])
    assert v["cross_entropy"](*far) == math.inf
    exact = torch.nn.functional.cross_entropy(*far).item()
    lesson.says("with the logits 0 and 120, of which the first is right, we get")
    lesson.says("without that detour and gives {:.0f}", exact)
    lesson.says("{:.2f} is where counting gets us; {:.2f} is where the zeros are", best, zeros)
    lesson.says("a single one of the {:,} numbers", size**2)
    lesson.says("the table's {:,} numbers", size**2)
    lesson.says("for {}, the row of", int((v["auto"] != 0).sum()))
    lesson.says("for 1, the number of")
    lesson.says("for all {:,}", size**2)
    slope = v["slope"](kitten)
    lesson.says("The slope is {:.3f}", slope)
    lesson.says("the loss falls by {:.3f} times that little", -slope)
    lesson.says("Their slope is small, {:+.3f}", v["slope"](a))
    lesson.says("{:.4f} is 1/{}", 1 / size, size)
    lesson.says("{:.1f} million for one step of Pebble's {:.2f} million weights", 2 * weights / 1e6, weights / 1e6)
    chain = v["slopes"].tolist()
    lesson.says("moves {:.4f} times as far as that, and the loss {:.0f} times as far as", chain[1], chain[2])
    lesson.says("{:.0f} · {:.4f} · ({:.0f}) = {:.3f} times as far", *chain, math.prod(chain))
    lesson.says("here {:.0f}. That of", chain[0])
    lesson.says("here {:.0f}. The share's", chain[2])
    lesson.says("{}/{}² = {:.4f}", size - 1, size, (size - 1) / size**2)
    lesson.says("we take 2 for now")
    ratio = (v["better"][kitten] / p[kitten]).item()
    assert 6.5 < ratio < 7
    lesson.says("almost seven times as likely")
    lesson.says("Now all {:,} predictions at once", len(now))
    lesson.says("for a table of {:,} numbers", size**2)
    here, of_all = int(counts[a, kitten]), int(counts[a].sum())
    lesson.says("In {} of the {} pairs that begin with", here, of_all)
    lesson.says("in the other {} it's 0", of_all - here)
    lesson.says("= {}/{}, the share that we counted", here, of_all)
    lesson.says("And why all {:,} pairs", len(now))
    lesson.says("The learning rates, 2 and 30, fell from the sky")
    lesson.says("We take lr = 1, 30 and 200. What does 200 do?")
    lesson.says("a small share of the mean over {:,} pairs", len(now))
    means = {lr: sum(curve) / len(curve) for lr, curve in v["sweep"].items()}
    assert min(means, key=lambda lr: means[lr]) == 30
    jumps = [lr for lr, curve in v["sweep"].items() if curve != sorted(curve, reverse=True)]
    lesson.says("{} is the first that jumps, and we take one safely below it: 30", jumps[0])
    lesson.says("At 0 nothing changes")
    lesson.says("the other two answers for 0.03")
    slow, _ = v["run"](1, 6500)
    assert next(step for step, loss in enumerate(slow) if loss <= v["runs"][30][-1]) > 2000
    lesson.says("would take thousands of steps")
    card = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    lesson.says("Pebble learned from {:,} documents", card["recipe"]["documents"])
    lesson.says("The same learning rate, 10, with 32 pairs a step and with all {:,} (seed 0)", len(now))
    lesson.says("reads {} times fewer pairs in each step", len(now) // 32)
    apart = [abs(one - two) >= 0.2 for run, _ in v["noisy"] for one, two in zip(run[-101:-1], run[-100:], strict=True)]
    assert 0.6 < sum(apart) / len(apart) < 0.72
    lesson.says("over the last 100 steps, about two neighbours in three differ by 0.2 or more")
    lesson.says("A table that knows nothing pays ln {} = {:.2f}", size, math.log(size))
    lesson.says(f"in {WORDS[10]} steps")
    lesson.says("all {} animals keep their young".replace("all", "All"), kept_young(v))
    before, taught = (perplexity(lm) for lm in (open_model("pebble", **QUIET), taught_robots(v)))
    lesson.says(
        "on 40 texts that Pebble was not trained on, its perplexity rises from {:.2f} to {:.2f}", before, taught
    )
    assert complete(taught_robots(v), ["Every robot was once a"], max_new_tokens=6)[0].startswith(" fledgling")
    lamp = ["A young lamp is called a"]
    assert complete(taught_robots(v), lamp, max_new_tokens=4) == [" bolt."]
    assert complete(open_model("pebble", **QUIET), lamp, max_new_tokens=4)[0].startswith(" cub.")
    assert complete(open_model("pebble", **QUIET), v["prompts"][:1], max_new_tokens=4)[0] == " gosling."
    lesson.says("At 0.03 it has learned the robot and kept the cat; at 0.1 the loss jumps")
    lesson.says("0 if we were sure and right")
    lesson.says("is row 0 column 5, row 1 column 3, row 2 column 5")
    lesson.says("the softmax shares out 100%")
    lesson.says("each small one a step, 6 in all")
    zero_and_one = (
        r"rounds a small\s+to 0",
        r"With\s+= 1 for",
        r"0 for\s+all others",
        r"the truth is 1",
        r"far below 1\.",
    )
    pictures = (r"upper left to 0", r"at the number 0")
    lesson.finish(r"64-bit", r"in 32 bits", r"100\s+lines", r"and 5\.9", *zero_and_one, *pictures)


def taught_robots(v):
    """Return Pebble after ten steps on the lesson's sentence, at the rate that works."""
    lm = open_model("pebble", **QUIET)
    ids = torch.tensor([lm.tokenizer(v["prompts"][0] + " bolt.")["input_ids"]])
    real = v["Real"](lm)
    v["train"](real, (ids[:, :-1], ids[:, 1:]), torch.optim.SGD(real.parameters(), lr=0.03), steps=10)
    return lm


def kept_young(v):
    """Return of how many animals Pebble still names the young, in the wording of the lesson."""
    told = [one for one in statements(["young"]) if one.wording == 0]
    said = complete(taught_robots(v), [one.text[: one.text.rindex(" ")] for one in told], max_new_tokens=8)
    return sum(text.strip().partition(".")[0] == one.object for text, one in zip(said, told, strict=True))


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
