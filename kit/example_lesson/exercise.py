"""The exercise of notebook NUMBER: how far are the rounded weights from the original ones?"""

from llmnotes.exercises.exercise import Answer, Exercise, recognize

CASES = [([0.5, -0.25, 1.0], [0.5, 0.25, 0.0]), ([3.0, 1.0], [1.0, 2.0])]  # weights, rounded


def check_mean_error(answer: Answer) -> str | None:
    """Return None for the mean absolute error, or which mistake the numbers look like."""
    differences = [[a - b for a, b in zip(*case, strict=True)] for case in CASES]
    mistakes = {
        "signed": [sum(row) / len(row) for row in differences],
        "squared": [sum(d * d for d in row) / len(row) for row in differences],
        "sum": [sum(map(abs, row)) for row in differences],
    }
    right = [sum(map(abs, row)) / len(row) for row in differences]
    return recognize([answer(list(weights), list(rounded)) for weights, rounded in CASES], right, mistakes)


EXERCISES = [
    Exercise(
        id="NUMBER.1",
        title="Mean error",
        level="easy",
        minutes=3,
        task="""Write `mean_error(weights, rounded)`: the mean of the distances between each weight and its rounded
value. For `[1.0, 3.0]` rounded to `[2.0, 3.0]` it is 0.5.""",
        clue="The distance between 1 and 2 is the same as the distance between 2 and 1.",
        name="mean_error",
        stub='''def mean_error(weights, rounded):
    """Return the mean distance between two lists of numbers."""
    ...''',
        solution='''def mean_error(weights, rounded):
    """Return the mean distance between two lists of numbers."""
    return sum(abs(a - b) for a, b in zip(weights, rounded, strict=True)) / len(weights)''',
        check=check_mean_error,
        hints={
            "signed": "differences of opposite signs cancel here. A distance has no sign.",
            "squared": "this is the mean squared error. Use the distance itself, not its square.",
            "sum": "this is the sum of the distances. Divide it by how many there are.",
            "other": "the numbers differ. Try it by hand first: [1, 3] rounded to [2, 3].",
        },
    )
]
