"""Typical wrong answers to the exercises of notebook 03: {exercise: {key of its hint: source}}."""


def _without(line: str) -> str:
    shares = "shares = vectors @ direction / (direction @ direction)"
    return f"import numpy as np\n\n\ndef without(vectors, direction):\n    {shares}\n    return {line}"


_MOST_ALIKE = """import numpy as np


def most_alike(table, who):
    {scale}
    scores = {scores}
    {last}"""
_SCALE = "scaled = table / table.std(axis=0)"
_SCORES = "scaled @ scaled[who] / np.linalg.norm(scaled, axis=1)"
_LAST = "scores[who] = -np.inf\n    return int(scores.argmax())"


def _most_alike(scale: str = _SCALE, scores: str = _SCORES, last: str = _LAST) -> str:
    return _MOST_ALIKE.format(scale=scale, scores=scores, last=last)


def _cosines(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f"import numpy as np\n\n\ndef cosine_similarity(table, queries):\n    {body}"


_ROWS = "table = table / np.linalg.norm(table, axis=1, keepdims=True)"
_QUERIES = "queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)"

WRONG = {
    "03.1": {
        "no_length": _without("vectors - np.outer(vectors @ direction, direction)"),
        "one_length": _without("vectors - np.outer(vectors @ direction / np.linalg.norm(direction), direction)"),
        "both_lengths": _without(
            "vectors - (vectors @ direction)[:, None] * direction"
            " / np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(direction)"
        ),
        "own_length": _without("vectors - np.outer(vectors @ direction / (vectors**2).sum(axis=1), direction)"),
        "shadow": _without("np.outer(shares, direction)"),
        "direction": _without("vectors - direction"),
        "added": _without("vectors + np.outer(shares, direction)"),
        "numbers": _without("vectors - shares[:, None]"),
        "no_arrows": _without("vectors - shares * direction"),
        "outer_turned": _without("vectors - np.outer(direction, shares)"),
    },
    "03.2": {
        "itself": _most_alike(last="return int(scores.argmax())"),
        "zero_self": _most_alike(last="scores[who] = 0\n    return int(scores.argmax())"),
        "minus_one": _most_alike(
            scores=f"{_SCORES} / np.linalg.norm(scaled[who])", last="scores[who] = -1\n    return int(scores.argmax())"
        ),
        "rounded": _most_alike(
            scores=f"{_SCORES} / np.linalg.norm(scaled[who])",
            last="scores[who] = -np.inf\n    return int(scores.round(2).argmax())",
        ),
        "one_based": _most_alike(last=f"{_LAST} + 1"),
        "score": _most_alike(
            scores=f"{_SCORES} / np.linalg.norm(scaled[who])", last="scores[who] = -np.inf\n    return scores.max()"
        ),
        "fraction": _most_alike(last="scores[who] = -np.inf\n    return float(scores.argmax())"),
        "shorter": _most_alike(last="return int(np.delete(scores, who).argmax())"),
        "distance": _most_alike(scores="-np.linalg.norm(scaled - scaled[who], axis=1)"),
        "unscaled": _most_alike(scale="scaled = table"),
        "raw_dot": _most_alike(scale="scaled = table", scores="scaled @ scaled[who]"),
        "long_ones": _most_alike(scores="scaled @ scaled[who]"),
        "rows": _most_alike(
            scale="scaled = (table - table.mean(axis=1, keepdims=True)) / table.std(axis=1, keepdims=True)"
        ),
        "standardized": _most_alike(scale="scaled = (table - table.mean(axis=0)) / table.std(axis=0)"),
        "column_length": _most_alike(scale="scaled = table / np.linalg.norm(table, axis=0)"),
        "largest": _most_alike(scale="scaled = table / table.max(axis=0)"),
        "mean_only": _most_alike(scale="scaled = table - table.mean(axis=0)"),
        "second": _most_alike(last="return int(np.argsort(-scores.round(9), kind='stable')[1])"),
        "absolute": _most_alike(
            scores=f"np.abs({_SCORES})", last="scores[who] = -np.inf\n    return int(scores.argmax())"
        ),
        "least": _most_alike(last="return int(scores.argmin())"),
    },
    "03.3": {
        "raw_dot": _cosines("return queries @ table.T"),
        "turned": _cosines(_ROWS, _QUERIES, "return table @ queries.T"),
        "one_sided": _cosines(_ROWS, "return queries @ table.T"),
        "queries_only": _cosines(_QUERIES, "return queries @ table.T"),
        "whole": _cosines("return queries @ table.T / (np.linalg.norm(table) * np.linalg.norm(queries))"),
        "columns": _cosines(
            "table = table / np.linalg.norm(table, axis=0)",
            "queries = queries / np.linalg.norm(queries, axis=0)",
            "return queries @ table.T",
        ),
        "no_keepdims": _cosines("table = table / np.linalg.norm(table, axis=1)", _QUERIES, "return queries @ table.T"),
        "squared": _cosines(
            "table = table / (table * table).sum(axis=1, keepdims=True)",
            "queries = queries / (queries * queries).sum(axis=1, keepdims=True)",
            "return queries @ table.T",
        ),
        "brackets": _cosines(
            "rows, asks = np.linalg.norm(table, axis=1), np.linalg.norm(queries, axis=1, keepdims=True)",
            "return queries @ table.T / asks * rows",
        ),
        "lengths_turned": _cosines(
            "asks, rows = np.linalg.norm(queries, axis=1), np.linalg.norm(table, axis=1)",
            "return queries @ table.T / np.outer(rows, asks)",
        ),
        "inner_sizes": _cosines(_ROWS, _QUERIES, "return queries @ table"),
        "scaled": _cosines(
            "mean, spread = table.mean(axis=0), table.std(axis=0)",
            "table, queries = (table - mean) / spread, (queries - mean) / spread",
            _ROWS,
            _QUERIES,
            "return queries @ table.T",
        ),
    },
}
