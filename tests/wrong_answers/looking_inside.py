"""Typical wrong answers to the exercises of notebook 08: {exercise: {key of its hint: source}}."""

from llmnotes.exercises.looking_inside import EXERCISES

_SOFTENED, _UNITS, _LOSS = (exercise.solution for exercise in EXERCISES)
_MEAN, _CHOSEN = "np.mean(written, axis=0)", "p[np.arange(len(ids) - 1), ids[1:]]"


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
        "median": _changed(_SOFTENED, _MEAN, "np.median(written, axis=0)"),
    },
    "08.2": {
        "no_norm": _changed(_UNITS, "row = rms_norm(row, block.norm2)\n    ", ""),
        "norm1": _changed(_UNITS, "norm2", "norm1"),
        "h": _changed(_UNITS, "return h * (read @ block.mlp.down)", "return h"),
        "sum": _changed(_UNITS, "return h * (read @ block.mlp.down)", "return h @ (read @ block.mlp.down)"),
        "written": _changed(_UNITS, "return h * (read @ block.mlp.down)", "return h @ block.mlp.down.T"),
        "columns": _changed(_UNITS, "return h * ", "return "),
    },
    "08.3": {
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
