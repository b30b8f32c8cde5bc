"""Pictures drawn by code: the same every time, true words about them, and combinations that training never shows."""

import random
import subprocess
import sys
from itertools import combinations as choose

import numpy as np
import pytest

from llmnotes.vision import pictures
from llmnotes.vision.pictures import KINDS, SIZE, Scene, caption, combinations, describe, draw, questions, scenes

SEEN, UNSEEN = combinations()


def values(scene: Scene) -> tuple:
    return scene.count, scene.colour, scene.shape, scene.position


def test_no_unseen_combination_is_ever_seen_and_none_is_lost():
    assert not set(SEEN) & set(UNSEEN)
    assert len(set(SEEN) | set(UNSEEN)) == len(SEEN) + len(UNSEEN) == 4 * 6 * 6 * 4
    assert len(UNSEEN) >= 100
    for seed in range(5):
        assert set(scenes(500, seed)) <= set(SEEN)
        assert set(scenes(300, seed, seen=False)) <= set(UNSEEN)


def test_every_pair_of_words_of_an_unseen_scene_is_seen():
    pairs = {(i, j, values(scene)[i], values(scene)[j]) for scene in SEEN for i, j in choose(range(4), 2)}
    assert all((i, j, values(s)[i], values(s)[j]) in pairs for s in UNSEEN for i, j in choose(range(4), 2))


def test_the_most_usual_answer_is_right_for_less_than_two_fifths_of_the_unseen():
    for kind in KINDS:
        answers = [scene.value(kind) for scene in UNSEEN]
        assert max(map(answers.count, answers)) / len(answers) < 0.4


def test_training_draws_only_from_what_may_be_seen(monkeypatch, tmp_path):
    """Each picture that the stages train with is recorded where it is drawn."""
    from llmnotes.finetuning.train import Plan
    from llmnotes.vision import parts
    from recipes.vision import training

    drawn = []
    monkeypatch.setattr(parts, "draw", lambda scene, rng: drawn.append(scene) or draw(scene, rng))
    plan = Plan(steps=2, batch_size=8)
    losses = training.conversation_losses(*tiny(), plan, random.Random(0))
    assert all(next(losses).isfinite() for _ in range(3))
    assert len(drawn) == 3 * 8
    monkeypatch.setattr(training, "write_tensors", lambda *_: None)
    training.train_encoder(training.Recipe(encoder=plan), tmp_path)
    assert len(drawn) == 5 * 8 and set(drawn) <= set(SEEN)


def tiny():
    from llmnotes.vision import opening, parts

    return opening.join(parts.new_encoder(width=32, layers=2, text_layers=1))


def test_scenes_and_pictures_are_the_same_every_time():
    code = (
        "import hashlib, random; from llmnotes.vision.pictures import *; h = hashlib.sha256()\n"
        "for i, s in enumerate(scenes(30, 5, seen=False)):\n"
        "    h.update(draw(s, random.Random(i)).tobytes() + caption(s, random.Random(i)).encode())\n"
        "    h.update(repr(questions(s, random.Random(i))).encode())\n"
        "print(h.hexdigest())"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1
    assert scenes(10, 0) != scenes(10, 1)
    assert draw(SEEN[0], random.Random(0)).tobytes() != draw(SEEN[0], random.Random(1)).tobytes()


@pytest.mark.parametrize("shape", pictures.SHAPES)
@pytest.mark.parametrize("count", pictures.COUNTS)
def test_a_picture_holds_as_many_separate_things_of_its_colour_in_its_quarter(count, shape):
    """The things are counted again in the pixels, by filling."""
    for place, position in enumerate(pictures.POSITIONS):
        colour = list(pictures.COLOURS)[(place + count) % 6]
        rgb = np.asarray(draw(Scene(count, colour, shape, position), random.Random(place))).astype(int)
        marked = np.abs(rgb - rgb[SIZE // 2 - 1, SIZE // 2 - 1]).max(-1) > 60  # the middle is always ground
        assert islands(marked) == count
        rows, columns = np.nonzero(marked)
        assert (rows.min() >= SIZE // 2) == ("bottom" in position) and (rows.max() < SIZE // 2) == ("top" in position)
        assert (columns.min() >= SIZE // 2) == ("right" in position)
        assert (columns.max() < SIZE // 2) == ("left" in position)
        inside = np.median(rgb[marked], 0)
        nearest = min(pictures.COLOURS, key=lambda name: np.abs(inside - pictures.COLOURS[name]).sum())
        assert nearest == colour


def islands(marked: np.ndarray) -> int:
    left, found = set(zip(*map(list, np.nonzero(marked)), strict=True)), 0
    while left:
        found, edge = found + 1, [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
    return found


def test_words_say_what_the_scene_is():
    scene = Scene(1, "yellow", "moon", "bottom right")
    for seed in range(10):
        said = caption(scene, random.Random(seed))
        assert all(word in said.lower() for word in ("one yellow moon", "bottom right")) and "are" not in said.split()
        asked = questions(scene, random.Random(seed))
        assert sorted(kind for kind, _, _ in asked) == sorted(KINDS)
        assert {kind: answer for kind, _, answer in asked} == {kind: scene.value(kind) for kind in KINDS}
    assert describe(Scene(3, "red", "star", "top left")) == "three red stars at the top left."


def test_pebble_knows_the_pieces_of_every_word():
    """No token of a question or an answer is one that Pebble's training hardly saw."""
    from llmnotes.finetuning import token_rows
    from recipes.vision import training

    model, processor = tiny()
    ids = training.answer_tokens(processor.tokenizer)
    asked = [
        question for scene in SEEN[:20] for seed in range(5) for _, question, _ in questions(scene, random.Random(seed))
    ]
    ids |= {token for text in asked for token in processor.tokenizer(text, add_special_tokens=False)["input_ids"]}
    assert token_rows.untrained(model, ids) == ()


def test_words_that_do_not_exist_are_refused():
    with pytest.raises(KeyError):
        draw(Scene(1, "mauve", "ball", "top left"), random.Random(0))
    with pytest.raises(KeyError):
        draw(Scene(1, "red", "cube", "top left"), random.Random(0))


def test_importing_is_light():
    code = "import sys, llmnotes.vision.pictures; print({'torch', 'PIL', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
