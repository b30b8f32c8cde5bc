"""Typical wrong answers to the exercises of notebook 02: {exercise: {key of its hint: source}}."""

MEAN = "mean_row(ids, table)"
DUPLICATES = "duplicates(rows, least)"
SEARCH = "search(query, rows, k)"


def _code(signature: str, *body: str) -> str:
    lines = (f"    {line}".rstrip() + "\n" for line in body)
    return f"import numpy as np\n\n\ndef {signature}:\n" + "".join(lines)


def _pairs(
    condition: str = "c[i, j] >= least", end: str = "return [p for _, p in sorted(found, reverse=True)]", **more
):
    return _code(
        DUPLICATES,
        more.get("units", "u = rows / np.linalg.norm(rows, axis=1, keepdims=True)"),
        "c = u @ u.T",
        "found = []",
        "for i in range(len(rows)):",
        f"    for j in {more.get('js', 'range(i + 1, len(rows))')}:",
        f"        if {condition}:",
        f"            found.append({more.get('item', '(c[i, j], (i, j))')})",
        end,
    )


WRONG = {
    "02.1": {
        "number": _code(MEAN, "return table[ids].mean()"),
        "columns": _code(MEAN, "return table[ids].mean(axis=1)"),
        "sum": _code(MEAN, "return sum(table[i] for i in ids)"),
        "rows": _code(MEAN, "return table[ids]"),
        "all": _code(MEAN, "return table.mean(axis=0)"),
        "table": _code(MEAN, "return table[ids].sum(axis=0) / len(table)"),
        "numbers": _code(MEAN, "rows = table[ids]", "return rows.sum(0) / len(rows[0])"),
        "once": _code(MEAN, "return np.mean([table[i] for i in set(ids)], axis=0)"),
        "median": _code(MEAN, "return np.median(table[ids], axis=0)"),
        "keepdims": _code(MEAN, "return table[ids].mean(axis=0, keepdims=True)"),
        "ids": _code(MEAN, "return sum(ids) / len(ids)"),
    },
    "02.2": {
        "dot": _code(SEARCH, "scores = rows @ query / np.linalg.norm(query)", "return np.argsort(-scores)[:k]"),
        "columns": _code(
            SEARCH, "scores = rows / np.linalg.norm(rows, axis=0) @ query", "return np.argsort(-scores)[:k]"
        ),
        "squared": _code(SEARCH, "scores = rows @ query / (rows ** 2).sum(axis=1)", "return np.argsort(-scores)[:k]"),
        "distance": _code(SEARCH, "return np.argsort(np.linalg.norm(rows - query, axis=1))[:k]"),
        "farthest": _code(
            SEARCH, "scores = rows @ query / np.linalg.norm(rows, axis=1)", "return np.argsort(scores)[:k]"
        ),
        "backwards": _code(
            SEARCH, "scores = rows @ query / np.linalg.norm(rows, axis=1)", "return np.argsort(scores)[-k:]"
        ),
        "keepdims": _code(
            SEARCH,
            "scores = rows @ query / np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(query)",
            "return np.argsort(-scores)[:k]",
        ),
        "argmax": _code(SEARCH, "return np.argmax(rows @ query / np.linalg.norm(rows, axis=1))"),
        "all_rows": _code(SEARCH, "return np.argsort(-(rows @ query) / np.linalg.norm(rows, axis=1))"),
        "absolute": _code(
            SEARCH, "scores = abs(rows @ query) / np.linalg.norm(rows, axis=1)", "return np.argsort(-scores)[:k]"
        ),
        "scores": _code(
            SEARCH,
            "scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)",
            "return np.sort(scores)[::-1][:k]",
        ),
        "rounded": _code(
            SEARCH,
            "scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)",
            "return np.argsort(-scores.round(2), kind='stable')[:k]",
        ),
        "from_one": _code(
            SEARCH, "scores = rows @ query / np.linalg.norm(rows, axis=1)", "return np.argsort(-scores)[:k] + 1"
        ),
        "without_best": _code(
            SEARCH, "scores = rows @ query / np.linalg.norm(rows, axis=1)", "return np.argsort(-scores)[1 : k + 1]"
        ),
        "column": _code(
            SEARCH, "units = rows / np.linalg.norm(rows, axis=1)", "return np.argsort(-(units @ query))[:k]"
        ),
    },
    "02.3": {
        "unsorted": _pairs(end="return [p for _, p in found]"),
        "ascending": _pairs(end="return [p for _, p in sorted(found)]"),
        "itself": _pairs(js="range(len(rows))", end="return [p for _, p in found]"),
        "twice": _pairs("c[i, j] >= least and i != j", js="range(len(rows))", end="return [p for _, p in found]"),
        "diagonal": _pairs(js="range(i, len(rows))", end="return [p for _, p in found]"),
        "dot": _pairs(units="u = rows"),
        "upside": _pairs(item="(c[i, j], (j, i))"),
        "best": _pairs(end="return [p for _, p in sorted(found, reverse=True)][:1]"),
        "next_only": _pairs(js="range(i + 1, min(i + 2, len(rows)))"),
        "with_scores": _pairs(end="return [(*p, s) for s, p in sorted(found, reverse=True)]"),
        "scores_first": _pairs(end="return [(s, *p) for s, p in sorted(found, reverse=True)]"),
        "from_one": _pairs(item="(c[i, j], (i + 1, j + 1))"),
        "columns": _pairs(units="u = rows / np.linalg.norm(rows, axis=0)"),
        "everything": _pairs(units="u = rows / np.linalg.norm(rows)"),
        "above": _pairs("c[i, j] > least"),
        "sets": _pairs(end="return [set(p) for _, p in sorted(found, reverse=True)]"),
        "column": _pairs(units="u = rows / np.linalg.norm(rows, axis=1)"),
    },
}
