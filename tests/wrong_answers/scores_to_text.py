"""Typical wrong answers to the exercises of notebook 07: {exercise: {key of its hint: source}}."""

_IMPORTS = "import numpy as np\n\nfrom llmnotes.attention import softmax\n\n\n"


def _probabilities(at_zero: str, else_: str) -> str:
    return f"""{_IMPORTS}def probabilities(scores, temperature):
    if temperature == 0:
        {at_zero}
    return {else_}"""


_ONE = "return np.eye(len(scores))[scores.argmax()]"
_DIVIDED = "softmax(scores / temperature)"


def _top_p(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f"import numpy as np\n\n\ndef top_p(p, share):\n    {body}"


_ORDER = "order = np.argsort(-p)"
_BEFORE = "before = np.cumsum(p[order]) - p[order]"


def _generate(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f"def generate(model, ids, choose, stop=(1,), most=60):\n    {body}"


def _loop(*lines: str, count: str = "most", last: str = "return ids") -> str:
    return _generate("ids = list(ids)", f"for _ in range({count}):", *(f"    {line}" for line in lines), last)


_TOKEN = "token = int(choose(model(ids)[-1]))"
_STOP = ("if token in stop:", "    break")
_APPEND = "ids.append(token)"

WRONG = {
    "07.1": {
        "not_zero": f"{_IMPORTS}def probabilities(scores, temperature):\n    return {_DIVIDED}",
        "uncut": _probabilities("return softmax(scores)", _DIVIDED),
        "times": _probabilities(_ONE, "softmax(scores * temperature)"),
        "times_zero": f"{_IMPORTS}def probabilities(scores, temperature):\n    return softmax(scores * temperature)",
        "late": _probabilities(_ONE, "softmax(scores) / temperature"),
        "number": _probabilities("return scores.argmax()", _DIVIDED),
        "best_score": _probabilities("return np.where(scores == scores.max(), scores, 0)", _DIVIDED),
    },
    "07.2": {
        "both": _top_p(
            "best_first = np.sort(p)[::-1]", "return np.where(np.cumsum(best_first) <= share, best_first, 0)"
        ),
        "stops_short": _top_p(
            _ORDER,
            "kept = np.zeros_like(p)",
            "kept[order] = np.where(np.cumsum(p[order]) <= share, p[order], 0)",
            "return kept",
        ),
        "reached": _top_p(
            _ORDER,
            _BEFORE,
            "kept = np.zeros_like(p)",
            "kept[order] = np.where(before <= share, p[order], 0)",
            "return kept",
        ),
        "sorted": _top_p(_ORDER, _BEFORE, "return np.where(before < share, p[order], 0)"),
        "wrong_way_back": _top_p(_ORDER, _BEFORE, "kept = np.where(before < share, p[order], 0)", "return kept[order]"),
        "as_they_come": _top_p("return np.where(np.cumsum(p) - p < share, p, 0)"),
        "rescaled": _top_p(
            _ORDER,
            _BEFORE,
            "kept = np.zeros_like(p)",
            "kept[order] = np.where(before < share, p[order], 0)",
            "return kept / kept.sum()",
        ),
        "each": _top_p("return np.where(p >= share, p, 0)"),
        "share_of_best": _top_p("return np.where(p >= share * p.max(), p, 0)"),
        "ties": _top_p(
            "best_first = np.sort(p)[::-1]",
            "last = best_first[(np.cumsum(best_first) - best_first < share).sum() - 1]",
            "return np.where(p >= last, p, 0)",
        ),
        "which": _top_p(_ORDER, _BEFORE, "kept = p > 2", "kept[order] = before < share", "return kept"),
        "left_out": _top_p(_ORDER, _BEFORE, "return p[np.isin(np.arange(len(p)), order[before < share])]"),
    },
    "07.3": {
        "kept_stop": _loop(_TOKEN, _APPEND, *_STOP),
        "nothing": _loop(_TOKEN, "if token in stop:", "    return", _APPEND),
        "never": _loop(_TOKEN, _APPEND),
        "only_new": _loop(_TOKEN, *_STOP, _APPEND, last="return ids[-new:] if new else []")
        .replace("ids = list(ids)", "ids, new = list(ids), 0")
        .replace(_APPEND, f"{_APPEND}; new += 1"),
        "first_row": _loop("token = int(choose(model(ids)[0]))", *_STOP, _APPEND),
        "same_prompt": _generate(
            "ids, prompt = list(ids), list(ids)",
            "for _ in range(most):",
            "    token = int(choose(model(prompt)[-1]))",
            "    if token in stop:",
            "        break",
            "    ids.append(token)",
            "return ids",
        ),
        "to_length": _loop(_TOKEN, *_STOP, _APPEND, count="most - len(ids)"),
        "one_more": _loop(_TOKEN, *_STOP, _APPEND, count="most + 1"),
        "one_less": _loop(_TOKEN, *_STOP, _APPEND, count="most - 1"),
        "nothing_at_limit": _loop(_TOKEN, "if token in stop:", "    return ids", _APPEND, last="..."),
        "early_return": _loop(_TOKEN, *_STOP, _APPEND, "return ids", last="..."),
        "endless": _generate(
            "ids = list(ids)",
            "while True:",
            f"    {_TOKEN}",
            "    if token in stop:",
            "        return ids",
            f"    {_APPEND}",
        ),
        "first_stop": _loop(_TOKEN, "if token == stop[0]:", "    break", _APPEND),
        "last_alone": _loop("token = int(choose(model(ids[-1:])[-1]))", *_STOP, _APPEND),
        "goes_on": _loop(_TOKEN, "if token not in stop:", f"    {_APPEND}"),
        "twice": _loop(
            "row = model(ids)[-1]",
            "if int(choose(row)) in stop:",
            "    break",
            "ids.append(int(choose(row)))",
        ),
        "no_list": "import numpy as np\n\n\n"
        + _loop(_TOKEN, *_STOP, "ids = np.append(ids, token)").replace("ids = list(ids)", "ids = np.array(ids)"),
        "asks_again": _loop("row = model(ids)[-1]", "token = int(choose(model(ids)[-1]))", *_STOP, _APPEND),
        "greedy": "import numpy as np\n\n\n" + _loop("token = int(np.argmax(model(ids)[-1]))", *_STOP, _APPEND),
        "softmaxed": "from llmnotes.attention import softmax\n\n\n"
        + _loop("token = int(choose(softmax(model(ids)[-1])))", *_STOP, _APPEND),
    },
}
