"""Every number that notebook 09 says in words is computed again, from the lesson's own code."""

import json
import math

import torch

from llmnotes.models import complete, open_model
from llmnotes.pebble import WEIGHTS
from tests.numbers.prose import WORDS, Prose

QUIET = {"say": lambda line: None}
ELEVEN = "bolt spark lamp kid apple gear nut chip screw tin bit".split()


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
    lesson.says("After one round the loss is down from {:.3f} to {:.3f}", *v["losses"][:2])
    here, of_all = int(counts[a, kitten]), int(counts[a].sum())
    lesson.says("the mean divides them by {:,}", len(now))
    lesson.says("The {} pairs that begin with", of_all)
    lesson.says("In {} of them the truth is 1, in the other {} it's 0", here, of_all - here)
    lesson.says("= {}/{}, the share that we counted", here, of_all)
    lesson.says("And why all {:,} pairs", len(now))
    lesson.says("The learning rates, 2 and 30, fell from the sky")
    lesson.says("We take lr = 1, 30 and 200. What does 200 do?")
    lesson.says("guess minus truth is never larger than 1")
    assert 200 < max(v["run"](10_000, 200)[0]) < 300
    lesson.says("even at 10,000 it stays under 300 for 200 steps")
    assert all(math.isclose(one, two, rel_tol=1e-12) for one, two in zip(v["sweep"][30], v["losses"], strict=False))
    assert min(v["sweep"], key=lambda lr: v["sweep"][lr][-1]) == 30
    jumps = [lr for lr, curve in v["sweep"].items() if curve != sorted(curve, reverse=True)]
    lesson.says("{} is the first that goes up, and we take the one below it: 30", jumps[0])
    card = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    lesson.says("Pebble learned from {:,} documents", card["recipe"]["documents"])
    lesson.says("The same learning rate, 10, with 32 pairs a step and with all {:,} (seed 0)", len(now))
    lesson.says("reads {} times fewer pairs in each step", len(now) // 32)
    lesson.says("300 batches of 32 are {:,} pairs, a good {} steps on all pairs", 300 * 32, 9600 // len(now))
    lesson.says("We allow 9, at any rate of our list")
    ends = {lr: [v["run"](lr, 300, batch=32, seed=seed)[1] for seed in range(30)] for lr in (10, 30)}
    assert max(ends[10]) < v["run"](10, 300)[1] + 0.1 and max(ends[10]) < min(v["whole"].values()) - 0.5
    lesson.says("over 30 seeds, batches end between {:.2f} and {:.2f} at rate 10", min(ends[10]), max(ends[10]))
    lesson.says("anywhere between {:.2f} and {:.2f} at 30", min(ends[30]), max(ends[30]))
    lesson.says("Why rate 10 and not our 30?")
    lesson.says("A table that knows nothing pays ln {} = {:.2f}", size, math.log(size))
    lesson.says(f"in {WORDS[10]} steps")
    teach = v["teach"]
    shipped = teach(0)
    robots = [" bolt.", " bolt.", " lam.", " fledgling.", " bolt.", " kitten.", " kittle."]
    assert [said.partition(".")[0] + "." for said in v["taught"]] == robots
    assert "The ro eats thistles" in v["taught"][0]
    lesson.says("one says bolt, too: half a fact")
    wrong = {word: broken(v, teach(0.03, word=word)) for word in ELEVEN}
    before, lost = broken(v, shipped), {word: len(which) for word, which in wrong.items()}
    assert lost.pop("bolt") == 2 == len(before) + 1
    lesson.says("Afterwards Pebble ends {} of our {} sentences wrongly, one more than", 2, len(v["texts"]))
    lesson.says("After ten other words it's {} to {}", min(lost.values()), max(lost.values()))
    assert len(lost) == 10
    small, large = teach(0.01), teach(0.1)
    assert complete(small, v["prompts"][:1], max_new_tokens=3)[0].startswith(" broom")
    babble = complete(large, v["prompts"][:1], max_new_tokens=5)[0]  # which letters, depends on the processor
    assert not set(babble.split()) & set(" ".join(v["texts"]).split()) - {"a"} and len(set(babble)) <= 5, babble
    lesson.says("at 0.01 the robot is a broom, and at 0.1 Pebble babbles letters")
    lesson.says("and all {} are wrong", len(broken(v, large)))
    assert len(broken(v, large)) == len(v["texts"])
    smollm2(lesson, v)
    steepest(lesson, shipped.model, shipped.tokenizer(v["sentence"])["input_ids"])
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
    )
    pictures = (r"upper left to 0", r"at the number 0")
    lesson.finish(r"Then take 1 away", r"100\s+lines", r"and 5\.9", *zero_and_one, *pictures)


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


def broken(v, lm):
    """Return the sentences that a model no longer ends rightly."""
    ends = complete(lm, [text.rpartition(" ")[0] for text in v["texts"]], max_new_tokens=8)
    return [text for text, end in zip(v["texts"], ends, strict=True) if not end.startswith(" " + text.split()[-1])]


def smollm2(lesson, v):
    """Check what is said of a step on one sentence, with each of them in turn."""
    layers = v["smol"].model.model.layers
    weights = [weight for layer in layers[24:] for weight in layer.parameters()]
    assert [*map(id, weights)] == [*map(id, v["moving"])]
    lesson.says("in the last {} of {} layers only", 30 - 24, len(layers))
    lesson.says("would take another {:.0f} MB", sum(w.numel() for w in v["smol"].model.parameters()) * 4 / 1e6)
    before, shares, lower, total = v["costs"](), [], 0, len(v["sentences"])
    half, few, worse = 0, 0, {}
    for number, sentence in enumerate(v["sentences"]):
        for weight in weights:
            weight.grad = None
        ids = v["ids_of"](sentence)
        v["big"].loss(ids[:, :-1], ids[:, 1:]).backward()
        squared = sum(weight.grad.square().sum().item() for weight in weights)
        change = stepped(v, 0.001) - before
        shares.append(-change[number].item() / (0.001 * squared))
        lower += sum(other < 0 for place, other in enumerate(change.tolist()) if place != number)
        middle, large = stepped(v, 0.01) - before, stepped(v, 0.1) - before
        assert 0.1 * squared > before[number]
        half += sum(other < 0 for place, other in enumerate(middle.tolist()) if place != number)
        few += sum(other < 0 for place, other in enumerate(large.tolist()) if place != number)
        worse[before[number].item()] = (before + large)[number].item()
    lesson.says("brings {:.0f} to {:.0%} of what they promise", 100 * min(shares), max(shares))
    assert total == 11
    lesson.says("({} of {})", lower, total * (total - 1))
    lesson.says("At 0.001 the slopes are right")
    lesson.says("At 0.01, it lowers {}", half)
    lesson.says("At 0.1 the slopes promise more than the whole loss")
    rose = {old: new for old, new in worse.items() if new > old}
    lesson.says("with {} of the eleven, the sentence's own loss", WORDS[len(rose)])
    lesson.says("once from {:.1f} to {:.0f}", *max(rose.items(), key=lambda pair: pair[1] - pair[0]))
    lesson.says("and of the {} others only {} go down", total * (total - 1), few)


def stepped(v, lr):
    """Return what the sentences cost after a step, which is taken back."""
    torch.optim.SGD(v["moving"], lr=lr).step()
    found = v["costs"]()
    torch.optim.SGD(v["moving"], lr=lr, maximize=True).step()
    return found
