"""The numbers in the prose of "Looking inside", and that the package's four tools are the lesson's."""

import numpy as np
import pytest
import torch

from llmnotes.pebble import inside
from llmnotes.pebble.numpy_model import Pebble, additions, rms_norm
from tests.numbers.prose import WORDS, Prose


@pytest.fixture(scope="module")
def lesson():
    return Prose("08")


@pytest.fixture(scope="module")
def values(lesson):
    return lesson.run()


def test_every_number_is_computed_again(lesson, values):
    counts, gentle, edges, quiz = (values[name] for name in ("counts", "gentle", "edges", "quiz"))
    shares, encode, total = values["all_shares"], values["encode"], len(values["quiz"])
    animals = total + len(values["same"])
    lesson.says("try it on {} animals", animals)
    lesson.says("Pebble's world has {} animals", animals)
    lesson.says("and keep {}", total)
    guess, share = values["lens"](encode("A baby cow is a"))[3][1][0]
    assert guess == " cat"
    lesson.says("␣cat, with {:.0%}", share)
    lesson.says("How many of the {} answers stay right without it?", total)
    stay, needed = counts[3][1], WORDS[total - counts[3][1]]
    lesson.says("{}. The cat is one of {} that need the last MLP", stay, needed)
    lesson.says("On {} it is a different picture", total)
    lesson.says("Without the last MLP, {} answers stay right. The cat is one of the {} that don't", stay, needed)
    lesson.says("{} other answers survive without it", stay)
    lesson.says("How many of {} answers stay right", total)
    lesson.says("or its average over {} animals", total)
    lesson.says("with zero, {} answers were left; with the average, all {}", counts[1][0], gentle[1][0])
    lesson.says("goes from {} to {} only", counts[2][0], gentle[2][0])
    lesson.says("the last MLP goes from {} to {}", stay, gentle[3][1])
    score = values["shares"](values["ids"], values["k"])
    rival = values["shares"](values["ids"], values["cat"])
    lesson.says("{:.1f} of the {:.1f} come from the last MLP", score["MLP 3"], sum(score.values()))
    lesson.says("{:.1f} from the MLP before it", score["MLP 2"])
    lead = {name: score[name] - rival[name] for name in score}
    lesson.says("the last MLP leads by {:.1f}, the third by {:.1f}", lead["MLP 3"], lead["MLP 2"])
    lesson.says("third attention is {:.1f} behind", -lead["attention 2"])
    lesson.says("The first MLP gives {:.1f} on average", shares.mean(axis=0)[2])
    units, best, h = values["units"], values["best"], values["h"]
    assert [quiz[i][0] for i in h.argsort()[:4]] == ["cat", "squirrel", "lion", "hare"]
    assert 0.08 < units[best] / units.sum() < 0.12
    lesson.says("The largest of the {} gives {:.2f} of {:.2f}, a tenth", len(units), units[best], units.sum())
    assert [i for i, row in enumerate(edges) for count in row if count < total] == [1, 2]
    lesson.says("that's all that the {} answers showed", total)
    lesson.says("Tried on {} animals", total)
    early = {a: values["lens"](ids)[3][1][0][0] == values["decode"](answer) for a, ids, answer in quiz}
    says_cat = [a for a, ids, _ in quiz if values["lens"](ids)[3][1][0][0] == " cat"]
    assert {"elephant", "pigeon", "butterfly"} < set(says_cat) and early["butterfly"]
    lesson.says("and the right answer for {}", sum(early.values()))
    lesson.says("for all {}. Without it, {} stay right", int((shares.argmax(1) == 8).sum()), stay)
    lesson.says("It holds for {} animals instead of one", total)
    lesson.says("The lens after block 2, for {} animals. {} rows have", total, sum(early.values()))
    wrong = sum(animal not in ("cat", "butterfly") for animal in says_cat)
    lesson.says("and {} animals that are no cats get a wrong", wrong)
    lesson.says("The same sum for {} animals", total)
    lesson.says("measured on {} animals", total)
    real(lesson, values)
    lesson.finish(
        r"[Bb]locks? [0-3](?: and [0-3])?\b",
        r"\((6|tokens), 256\)",
        r"\bthe 256 numbers\b",
        r"\bMLP [23]\b|\btoken i \+ 1\b",
        r"weights below 0\.05",
        r"built in 04\b",
        r"from block 4 to block 29",
    )


def real(lesson, values):
    """What is said of SmolLM2."""
    world, asked, given = values["world"], values["asked"], values["given"]
    lesson.says("It knows {} of the {}", len(world), len(asked))
    tops = [[best[0][0] == city for best in inside.lens(values["big"], start)] for start, city in world]
    assert not np.array(tops)[:, :-1].any() and np.array(tops)[:, -1].all()
    lesson.says("and so it is for all {}", len(world))
    names = list(inside.shares(values["big"], *world[0]))
    first, second = (names[j] for j in given.mean(axis=0).argsort()[::-1][:2])
    assert (first, second) == ("MLP 29", "attention 23")
    lesson.says("The {} of {} parts that give most on average, one dot for each of {}", 6, len(names), len(world))
    lesson.says(f"{first} is first, {second} is second")
    blind = values["blind_at"]
    assert blind == {22: len(world), 23: 1, 24: len(world)}
    lesson.says("that of block 23, out of thirty")
    lesson.says("and the attention of block 24")
    lesson.says("hide the country from ␣is in block 23, and one answer of {} is left", len(world))
    left = blind_in_each_block(values["smol"].model, world)
    assert left.pop(23) == 1
    lesson.says("in each of the other {} at least {} answers stay right", len(left), min(left.values()))


def blind_in_each_block(model, world):
    """Return for each block how many answers stay right when it hides the country from the last token."""
    ids = torch.tensor([start for start, _ in world])
    mask = torch.full((5, 5), -torch.inf).triu(1)
    mask[4, 3] = -torch.inf
    right = {}
    for number, layer in enumerate(model.model.layers):

        def hide(module, args, kwargs):
            return args, kwargs | {"attention_mask": mask[None, None]}

        hook = layer.self_attn.register_forward_pre_hook(hide, with_kwargs=True)
        with torch.no_grad():
            best = model(ids).logits[:, -1].argmax(dim=-1).tolist()
        hook.remove()
        right[number] = sum(guess == city for guess, (_, city) in zip(best, world, strict=True))
    return right


def test_what_breaks_without_the_first_mlp(values):
    """Sounds and homes are lost without it, too, and the model without it is the only one that loses them."""
    encode, lost = values["encode"], values["without"](0, "mlp")
    for model, good in ((values["pebble"], True), (lost, False)):
        for animal, _, sound, home, _ in values["ANIMALS"]:
            for start, end in ((f"The {animal} says", sound), (f"The home of the {animal} is the", home)):
                if end != "-":
                    ids, answer = encode(start), encode(f"{start} {end}")
                    assert (model(ids)[-1].argmax() == answer[len(ids)]) == good, (start, end)


def test_the_tools_of_the_package_are_those_of_the_lesson(values):
    pebble, ids, k = values["pebble"], values["ids"], values["k"]
    for (_, ours), theirs in zip(values["lens"](ids)[1:], inside.lens(pebble, ids), strict=True):
        assert [values["decode"](i) for i, _ in theirs] == [token for token, _ in ours]
        np.testing.assert_allclose([p for _, p in theirs], [p for _, p in ours], atol=1e-5)
    assert inside.shares(pebble, ids, k) == pytest.approx(values["shares"](ids, k), abs=1e-4)
    prompts = values["prompts"][:5]
    for number in range(4):
        near = {"atol": 1e-4}
        np.testing.assert_allclose(inside.cut(pebble, number, 2)(ids), values["cut"](number, 2)(ids), **near)
        for part in ("attention", "mlp"):
            theirs = inside.replaced(pebble, number, part)(ids)
            np.testing.assert_allclose(theirs, values["without"](number, part)(ids), **near)
            usual = inside.average(pebble, number, part, prompts)
            theirs = inside.replaced(pebble, number, part, usual)(ids)
            ours = values["softened"](values["W"], prompts, number, part)(ids)
            np.testing.assert_allclose(theirs, ours, **near)
    np.testing.assert_array_equal(pebble(ids), Pebble(values["W"])(ids))


def test_the_rows_that_are_kept_are_those_of_the_model(values):
    pebble, ids = values["pebble"], values["ids"]
    changed = inside.replaced(pebble, 2, "mlp")
    again = inside.replaced(changed, 3, "attention")  # a change upon a change
    model = Pebble(values["W"])
    model.blocks[2].mlp = model.blocks[3].attention = lambda x: 0 * x
    np.testing.assert_allclose(again(ids), model(ids), atol=1e-4)
    first = additions(pebble, ids)["attention 0"]
    x = pebble.table[ids]
    block = pebble.blocks[0]
    np.testing.assert_allclose(first, block.attention(rms_norm(x, block.norm1))[-1], atol=1e-5)
