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
from llmnotes.exercises.one_token import CONFIGS, weights_of
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


def test_every_number_is_computed_again(lesson, values):
    W, ids, counts, units = values["W"], values["ids"], values["counts"], len(values["h"])
    logits, lengths, vocabulary = values["logits"], values["lengths"], len(values["table"])
    best = np.sort(logits[-1])[::-1]
    lesson.says("That's {} tokens", WORDS[len(ids)])
    lesson.says("These {:,} scores", vocabulary)
    lesson.says("Pebble has {:.2f} million weights", counts["total"] / 1e6)
    lesson.says("a row for each of {:,} tokens", vocabulary)
    per_mlp, ratio = counts["mlp"] // 4, counts["mlp"] // counts["attention"]
    lesson.says("Each MLP has {:,} weights, {} times as many", per_mlp, WORDS[ratio])
    mlp, attention, tables = 3 * 4096 * 11008, 4 * 4096**2, 2 * 32000 * 4096  # Llama 2 7B
    share = 32 * mlp / (32 * (mlp + attention) + tables)
    lesson.says("In Llama 2 7B it is {} times as many, and {:.0%} of its weights", WORDS[round(mlp / attention)], share)
    times = round(lengths[6] / lengths[0], -2)
    lesson.says("starts with a length of {:.1f}, and the last block reads one that is {:.0f} times", lengths[0], times)
    q, k, _ = CausalAttention(W, 0).project(values["x"])
    scores = q[0, -1] @ k[0].T / 8
    assert values["gentle"].argsort()[::-1][:2].tolist() == [0, 1] == scores.argsort()[::-1][:2].tolist()
    ahead = float(scores[0] - scores[1])
    lesson.says("the scores became {:,} times larger. ‹start› was ahead of A by {:.2f}", 300**2, ahead)
    lesson.says("now it's ahead by {:,.0f}", round(ahead * 300**2, -3))
    lesson.says("turns the {} numbers into {}, so", *values["up"].shape[::-1])
    lesson.says("turns the {} back into {}", *values["down"].shape[::-1])
    lesson.says("has {} by {} numbers", len(values["down"]), values["up"].shape[1])
    lesson.says("The {} detectors in the middle", units)
    lesson.says("Look at one of the {} units", units)
    lesson.says("an MLP is a list of {} notes", units)
    lesson.says("is a list of {} notes", units)
    lesson.says("Each of the six rows gets {:,} logits", vocabulary)
    lesson.says("␣k, with {:.0%}", softmax(logits[-1]).max())
    lead = best[0] - best[1]
    lesson.says("A lead of {:.1f} in the score is a factor of {:.0f} in the probability", lead, np.exp(lead))
    lesson.says("Let's compare all {} × {:,} scores", len(ids), vocabulary)
    stream, wild = without_norms(W, ids)
    assert values["lm"].tokenizer.decode([int(wild.argmax())]) == " make"
    lesson.says("The largest number in the stream has {} digits", len(str(int(np.abs(stream).max()))))
    lesson.says("the model is {:.0%} sure", softmax(wild).max())
    captions(lesson, values)
    real(lesson, values)
    lesson.finish(
        r"\((6|tokens), (256|1)\)",
        r"\b256 (numbers|factors)\b",
        r"\bblock 0\b",
        r"300 times (longer|larger)",
        r"\(0\.000001\)",
        r"runs from 0 to 1",
        r"numbers\s+into\s+0\b|(always|around) 1\b|scores become 0\b|(above|below) 0\b",
        r"in 16 bits",
    )


def captions(lesson, values):
    """What pictures say below them: computed by the picture, and here once more."""
    sizes, z, h = values["sizes"], values["z"], values["h"]
    up, down = values["up"], values["down"]
    lesson.says("the row grows from {:.2f} to {:.0f}", sizes[0, 0], sizes[-1, 0])
    lesson.says("brings it to {:.0f} each time", sizes[1:, 1].mean())
    lesson.says("from {:.2f} to {:.2f}", sizes[:, 2].min(), sizes[:, 2].max())
    lesson.says("{:,} weights are worth {:,}", up.size + down.size, len(down) * up.shape[1])
    lesson.says("whose z is below −2")
    assert (z < -2).sum() >= 3
    ten = np.sort(h**2)[::-1][:10].sum() / np.sum(h**2)
    lesson.says("ten of them make up {:.0%} of the sum of all h²", ten)


def real(lesson, values):
    """The numbers of SmolLM2, on seven prompts."""
    smol, V = values["smol"], values["V"]
    settings = {"base": values["rope"], "eps": values["config"]["rms_norm_eps"]}
    lesson.says("But {:.2f} is no rounding error", values["first_try"])
    apart, before = [], []
    for prompt in (
        "A baby cat is called a",
        "A baby cat is a",
        "The capital of France is",
        "Once upon a time, there was a",
        "The opposite of hot is",
        "2 + 2 =",
        "In the summer, the days are longer and the nights are",
    ):
        ids = smol.tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            theirs = smol.model(torch.tensor([ids])).logits[0].numpy()
        for gaps, more in ((apart, settings), (before, {})):
            gaps.append(np.abs(numpy_model.Pebble(V, layers=30, **more)(ids) - theirs).max())
    assert max(apart) < 0.001
    lesson.says("on {} prompts: the difference stays below 0.001", "seven" if len(apart) == 7 else "?")
    lesson.says("with Pebble's settings it's {:.1f} or more", np.floor(min(before) * 10) / 10)
    assert weights_of(CONFIGS["SmolLM2"]) == sum(p.numel() for p in smol.model.parameters())


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
