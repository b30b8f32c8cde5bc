"""Typical wrong answers to the exercises of notebook 02: {exercise: {key of its hint: source}}."""

SEARCH = "search(query, rows, k)"


def _code(signature: str, *body: str) -> str:
    lines = (f"    {line}".rstrip() + "\n" for line in body)
    return f"import numpy as np\n\n\ndef {signature}:\n" + "".join(lines)


WRONG = {
    "02.1": {
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
    },
}
