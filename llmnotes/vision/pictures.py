"""Pictures drawn by code: up to four equal things in one quarter of a small square, and words that are true of them.

Everything follows from a `Scene` and a random generator, so that the truth about a picture is known.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SIZE = 60  # pixels on each side
KINDS = ("colour", "shape", "count", "position")
COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}
COLOURS = {
    "red": (214, 40, 40),
    "green": (34, 139, 60),
    "blue": (40, 80, 200),
    "yellow": (240, 200, 30),
    "purple": (140, 50, 170),
    "black": (25, 25, 25),
}
SHAPES = ("ball", "kite", "ring", "star", "heart", "moon")
POSITIONS = ("top left", "top right", "bottom left", "bottom right")
UNSEEN = 1 / 5  # of all combinations, kept out of training

FINE = 4  # points that are drawn for each pixel and averaged, along each side
ASKED = {
    "colour": ("What colour do you see?", "Which colour is it?", "What is the colour?"),
    "shape": ("What shape do you see?", "Which shape is it?", "What is the shape?"),
    "count": ("How many do you see?", "How many are there?", "What is the number?"),
    "position": ("Where do you see it?", "Where is it?", "What is the place?"),
}
DESCRIBE = "What is in the picture?"
SAID = (
    "{things} at the {position}.",
    "At the {position} there {is_} {things}.",
    "There {is_} {things} at the {position}.",
    "A picture of {things} at the {position}.",
)


@dataclass(frozen=True)
class Scene:
    """What a picture shows: `count` things (1 to 4) of one shape and colour, in the quarter that `position` names.

    >>> Scene(2, "red", "ball", "top left").things
    'two red balls'
    """

    count: int
    colour: str
    shape: str
    position: str

    @property
    def things(self) -> str:
        """The things in words."""
        return f"{COUNTS[self.count]} {self.colour} {self.shape}{'s' * (self.count > 1)}"

    def value(self, kind: str) -> str:
        """The word or words that answer a question of a kind.

        >>> Scene(2, "red", "ball", "top left").value("count")
        'two'
        """
        return COUNTS[self.count] if kind == "count" else getattr(self, kind)


@lru_cache(maxsize=1)
def combinations() -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """All scenes there are, as (those that training may show, the fifth that it never shows)."""
    every = [Scene(*values) for values in product(COUNTS, COLOURS, SHAPES, POSITIONS)]
    random.Random("combinations that training never shows").shuffle(every)
    kept = round(UNSEEN * len(every))
    return tuple(every[kept:]), tuple(every[:kept])


def scenes(n: int, seed: int, seen: bool = True) -> list[Scene]:
    """Return `n` scenes drawn at random, from those that training may show or from those that it never shows.

    No scene comes again before all have come. Every word of an unseen scene stands in seen ones too, as does every
    pair of its words. Where things lie, how large they are and how they are turned is for `draw` to choose.

    >>> set(scenes(200, seed=0)) & set(scenes(115, seed=0, seen=False))
    set()
    """
    rng, found = random.Random(f"scenes {seed} {seen}"), []
    cards = list(combinations()[0 if seen else 1])
    while len(found) < n:
        rng.shuffle(cards)
        found += cards
    return found[:n]


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """Return a picture of a scene: a PIL image of `SIZE` by `SIZE` pixels in RGB, on a pale ground.

    The generator chooses the ground, the shade, and each thing's place in its quarter, its size (9 to 11 pixels
    across) and its turn. Things never overlap or touch. Raises `KeyError` for words that are not among the above.

    >>> draw(Scene(2, "red", "ball", "top left"), random.Random(0)).size
    (60, 60)
    """
    from PIL import Image, ImageDraw

    ground = tuple(rng.randint(225, 255) for _ in range(3))
    shade = tuple(max(0, min(255, value + rng.randint(-20, 20))) for value in COLOURS[scene.colour])
    large = Image.new("RGB", (SIZE * FINE, SIZE * FINE), ground)
    pen, half = ImageDraw.Draw(large), SIZE / 2
    left = half * ("right" in scene.position)
    top = half * ("bottom" in scene.position)
    for cell in rng.sample(range(4), scene.count):  # a quarter has four cells
        x = left + half / 4 + half / 2 * (cell % 2) + rng.uniform(-1.5, 1.5)
        y = top + half / 4 + half / 2 * (cell // 2) + rng.uniform(-1.5, 1.5)
        radius = rng.uniform(4.6, 5.4)
        _thing(pen, scene.shape, x * FINE, y * FINE, radius * FINE, rng.uniform(-0.3, 0.3), shade, ground)
    return large.resize((SIZE, SIZE), Image.Resampling.BOX)


def _thing(pen, shape: str, x: float, y: float, r: float, turn: float, shade, ground) -> None:
    """Draw one thing of radius `r` around a place, turned by so many radians."""

    def around(x: float, y: float, r: float) -> tuple[float, ...]:
        return x - r, y - r, x + r, y + r

    def polygon(points: Iterator[tuple[float, float]]) -> None:
        cos, sin = math.cos(turn), math.sin(turn)
        pen.polygon([(x + r * (a * cos - b * sin), y + r * (a * sin + b * cos)) for a, b in points], fill=shade)

    if shape == "kite":
        polygon(iter(((0, -1.1), (0.7, 0), (0, 1.1), (-0.7, 0))))
    elif shape == "star":
        polygon(_round(10, lambda step: 1.1 if step % 2 == 0 else 0.42))
    elif shape == "heart":
        curve = [2 * math.pi * step / 60 for step in range(60)]
        polygon((math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)) / 16) for t in curve)
    elif shape in ("ball", "ring", "moon"):
        pen.ellipse(around(x, y, r), fill=shade)
        if shape == "ring":
            pen.ellipse(around(x, y, r * 0.55), fill=ground)
        elif shape == "moon":  # what another circle leaves of it
            pen.ellipse(around(x + r * 0.6 * math.cos(turn), y + r * 0.6 * math.sin(turn), r * 0.85), fill=ground)
    else:
        raise KeyError(shape)


def _round(points: int, radius) -> Iterator[tuple[float, float]]:
    for step in range(points):
        angle = 2 * math.pi * step / points - math.pi / 2
        yield radius(step) * math.cos(angle), radius(step) * math.sin(angle)


def caption(scene: Scene, rng: random.Random) -> str:
    """Return a sentence that says everything there is to say about a scene.

    >>> caption(Scene(2, "red", "ball", "top left"), random.Random(0))
    'A picture of two red balls at the top left.'
    """
    said = rng.choice(SAID).format(
        things=scene.things, position=scene.position, is_="is" if scene.count == 1 else "are"
    )
    return said[0].upper() + said[1:]


def describe(scene: Scene) -> str:
    """Return the answer to `DESCRIBE`.

    >>> describe(Scene(2, "red", "ball", "top left"))
    'two red balls at the top left.'
    """
    return f"{scene.things} at the {scene.position}."


def questions(scene: Scene, rng: random.Random | None = None) -> list[tuple[str, str, str]]:
    """Return (kind, question, answer) for each of `KINDS`; with a generator in a wording and an order that it chooses.

    >>> questions(Scene(2, "red", "ball", "top left"))[0]
    ('colour', 'What colour do you see?', 'red')
    """
    kinds = rng.sample(KINDS, len(KINDS)) if rng else KINDS
    return [(kind, rng.choice(ASKED[kind]) if rng else ASKED[kind][0], scene.value(kind)) for kind in kinds]
