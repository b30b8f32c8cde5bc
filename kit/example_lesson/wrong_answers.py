"""Typical wrong answers to the exercises of notebook NUMBER: {exercise: {key of its hint: source}}."""

WRONG = {
    "NUMBER.1": {
        "signed": "def mean_error(weights, rounded):\n"
        "    return sum(a - b for a, b in zip(weights, rounded)) / len(weights)",
        "squared": "def mean_error(weights, rounded):\n"
        "    return sum((a - b) ** 2 for a, b in zip(weights, rounded)) / len(weights)",
        "sum": "def mean_error(weights, rounded):\n    return sum(abs(a - b) for a, b in zip(weights, rounded))",
        "other": "def mean_error(weights, rounded):\n    return sum(weights) + sum(rounded)",
    },
}
