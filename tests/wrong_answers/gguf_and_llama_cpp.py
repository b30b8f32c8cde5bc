"""Typical wrong answers to the exercises of notebook 22: {exercise: {key of its hint: source}}."""


def _function(head: str, words: str, body: str) -> str:
    return f'def {head}:\n    """{words}"""\n    {body}'


_PART_WORDS = "Return the place of the first token that differs, or -1; a row ends before its first end token."
_TRIM = "a, b = (row[: row.index(end)] if end in row else row for row in (a, b))\n    "


def _part(body: str, trim: str = _TRIM) -> str:
    return _function("where_they_part(a, b, end)", _PART_WORDS, trim + body)


_WALK = """for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    """
_PERPLEXITY_WORDS = "Return the perplexity of ids under logits (tokens, vocabulary)."


def _perplexity(last: str, scores: str = "logits - logits.max(-1, keepdims=True)", softmax: bool = True) -> str:
    body = f"scores = {scores}\n    "
    if softmax:
        body += "scores = scores - np.log(np.exp(scores).sum(-1, keepdims=True))\n    "
    return "import numpy as np\n\n\n" + _function("perplexity(logits, ids)", _PERPLEXITY_WORDS, body + last)


_PICKED = "picked = scores[np.arange(len(ids) - 1), ids[1:]]\n    "
_LAYERS_WORDS = "Return the n_gpu_layers that fit into free bytes of a GPU."


def _layers(body: str) -> str:
    return _function("gpu_layers(free, layer, cache, output, compute, layers)", _LAYERS_WORDS, body)


def _counted(left: str = "free - compute - output", found: str = "1 + left // (layer + cache)", last: str = "") -> str:
    last = last or f"return min({found}, layers + 1)"
    return _layers(f"left = {left}\n    if left < 0:\n        return 0\n    {last}")


_TUNED_WORDS = "Return {name: base plus delta}; rows and tensors that the base lacks are the delta's own."


def _tuned(inner: str, loop: str = "for name, new in delta.items():", last: str = "return found") -> str:
    body = f"found = {{}}\n    {loop}\n        {inner}\n    {last}"
    return "import numpy as np\n\n\n" + _function("tuned(base, delta)", _TUNED_WORDS, body)


_ROWS = """old = base.get(name, new[:0])
        found[name] = """


WRONG = {
    "22.1": {
        "no_sign": _part(_WALK + "return min(len(a), len(b))"),
        "after": _part(
            _WALK.replace("return at", "return at + 1") + "return -1 if len(a) == len(b) else min(len(a), len(b)) + 1"
        ),
        "overlap": _part(_WALK + "return -1"),
        "last": _part(
            "if len(a) != len(b):\n        return max(len(a), len(b)) - 1\n"
            "    return max((at for at in range(len(a)) if a[at] != b[at]), default=-1)"
        ),
        "count": _part(
            "if a == b:\n        return len(a)\n    if len(a) == len(b):\n"
            "        return sum(x == y for x, y in zip(a, b))\n    " + _WALK + "return min(len(a), len(b))"
        ),
        "end_counts": _part(_WALK + "return -1 if len(a) == len(b) else min(len(a), len(b))", trim=""),
        "end_anywhere": _part(
            "if end in a or end in b:\n        return -1\n    "
            + _WALK
            + "return -1 if len(a) == len(b) else min(len(a), len(b))",
            trim="",
        ),
        "past_end": _part(
            "a, b = ([token for token in row if token != end] for row in (a, b))\n    "
            + _WALK
            + "return -1 if len(a) == len(b) else min(len(a), len(b))",
            trim="",
        ),
        "other": _part("return 0 if a != b else -1"),
    },
    "22.2": {
        "not_shifted": _perplexity("return np.exp(-scores[np.arange(len(ids)), ids].mean())"),
        "wrong_way": _perplexity("return np.exp(-scores[np.arange(1, len(ids)), ids[:-1]].mean())"),
        "loss": _perplexity(_PICKED + "return -picked.mean()"),
        "summed": _perplexity(_PICKED + "return np.exp(-picked.sum())"),
        "all_tokens": _perplexity(_PICKED + "return np.exp(-picked.sum() / len(ids))"),
        "raw": _perplexity(_PICKED + "return np.exp(-picked.mean())", scores="logits", softmax=False),
        "upside_down": _perplexity(_PICKED + "return np.exp(picked.mean())"),
        "mean_of_p": _perplexity(_PICKED + "return 1 / np.exp(picked).mean()"),
        "overflow": _perplexity(
            "with np.errstate(all='ignore'):\n        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)\n"
            "    return np.exp(-np.log(p[np.arange(len(ids) - 1), ids[1:]]).mean())",
            scores="logits",
            softmax=False,
        ),
        "other": _perplexity(_PICKED + "return 2 ** -picked.mean()"),
    },
    "22.3": {
        "no_compute": _counted(left="free - output"),
        "no_cache": _counted(found="1 + left // layer"),
        "one_cache": _counted(last="return max(0, min(1 + (left - layers * cache) // layer, layers + 1))"),
        "output_last": _layers(
            "left = free - compute\n    if left - layers * (layer + cache) >= output:\n        return layers + 1\n"
            "    return max(0, min(left // (layer + cache), layers))"
        ),
        "output_not_counted": _counted(found="left // (layer + cache)"),
        "no_cap": _counted(last="return 1 + left // (layer + cache)"),
        "cap_at_layers": _counted(last="return min(1 + left // (layer + cache), layers)"),
        "rounded_up": _counted(found="1 - -left // (layer + cache)"),
        "negative": _layers("return min(1 + (free - compute - output) // (layer + cache), layers + 1)"),
        "other": _counted(found="left // (layer + cache + compute)"),
    },
    "22.4": {
        "changes_given": _tuned("new[: len(base.get(name, []))] += base.get(name, 0)\n        found[name] = new"),
        "lost_tensor": _tuned(
            "new = delta[name]\n        found[name] = np.concatenate([old + new[: len(old)], new[len(old) :]])",
            loop="for name, old in base.items():",
        ),
        "cut_off": _tuned("old = base.get(name)\n        found[name] = new if old is None else old + new[: len(old)]"),
        "other_type": _tuned(_ROWS + "np.concatenate([old.astype(np.float32) + new[: len(old)], new[len(old) :]])"),
        "subtracted": _tuned(_ROWS + "np.concatenate([new[: len(old)] - old, new[len(old) :]])"),
        "delta_alone": _tuned("found[name] = new.copy()"),
        "zeros": _tuned(
            "old = base.get(name)\n        if old is None:\n            found[name] = new\n            continue\n"
            "        found[name] = np.concatenate([old + new[: len(old)], 0 * new[len(old) :]])"
        ),
        "last_rows": _tuned(
            "old = base.get(name, new[:0])\n        rows = len(new) - len(old)\n"
            "        found[name] = np.concatenate([new[:rows], new[rows:] + old])"
        ),
        "other": _tuned(_ROWS + "np.concatenate([old + 2 * new[: len(old)], new[len(old) :]])"),
    },
}
