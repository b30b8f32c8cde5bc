"""Typical wrong answers to the exercises of notebook 08: {exercise: {key of its hint: source}}."""

from llmnotes.exercises.looking_inside import EXERCISES

_SOFTENED, _UNITS, _LOSS = (exercise.solution for exercise in EXERCISES)
_MEAN, _CHOSEN = "np.mean(written, axis=0)", "p[np.arange(len(ids) - 1), ids[1:]]"

_PEBBLE = """from llmnotes.exercises.looking_inside import opened
    from llmnotes.pebble.numpy_model import Pebble
    """


def _changed(source: str, old: str, new: str) -> str:
    assert old in source, old
    return source.replace(old, new)


WRONG: dict[str, dict[str, str]] = {
    "08.1": {
        "unchanged": _changed(_SOFTENED, "setattr(model.blocks[number], part, lambda x: average)\n    ", ""),
        "zero": _changed(_SOFTENED, "lambda x: average", "lambda x: 0 * x"),
        "sum": _changed(_SOFTENED, _MEAN, "sum(written)"),
        "first": _changed(_SOFTENED, _MEAN, "written[0]"),
        "last": _changed(_SOFTENED, _MEAN, "written[-1]"),
        "one_number": _changed(_SOFTENED, _MEAN, "np.mean(written)"),
        "tokens": _changed(_SOFTENED, _MEAN, "np.mean(written, axis=(0, 1))"),
        "columns": _changed(_SOFTENED, _MEAN, "np.mean(written, axis=(0, 2))[:, None]"),
        "axis_1": _changed(_SOFTENED, _MEAN, "np.mean(written, axis=1)"),
        "row_too": _changed(_SOFTENED, "lambda x: average", "lambda x: x + average"),
        "own_too": _changed(_SOFTENED, "lambda x: average", "lambda x: original(x) + average"),
        "no_model": _changed(_SOFTENED, "return model", "return average"),
        "no_function": _changed(_SOFTENED, "lambda x: average", "average"),
        "median": _changed(_SOFTENED, _MEAN, "np.median(written, axis=0)"),
    },
    "08.2": {
        "no_norm": _changed(_UNITS, "row = rms_norm(row, block.norm2)\n    ", ""),
        "norm1": _changed(_UNITS, "norm2", "norm1"),
        "h": _changed(_UNITS, "return h * (direction @ block.mlp.down)", "return h"),
        "sum": _changed(_UNITS, "return h * (direction @ block.mlp.down)", "return h @ (direction @ block.mlp.down)"),
        "written": _changed(_UNITS, "return h * (direction @ block.mlp.down)", "return h @ block.mlp.down.T"),
        "columns": _changed(_UNITS, "return h * ", "return "),
        "swapped": _changed(_UNITS, "gate", "old").replace("up.T", "gate.T").replace("old", "up"),
        "no_silu": _changed(_UNITS, "silu(row @ block.mlp.gate.T)", "(row @ block.mlp.gate.T)"),
        "late_silu": _changed(
            _UNITS,
            "silu(row @ block.mlp.gate.T) * (row @ block.mlp.up.T)",
            "silu((row @ block.mlp.gate.T) * (row @ block.mlp.up.T))",
        ),
        "sizes": _changed(
            _UNITS, "return h * (direction @ block.mlp.down)", "return np.abs(h * (direction @ block.mlp.down))"
        ),
        "sorted": _changed(
            _UNITS, "return h * (direction @ block.mlp.down)", "return np.sort(h * (direction @ block.mlp.down))"
        ),
        "gate_only": _changed(_UNITS, " * (row @ block.mlp.up.T)", ""),
        "by_column": _changed(_UNITS, "return h * (direction @ block.mlp.down)", "return block.mlp(row) * direction"),
    },
    "08.3": {
        "ignores": _changed(_LOSS, "p = softmax(model", _PEBBLE + "p = softmax(Pebble(opened()[0])"),
        "backwards": _changed(_LOSS, _CHOSEN, "p[np.arange(1, len(ids)), ids[:-1]]").replace("(ids)[:-1]", "(ids)"),
        "all_pairs": _changed(_LOSS, _CHOSEN, "p[:, ids[1:]]"),
        "beyond": _changed(_LOSS, _CHOSEN, "np.array([p[i, ids[i + 1]] for i in range(len(ids))])").replace(
            "(ids)[:-1]", "(ids)"
        ),
        "each": _changed(_LOSS, ".mean()", ""),
        "one_short": _changed(_LOSS, _CHOSEN, "p[np.arange(len(ids) - 2), ids[1:-1]]"),
        "late": _changed(_LOSS, _CHOSEN, "p[np.arange(1, len(ids) - 1), ids[2:]]"),
        "log10": _changed(_LOSS, "np.log", "np.log10"),
        "perplexity": _changed(_LOSS, f"-np.log({_CHOSEN}).mean()", f"np.exp(-np.log({_CHOSEN}).mean())"),
        "itself": _changed(_LOSS, _CHOSEN, "p[np.arange(len(ids)), ids]").replace("(ids)[:-1]", "(ids)"),
        "itself_but_first": _changed(_LOSS, _CHOSEN, "p[np.arange(1, len(ids)), ids[1:]]").replace("[:-1])", ")"),
        "sign": _changed(_LOSS, "-np.log", "np.log"),
        "sum": _changed(_LOSS, ".mean()", ".sum()"),
        "over_all": _changed(_LOSS, ".mean()", ".sum() / len(ids)"),
        "mean_first": _changed(_LOSS, f"-np.log({_CHOSEN}).mean()", f"-np.log({_CHOSEN}.mean())"),
        "no_log": _changed(_LOSS, f"-np.log({_CHOSEN}).mean()", f"{_CHOSEN}.mean()"),
        "bits": _changed(_LOSS, "np.log", "np.log2"),
        "no_softmax": _changed(_LOSS, "softmax(model(ids)[:-1])", "model(ids)[:-1]").replace("-np.log(p", "-(p"),
        "columns": _changed(_LOSS, "softmax(model(ids)[:-1])", "softmax(model(ids), axis=0)"),
        "last": _changed(_LOSS, f"-np.log({_CHOSEN}).mean()", f"-np.log({_CHOSEN})[-1]"),
    },
}
