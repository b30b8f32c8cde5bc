"""Typical wrong answers to the exercises of notebook 00: {exercise: {key of its hint: source}}."""

WRONG = {
    "00.1": {
        "bytes": "def bits_per_weight(size, parameters):\n    return size / parameters",
        "upside_down": "def bits_per_weight(size, parameters):\n    return 8 * parameters / size",
        "kibi": "def bits_per_weight(size, parameters):\n    return 8 * (size / 1024) / parameters",
        "whole": "def bits_per_weight(size, parameters):\n    return 8 * size // parameters",
        "rounded": "def bits_per_weight(size, parameters):\n    return round(8 * size / parameters, 2)",
        "text": "def bits_per_weight(size, parameters):\n    return f'{8 * size / parameters} bits'",
        "other": "def bits_per_weight(size, parameters):\n    return 8 * size + parameters",
    },
}
