"""The exercises of notebook 13: a weight that changes sides, a scale for each block, packed codes, and a choice."""

from llmnotes.exercises.exercise import Exercise
from llmnotes.exercises.fewer_bits_checks import check_block_scales, check_pick, check_read, check_store

_STORE = '''def store(w):
    """Return the codes of w in 8 bits, as int8, and their scale."""
    s = np.abs(w).max() / {top}
    q = np.rint(w / s).astype(np.int8)
    return {result}'''
_SCALES = '''def block_scales(w, bits, block):
    """Return the scale of each block of w: (blocks, 1)."""
    {}'''
_READ = '''def read(packed):
    """Return the codes of packed bytes: (blocks, 16) -> (blocks, 32)."""
    low, high = packed & 15, packed >> 4
    codes = {codes}
    return {result}'''
_PICK = '''def pick(weights, per_token, tokens, free, offers):
    """Return the (bits, block) with the smallest error that fits, or "nothing"."""
    {}'''

EXERCISES = [
    Exercise(
        id="13.1",
        title="A weight that changes sides",
        level="easy",
        minutes=6,
        task="""*A bug hunt.* A colleague shows you this function. “It works”, she says, “but the most important weight
often comes back completely wrong.” Return `q, s` in place of the dots, run the cell, and look at the largest weight.
Then mend the function. (An int8 holds whole numbers from −128 to 127, and `astype(np.int8)` doesn't complain about
others.)""",
        clue="Print `np.rint(w / s)` before it becomes an int8. Which code does the largest weight get?",
        name="store",
        stub=_STORE.format(top=128, result="...  # q, s"),
        solution=_STORE.format(top=127, result="q, s"),
        check=check_store,
        hints={
            "two": "return two things: the codes and the scale.",
            "int8": "the codes aren't int8, so they take more than 8 bits: keep astype(np.int8).",
            "unsigned": "uint8 has no negative numbers: keep astype(np.int8).",
            "swapped": "the codes come first, and then the scale.",
            "clipped": "the largest weight keeps its side now, but it's off by a whole step. No weight needs to be: "
            "let the largest land on a code that there is.",
        },
        given="import numpy as np",
    ),
    Exercise(
        id="13.2",
        title="A scale for each block",
        level="easy",
        minutes=8,
        task="""Write `block_scales(w, bits, block)`. It gets an array of weights of any shape and cuts it into blocks
of `block` neighbours; `w.reshape(-1, block)` does that, one block in each row. Return a scale for each block, by the
formula of 13.2, in the shape `(blocks, 1)`. If yours is right, the lesson goes on with it.""",
        clue="`quantize_one` has the formula for one scale. `.max(axis=1, keepdims=True)` takes the largest of each "
        "row, in a column that each row can be divided by.",
        name="block_scales",
        stub=_SCALES.format("..."),
        solution=_SCALES.format(
            "largest = np.abs(w.reshape(-1, block)).max(axis=1, keepdims=True)\n"
            "    return largest / (2 ** (bits - 1) - 1)"
        ),
        check=check_block_scales,
        hints={
            "sign": "this takes the largest number, and the sign counts in it. The weight that is largest in size may "
            "be negative: take np.abs first.",
            "whole": "this is one scale for all blocks. Take the largest of each row: axis=1.",
            "columns": "this takes the largest of each column, over the blocks. The blocks are the rows: axis=1.",
            "flat": "the numbers are right, in the shape (blocks,). With keepdims=True they stand in a column.",
            "seven": "7 is the largest code of 4 bits only. For any number of bits it is 2 ** (bits - 1) - 1.",
            "one_more": "the largest weight would land on 2 ** (bits - 1), one more than the largest code.",
            "bits": "this divides by the number of bits. Divide by the largest code, 2 ** (bits - 1) - 1.",
        },
        kept=True,
        given="import numpy as np",
    ),
    Exercise(
        id="13.3",
        title="All the right numbers",
        level="medium",
        minutes=10,
        task="""*A bug hunt.* Somebody unpacks the bytes of `pack` with this `read`. Each block comes out with the right
32 codes, and the model talks nonsense. Find out why, mend `codes`, and return them as whole numbers from −8 to 7.
(`& 15` keeps the four bits on the right, and `>> 4` moves the others there. The check packs three blocks of its own, so
leave `pack` as it is.) If yours is right, the lesson goes on with it.""",
        clue="Look at the picture again: which weight shares its byte with weight 0? And which one stands next to it "
        "in `np.stack([low, high], axis=-1)`?",
        name="read",
        stub=_READ.format(
            codes="np.stack([low, high], axis=-1).reshape(-1, 32)", result="...  # codes.astype(int) - 8"
        ),
        solution=_READ.format(codes="np.concatenate([low, high], axis=1)", result="codes.astype(int) - 8"),
        check=check_read,
        hints={
            "neighbours": "here neighbours share a byte, weight 0 with weight 1. In `pack`, weight 0 and weight 16 do. "
            "Both orders exist in real formats.",
            "offset": "the order is right. The codes still go from 0 to 15: take the 8 off again.",
            "swapped": "the two halves of each block are swapped: weight 0 is in the low half of its byte.",
            "blocks": "this puts the low halves of all blocks first. They belong to their own block: axis=1.",
            "unsigned": "the order is right, but a byte has no negative numbers, so −4 became 252: make it int first.",
        },
        kept=True,
        given="import numpy as np",
    ),
    Exercise(
        id="13.4",
        title="Pick the setting",
        level="hard",
        minutes=12,
        task="""*A task from work.* Write `pick`. It gets a model's number of weights, the bytes of memory that a token
of text takes, the number of tokens, the free bytes of a card, and the offers, `{(bits, block): error}`. Each block has
a scale of 16 bits. Return the offer with the smallest error that fits, and `"nothing"` if nothing does. The check tries
some models on cards, with 3 to 6 bits as the offers, in blocks of 16 to 64 or of a row, 768.""",
        clue="How many bits does one weight take, its share of the scale included? How many bytes are that for all of "
        "them, and how many for the text?",
        name="pick",
        stub=_PICK.format("..."),
        solution=_PICK.format(
            """fits = {}
    for (bits, block), error in offers.items():
        size = weights * (bits + 16 / block) / 8 + tokens * per_token
        if size <= free:
            fits[bits, block] = error
    return min(fits, key=fits.get) if fits else "nothing\""""
        ),
        check=check_pick,
        hints={
            "no_scale": "the scales are missing: each weight has a share of 16 / block bits in them.",
            "no_text": "the text is missing: each of its tokens takes memory, too.",
            "bits": "nothing ever fits in yours. Are the size and `free` both in bytes? A byte has 8 bits.",
            "most_bits": "this takes the most bits that fit. More bits may have the larger error: compare the errors.",
            "first": "this takes the first offer that fits. Compare the errors: they decide.",
            "last": "this takes the last offer that fits. Compare the errors: they decide.",
            "smallest": "this takes the smallest that fits, and something better would fit as well.",
            "error": "this is the error. Return the setting that has it.",
            "none": 'where nothing fits, return the word "nothing"; yours returns None there.',
        },
    ),
]
