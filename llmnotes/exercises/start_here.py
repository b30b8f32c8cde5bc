"""The exercise of notebook 00: how many bits does each weight take?"""

from llmnotes.exercises.exercise import Answer, Exercise, recognize

CASES = [
    (100, 200, 4.0),
    (1_000, 3_000, 8 / 3),
    (2_000, 1_000, 16.0),
    (7_345_000, 3_670_000, 8 * 7_345_000 / 3_670_000),
]


def check_bits_per_weight(answer: Answer) -> str | None:
    """Return None for bits per weight, or which mistake the numbers look like."""
    found = [answer(size, parameters) for size, parameters, _ in CASES]
    if any(isinstance(value, str) for value in found):
        return "text"
    mistakes = {
        "bytes": [size / parameters for size, parameters, _ in CASES],
        "upside_down": [8 * parameters / size for size, parameters, _ in CASES],
        "kibi": [8 * size / 1024 / parameters for size, parameters, _ in CASES],
        "whole": [8 * size // parameters for size, parameters, _ in CASES],
    }
    rights = [right for _, _, right in CASES]
    key = recognize(found, rights, mistakes)
    rounded = (recognize(found, [round(right, digits) for right in rights], {}) for digits in range(5))
    return "rounded" if key == "other" and None in rounded else key


EXERCISES = [
    Exercise(
        id="00.1",
        title="Bits per weight",
        level="easy",
        minutes=3,
        task="""A model file has a size in bytes and holds a number of weights. Write the function that says how many
bits of the file fall to each weight. For a file of 100 bytes that holds 200 weights, the answer is 4.""",
        clue="How many bits are in a byte? And which of the two numbers shares out the other?",
        name="bits_per_weight",
        stub='''def bits_per_weight(size, parameters):
    """Return the bits of a file of `size` bytes for each of its `parameters`."""
    ...''',
        solution='''def bits_per_weight(size, parameters):
    """Return the bits of a file of `size` bytes for each of its `parameters`."""
    return 8 * size / parameters''',
        check=check_bits_per_weight,
        hints={
            "bytes": "this counts bytes per weight. The size is in bytes; the question is about bits.",
            "upside_down": "this shares the weights out among the bits. We want the bits shared out among the weights.",
            "kibi": "the size is in bytes already, so nothing has to be divided by 1,024.",
            "whole": "the numbers are cut to whole ones. A weight may well take 16.01 bits: use / in place of //.",
            "rounded": "the numbers are rounded. Return them as they are.",
            "text": "this returns a text. Return a number.",
            "other": "the numbers differ. Try it by hand first: 100 bytes hold 200 weights.",
        },
    )
]
