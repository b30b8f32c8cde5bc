"""The numbers in the prose of "One token through Pebble", and that its classes are those of the package."""

import ast
import inspect
import re

import numpy as np
import pytest
import torch

from llmnotes.attention import CausalAttention, softmax
from llmnotes.course import source
from llmnotes.exercises import find
from llmnotes.exercises.one_token_checks import CONFIGS, weights_of
from llmnotes.pebble import numpy_model
from tests.numbers.prose import WORDS, Prose


@pytest.fixture(scope="module")
def lesson():
    return Prose("06")


@pytest.fixture(scope="module")
def values(lesson):
    return lesson.run()


def without_norms(weights, ids):
    """Return the stream and the scores of a Pebble without its nine norms."""
    pebble = numpy_model.Pebble(weights)
    x = pebble.table[ids]
    with np.errstate(over="ignore"):
        for block in pebble.blocks:
            x = x + block.attention(x)
            x = x + block.mlp(x)
    return x, (x @ pebble.table.T)[-1]


def without_g(weights):
    """Return Pebble's weights with eight g multiplied into the matrices behind them; the ninth stays."""
    folded = dict(weights)
    for layer in range(4):
        name = f"model.layers.{layer}."
        for norm, parts in (("input", "attn.q attn.k attn.v"), ("post_attention", "mlp.gate mlp.up")):
            g = weights[f"{name}{norm}_layernorm.weight"]
            folded[f"{name}{norm}_layernorm.weight"] = np.ones_like(g)
            for part in parts.replace("attn", "self_attn").split():
                folded[f"{name}{part}_proj.weight"] = weights[f"{name}{part}_proj.weight"] * g
    return folded


def silenced(weights, ids, layer, units):
    """Return the probabilities of the next token while some units write nothing."""
    pebble = numpy_model.Pebble(weights)
    mlp = pebble.blocks[layer].mlp
    mlp.down = mlp.down.copy()
    mlp.down[:, units] = 0
    return softmax(pebble(ids)[-1])


def test_every_number_is_computed_again(lesson, values):
    W, ids, units = values["W"], values["ids"], len(values["h"])
    logits, lengths, vocabulary = values["logits"], values["lengths"], len(values["table"])
    best = np.sort(logits[-1])[::-1]
    lesson.says("That's {} tokens", WORDS[len(ids)])
    lesson.says("These {:,} scores", vocabulary)
    lesson.says("takes the length from {:.1f} to {:.0f}", *lengths[1:3])
    lesson.says("that is {:.0f} times longer than the first one did", round(lengths[6] / lengths[0], -2))
    q, k, _ = CausalAttention(W, 0).project(values["x"])
    scores = q[0, -1] @ k[0].T / 8
    assert values["gentle"].argsort()[::-1][:2].tolist() == [0, 1] == scores.argsort()[::-1][:2].tolist()
    ahead = float(scores[0] - scores[1])
    lesson.says("the scores became {:,} times larger. ‹start› was ahead of A by {:.2f}", 300**2, ahead)
    lesson.says("now it's ahead by {:,.0f}", round(ahead * 300**2, -3))
    x = values["x"]
    np.testing.assert_allclose(numpy_model.rms_norm(300 * x, 1.0), numpy_model.rms_norm(x, 1.0), atol=1e-3)
    lesson.says("turns the {} numbers into {}, so", *values["up"].shape[::-1])
    lesson.says("turns the {} back into {}", *values["down"].shape[::-1])
    lesson.says("has {} by {} numbers", len(values["down"]), values["up"].shape[1])
    lesson.says("and the {} detectors", units)
    lesson.says("Look at one of the {} units", units)
    lesson.says("an MLP is a list of {} notes", units)
    lesson.says("is a list of {} notes", units)
    lesson.says("␣k, with {:.0%}", softmax(logits[-1]).max())
    lead = best[0] - best[1]
    lesson.says("A lead of {:.1f} in the score", lead)
    assert round(float(np.exp(lead))) == 30 and "e^{3.4} \\approx 30$" in "".join(map(source, lesson.notebook.cells))
    lesson.says("Let's compare all {} × {:,} scores", len(ids), vocabulary)
    assert np.abs(numpy_model.Pebble(without_g(W))(ids) - logits).max() < 1e-5
    lesson.says("no score of our prompt changed by more than 0.00001")
    stream, wild = without_norms(W, ids)
    assert values["lm"].tokenizer.decode([int(wild.argmax())]) == " make"
    lesson.says("number in the stream then has {} digits", len(str(int(np.abs(stream).max()))))
    lesson.says("the model is {:.0%} sure", softmax(wild).max())
    captions(lesson, values)
    both(lesson, values)
    kitten(lesson, values)
    real(lesson, values)
    lesson.finish(
        r"\((6|tokens), (256|1)\)",
        r"\b256 (numbers|factors)\b",
        r"\bblocks? (0|[23](?: (?:and|or) 3)?)\b",
        r"300 times\s+(longer|larger)",
        r"\(0\.000001\)",
        r"runs from 0 to 1",
        r"numbers\s+into\s+0\b|(always|around) 1\b|(above|below|right of|near|far\s+below|far from) 0\b",
        r"in 16 bits",
        r"heads of 64 numbers",
        r"[Uu]nit 82\b",
        r"into 8 GB",
    )


def captions(lesson, values):
    """What pictures say below them: computed by the picture, and here once more."""
    z, h, up, down = values["z"], values["h"], values["up"], values["down"]
    lesson.says("{:,} weights are worth {:,}", up.size + down.size, len(down) * up.shape[1])
    lesson.says("{:.0%} of the units are below 0", np.mean(z < 0))
    lesson.says("these units write {:.0%} of the sum", np.abs(h[z < 0]).sum() / np.abs(h).sum())
    lesson.says("Unit 82 and all {} animals", len(values["animals"]))


def hidden(values, sentence, layer=3):
    """Return h of all units of one MLP for the last token."""
    pebble, ids = values["ahead"], values["lm"].tokenizer(sentence)["input_ids"]
    row = sum(list(numpy_model.additions(pebble, ids).values())[: 2 * layer + 2])
    block = pebble.blocks[layer]
    row = numpy_model.rms_norm(row[None], block.norm2)[0]
    return numpy_model.silu(row @ block.mlp.gate.T) * (row @ block.mlp.up.T)


def both(lesson, values):
    """Unit 82 of block 3, and its neighbours."""
    prompt, places, animals = values["prompt"], values["places"], values["animals"]

    def ten(h):
        return np.sort(h**2)[::-1][:10].sum() / np.sum(h**2)

    h = hidden(values, prompt)
    np.testing.assert_allclose(h, values["h"], atol=1e-3)
    lesson.says("the ten loudest of the {} make up {:.0%} of the sum of all h²", len(h), ten(h))
    lesson.says("(In block 0, it's {:.0%}.)", ten(hidden(values, prompt, 0)))
    lesson.says("We went through all {}", len(h))
    quiet = 3 * np.abs([hidden(values, "A cat is a"), hidden(values, "A baby is a")]).max(axis=0) < np.abs(h)
    assert np.where(quiet, np.abs(h), 0).argmax() == 82
    lesson.says("there h is −{:.0f}", -h[82])
    lesson.says("ask about all {} animals", len(animals))
    darkest = [animals[i] for i in np.abs(places[:, 1, 2]).argsort()[::-1][:4]]
    assert darkest == ["cat", "hen", "donkey", "goat"] and np.sort(np.abs(places[:, 1, 2]))[-4] > 15
    lesson.says("hen, donkey and goat")
    alone, baby = places[:, 0], places[:, 1]
    assert (baby[:, 0] > alone[:, 0]).all() and (baby[:, 1] < alone[:, 1]).all()
    lesson.says('for all {} animals, "baby" moves both answers, z up and down', len(animals))
    beyond = np.abs(alone[:, 1]) > 2.5
    assert np.abs(alone[beyond, 2]).max() < 1.5
    lesson.says("{} of the open dots are beyond ±2.5", beyond.sum())


def kitten(lesson, values):
    """What brings the answer for the cat."""
    W, ids, lm, pebble = values["W"], values["ids"], values["lm"], values["ahead"]
    k = values["logits"][-1].argmax()
    said = [lm.tokenizer.decode([int(i)]) for i in pebble.read(values["stations"]).argmax(axis=1)]
    assert said[5:] == [" cat", " cat", " cat", " k"] and " cat" not in said[:5]  # 5 is the attention of block 2
    lesson.says("␣k stays at {:.0%}. Unit 82", silenced(W, ids, 3, [82])[k])
    alone = {(layer, unit): silenced(W, ids, layer, [unit]) for layer in range(4) for unit in range(768)}
    lesson.says("each of the {:,} units alone", len(alone))
    low = [place for place, p in alone.items() if p[k] < 0.8]
    assert low == [(2, 223)] and alone[2, 223].argmax() == k
    lesson.says("below 80%: unit 223 of block 2, and even then ␣k is first, with {:.0%}", alone[2, 223][k])
    late = np.concatenate([notes(values, layer, k) for layer in (2, 3)])
    enough = np.argmax(np.sort(late)[::-1].cumsum() > 0.8 * late.sum()) + 1
    assert 24 < enough < 100, enough
    lesson.says("It takes dozens of notes")
    lesson.says("asks all {}", len(values["animals"]))


def notes(values, layer, k):
    """Return what each unit of one MLP gives to the score of token k."""
    pebble, row = values["ahead"], values["stations"][-1]
    way = pebble.norm * pebble.table[k] / np.sqrt(np.mean(row**2) + 1e-6)
    return hidden(values, values["prompt"], layer) * (way @ pebble.blocks[layer].mlp.down)


PROMPTS = (
    "A baby cat is called a",
    "A baby cat is a",
    "The capital of France is",
    "Once upon a time, there was a",
    "The opposite of hot is",
    "2 + 2 =",
    "In the summer, the days are longer and the nights are",
    "Hello",
    "The",
    "Yes",
    "My name is",
    "Water boils at",
    "A cat",
    "Hi there",
    "Why?",
    "def add(a, b):",
    "It was late in the year, and the roads were wet. " * 15,
)


def real(lesson, values):
    """The numbers of SmolLM2, on many prompts."""
    smol, V = values["smol"], values["V"]
    settings = {"base": values["rope"], "eps": values["config"]["rms_norm_eps"]}
    lesson.says("But {:.2f} is no rounding error", values["first_try"])

    def gaps(prompt, *kinds):
        ids = smol.tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            theirs = smol.model(torch.tensor([ids])).logits[0].numpy()
        return [np.abs(numpy_model.Pebble(V, layers=30, **kind)(ids) - theirs).max() for kind in kinds]

    [base_alone] = gaps(PROMPTS[0], {"base": values["rope"]})
    lesson.says("with that alone, the difference is {:.3f}", base_alone)
    found = {prompt: gaps(prompt, settings, {}) for prompt in PROMPTS}
    assert max(right for right, _ in found.values()) < 0.001
    lesson.says("We tried {} prompts. With the right settings it stays below 0.001", len(PROMPTS))
    assert len(smol.tokenizer("Yes")["input_ids"]) == 1
    assert min(wrong for _, wrong in found.values()) == found["Yes"][1]
    assert max(wrong for _, wrong in found.values()) == found[PROMPTS[-1]][1]
    lesson.says('{:.3f} for "Yes"', found["Yes"][1])
    lesson.says("and {:.0f} for a long text", found[PROMPTS[-1]][1])
    ids = smol.tokenizer("A baby cat is a")["input_ids"]
    with torch.no_grad():
        assert smol.tokenizer.decode([int(smol.model(torch.tensor([ids])).logits[0, -1].argmax())]) == " cat"
    assert weights_of(CONFIGS["SmolLM2"]) == sum(p.numel() for p in smol.model.parameters())


@pytest.mark.parametrize("name", ["Pebble", "SmolLM2"])
def test_the_configs_of_the_exercise_are_those_of_the_models(values, name):
    config = (values["lm"] if name == "Pebble" else values["smol"]).model.config.to_dict()
    assert {key: config[key] for key in CONFIGS[name]} == CONFIGS[name]


def plain(text):
    """Return a class or function as a tree without types and docstrings, with the lesson's name for the weights."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return re.sub("'weights'", "'W'", ast.dump(tree))


@pytest.mark.parametrize("name", ["rms_norm", "silu", "MLP", "Block", "Pebble"])
def test_the_reader_writes_what_the_package_has(lesson, name):
    of_exercises = {"rms_norm": "06.1", "MLP": "06.2", "Block": "06.3"}
    if name in of_exercises:
        text = find(of_exercises[name]).solution
    else:
        cells = "\n".join(source(cell) for cell in lesson.notebook.cells if cell.cell_type == "code")
        text = re.search(rf"^(?:class|def) {name}\b.*?(?=^\S|\Z)", cells, re.S | re.M).group()
    assert plain(text) == plain(inspect.getsource(getattr(numpy_model, name)))
