"""Typical wrong answers to the exercises of notebook 01: {exercise: {key of its hint: source}}."""

# What every answer begins with; its body follows.
ONE_HOT, COSINE, NEAREST = "one_hot(ids, size)", "cosine_of(a, b)", "nearest(row, table, k)"
POOL, THRESHOLD = "pool(vectors, mask)", "best_threshold(labels, scores)"


def _code(signature: str, *body: str) -> str:
    lines = (f"    {line}".rstrip() + "\n" for line in body)
    return f"import numpy as np\n\n\ndef {signature}:\n" + "".join(lines)


WRONG = {
    "01.1": {
        "padding": _code(ONE_HOT, "return np.eye(size)[ids]"),
        "dropped": _code(ONE_HOT, "return np.eye(size)[[i for i in ids if i >= 0]]"),
        "transposed": _code(ONE_HOT, "return np.eye(size)[ids].T"),
        "one_vector": _code(ONE_HOT, "row = np.zeros(size)", "row[ids] = 1", "return row"),
        "counts": _code(ONE_HOT, "return np.bincount([i for i in ids if i >= 0], minlength=size)"),
        "from_one": _code(
            ONE_HOT,
            "rows = np.zeros((len(ids), size))",
            "for row, i in enumerate(ids):",
            "    rows[row, i - 1] = 1",
            "return rows",
        ),
        "values": _code(
            ONE_HOT, "rows = np.zeros((len(ids), size))", "rows[np.arange(len(ids)), ids] = ids", "return rows"
        ),
        "square": _code(ONE_HOT, "return np.eye(len(ids), size)"),
        "other": _code(ONE_HOT, "return np.zeros((len(ids), size))"),
    },
    "01.2": {
        "dot": _code(COSINE, "return a @ b"),
        "one_length": _code(COSINE, "return a @ b / np.linalg.norm(a)"),
        "squares": _code(COSINE, "return a @ b / ((a @ a) * (b @ b))"),
        "sum_of_lengths": _code(COSINE, "return a @ b / (np.linalg.norm(a) + np.linalg.norm(b))"),
        "distance": _code(COSINE, "return np.linalg.norm(a - b)"),
        "count": _code(COSINE, "return (a * b).mean()"),
        "other": _code(COSINE, "return np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))"),
    },
    "01.3": {
        "itself": _code(
            NEAREST,
            "units = table / np.linalg.norm(table, axis=1, keepdims=True)",
            "return np.argsort(-(units @ units[row]))[:k]",
        ),
        "cut_short": _code(
            NEAREST,
            "units = table / np.linalg.norm(table, axis=1, keepdims=True)",
            "return np.argsort(-(units @ units[row]))[1:k]",
        ),
        "farthest": _code(
            NEAREST,
            "units = table / np.linalg.norm(table, axis=1, keepdims=True)",
            "return np.argsort(units @ units[row])[:k]",
        ),
        "dot": _code(NEAREST, "scores = table @ table[row]", "scores[row] = -np.inf", "return np.argsort(-scores)[:k]"),
        "distance": _code(NEAREST, "return np.argsort(np.linalg.norm(table - table[row], axis=1))[1 : k + 1]"),
        "backwards": _code(
            NEAREST,
            "units = table / np.linalg.norm(table, axis=1, keepdims=True)",
            "return np.argsort(units @ units[row])[-k - 1 : -1]",
        ),
        "other": _code(NEAREST, "return np.arange(k)"),
    },
    "01.4": {
        "padding": _code(POOL, "return vectors.mean(axis=0)"),
        "front": _code(POOL, "return vectors[: mask.sum()].mean(axis=0)"),
        "all_counted": _code(POOL, "return (vectors * mask[:, None]).mean(axis=0)"),
        "sum": _code(POOL, "return mask @ vectors"),
        "axis": _code(POOL, "return vectors[mask == 1].mean(axis=1)"),
        "last": _code(POOL, "return vectors[mask == 1][-1]"),
        "other": _code(POOL, "return vectors[mask == 0].mean(axis=0)"),
    },
    "01.5": {
        "value": _code(
            THRESHOLD,
            "called = scores >= scores[:, None]",
            "return (2 * (called & labels).sum(axis=1) / (called.sum(axis=1) + labels.sum())).max()",
        ),
        "index": _code(
            THRESHOLD,
            "called = scores >= scores[:, None]",
            "return (2 * (called & labels).sum(axis=1) / (called.sum(axis=1) + labels.sum())).argmax()",
        ),
        "sorted": _code(
            THRESHOLD,
            "right = np.cumsum(labels[::-1])[::-1]",
            "called = np.arange(len(scores), 0, -1)",
            "return scores[np.argmax(2 * right / (called + labels.sum()))]",
        ),
        "accuracy": _code(THRESHOLD, "return max(scores, key=lambda score: ((scores >= score) == labels).mean())"),
        "recall": _code(THRESHOLD, "return max(scores, key=lambda score: ((scores >= score) & labels).sum())"),
        "strict": _code(
            THRESHOLD,
            "def f1(threshold):",
            "    called = scores > threshold",
            "    return 2 * (called & labels).sum() / (called.sum() + labels.sum())",
            "",
            "return max(scores, key=f1)",
        ),
        "midway": _code(THRESHOLD, "return (scores[labels].mean() + scores[~labels].mean()) / 2"),
        "other": _code(THRESHOLD, "return 0.5"),
    },
}
