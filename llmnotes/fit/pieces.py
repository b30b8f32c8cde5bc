"""The pieces of a model that lie on a device as one: how many numbers each holds, and what layers keep of a text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

BLOCK = 64  # weights that share a scale in NF4


class Weights(NamedTuple):
    """Numbers of one piece: `linear` in layers that bitsandbytes quantizes, with `rows` and `blocks` of 64; `others`.

    The rows, or the blocks, have a scale each.
    """

    linear: int = 0
    rows: int = 0
    blocks: int = 0
    others: int = 0

    @property
    def numbers(self) -> int:
        """All numbers of the piece."""
        return self.linear + self.others

    def with_linear(self, out: int, inside: int) -> "Weights":
        """Return the piece with one more linear layer.

        >>> Weights(others=5).with_linear(3, 100)
        Weights(linear=300, rows=3, blocks=5, others=5)
        """
        count = out * inside
        return Weights(self.linear + count, self.rows + out, self.blocks + -(-count // BLOCK), self.others)


class Cache(NamedTuple):
    """What a layer keeps of a text: `width` numbers a token (keys and values), of the last `window` tokens or of all.

    `state` numbers do not grow with the text (convolutions, state spaces, linear attention), and `exact` ones do not
    either and are float32 in any case.
    """

    width: int = 0
    window: int | None = None
    state: int = 0
    exact: int = 0


class Pieces(NamedTuple):
    """A model piece by piece. `embedding` and `output` (norms, head and what else lies outside the layers) are numbers.

    `tied`: the head is the embedding. `names` are those of the modules, as transformers' device_map wants them: under
    "layers", "embedding" and "tied" one name, under "output" and "vision" a list.
    """

    embedding: int
    layers: tuple[Weights, ...]
    caches: tuple[Cache, ...]
    output: int
    vision: Weights
    tied: bool
    names: dict[str, Any]

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return self.embedding + sum(layer.numbers for layer in self.layers) + self.output + self.vision.numbers


def written(pieces: Pieces) -> dict[str, Any]:
    """Return the pieces as plain types for JSON: each kind of layer once under "kinds", and which one each layer is."""
    both = list(zip(pieces.layers, pieces.caches, strict=True))
    kinds = list(dict.fromkeys(both))
    plain = {"kinds": [[list(weights), list(cache)] for weights, cache in kinds], "vision": list(pieces.vision)}
    plain["layers"] = [kinds.index(layer) for layer in both]
    return {key: value for key, value in pieces._asdict().items() if key != "caches"} | plain


def read(plain: Mapping[str, Any]) -> Pieces:
    """Return the pieces that `written` has made plain.

    >>> one = Pieces(9, (Weights(6, 2, 1, 3),) * 2, (Cache(8),) * 2, 3, Weights(), True, {})
    >>> read(written(one)) == one
    True
    """
    kinds = [(Weights(*weights), Cache(*cache)) for weights, cache in plain["kinds"]]
    layers, caches = zip(*(kinds[kind] for kind in plain["layers"]), strict=True)
    known = {key: value for key, value in plain.items() if key != "kinds"}
    return Pieces(**known | {"layers": layers, "caches": caches, "vision": Weights(*plain["vision"])})
