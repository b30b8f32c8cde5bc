"""The exercises of notebook 23: top-p, a stream put together, what a grammar allows next, pieces that overlap."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

CASES = (  # probabilities and a share, chosen so that every mistake below gives other numbers
    ([0.1, 0.4, 0.05, 0.25, 0.2], 0.6),
    ([0.02, 0.55, 0.03, 0.3, 0.1], 0.5),
    ([0.25, 0.3, 0.2, 0.15, 0.1], 0.97),
)
STREAM = [
    "",
    ": still thinking",
    'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}}]}',
    "",
    'data: {"choices": [{"index": 0, "delta": {"content": " The"}}]}',
    'data: {"choices": [{"index": 0, "delta": {"content": " go"}}]}',
    ": still thinking",
    'data: {"choices": [{"index": 0, "delta": {"content": "ose"}}]}',
    'data: {"choices": [{"index": 0, "delta": {"content": " says: \\n"}}]}',
    'data: {"choices": [{"index": 0, "delta": {"content": " honk"}}]}',
    'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
    'data: {"choices": [], "usage": {"total_tokens": 15}}',
    "data: [DONE]",
    "",
]
PIECES = (" The", " go", "ose", " says: \n", " honk")
ANSWERS = ["red", "reddish", "blue", "black"]
SENTENCES = [f"Sentence {number}." for number in range(1, 8)]


def cut(probabilities: np.ndarray, share: float, *, reach: bool = True, scale: bool = True) -> np.ndarray:
    """Return top-p's probabilities: without `reach`, the token with which the share is reached is left out."""
    p = np.asarray(probabilities)
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - (p[order] if reach else 0)
    kept = np.zeros_like(p)
    kept[order[before < share]] = p[order[before < share]]
    return kept / kept.sum() if scale and kept.sum() else kept


def check_nucleus(answer: Answer) -> str | None:
    """Return None for the probabilities that top-p leaves, or which mistake they look like."""
    given = [np.asarray(answer(list(p), share), dtype=float) for p, share in CASES]
    if any(one.shape != (5,) for one in given):
        return "left_out"
    arrays = [(np.asarray(p), share) for p, share in CASES]
    mistakes = {
        "not_scaled": [cut(p, share, scale=False) for p, share in arrays],
        "stops_short": [cut(p, share, reach=False) for p, share in arrays],
        "threshold": [_scaled(np.where(p >= share, p, 0)) for p, share in arrays],
        "min_p": [_scaled(np.where(p >= share * p.max(), p, 0)) for p, share in arrays],
        "as_they_come": [_scaled(np.where(np.cumsum(p) - p < share, p, 0)) for p, share in arrays],
        "least_first": [_scaled(_least(p, share)) for p, share in arrays],
        "sorted": [np.sort(cut(p, share))[::-1] for p, share in arrays],
    }
    return recognize(given, [cut(p, share) for p, share in arrays], mistakes)


def _scaled(p):
    return p / p.sum() if p.sum() else p


def _least(p, share):
    order = np.argsort(p)
    kept = np.zeros_like(p)
    chosen = order[np.cumsum(p[order]) - p[order] < share]
    kept[chosen] = p[chosen]
    return kept


def check_text_of(answer: Answer) -> str | None:
    """Return None for the text of a stream, or which mistake it looks like."""
    found = answer(list(STREAM))
    if not isinstance(found, str):
        return "no_text"
    right = "".join(PIECES)
    mistakes = {
        "last": PIECES[-1],
        "stripped": "".join(piece.strip() for piece in PIECES),
        "joined": " ".join(PIECES),
        "lines": "\n".join(PIECES),
        "ends": right.strip(),
        "none": "None" + right,
        "both_none": "None" + right + "None",
    }
    if found == right:
        return None
    return next((key.removeprefix("both_") for key, text in mistakes.items() if found == text), "other")


def check_allowed(answer: Answer) -> str | None:
    """Return None for the characters that may come next, or which mistake they look like."""
    said = ["", "r", "red", "redd", "reddish", "bl", "green"]
    given = [answer(text, list(ANSWERS)) for text in said]
    if not all(isinstance(one, set) for one in given):
        return "no_set"

    def after(starts, end=True, what=lambda word, text: word[len(text) : len(text) + 1]):
        found = []
        for text in said:
            some = {what(word, text) for word in ANSWERS if starts(word, text) and word != text}
            found.append(some | ({"END"} if end and text in ANSWERS else set()))
        return found

    begins = str.startswith
    mistakes = {
        "no_end": after(begins, end=False),
        "end_alone": [{"END"} if text in ANSWERS else one for text, one in zip(said, after(begins), strict=True)],
        "anywhere": after(lambda word, text: len(word) > len(text)),
        "whole": after(begins, what=lambda word, text: word),
        "rest": after(begins, what=lambda word, text: word[len(text) :]),
        "letters": after(lambda word, text: text in word, what=lambda word, text: word[0]),
    }
    right = after(begins)
    return next((key for key, sets in [(None, right), *mistakes.items()] if given == sets), "other")


def check_chunks(answer: Answer) -> str | None:
    """Return None for pieces that overlap and end with the text, or which mistake they look like."""
    given = [answer(list(SENTENCES), size, overlap) for size, overlap in ((3, 1), (4, 2), (3, 2), (2, 0))]
    if any(not isinstance(piece, list) for one in given for piece in one):
        return "texts"

    def cuts(step, stop):
        return [
            [SENTENCES[i : i + size] for i in range(0, stop(size, overlap), step(size, overlap))]
            for size, overlap in ((3, 1), (4, 2), (3, 2), (2, 0))
        ]

    def apart(size, overlap):
        return size - overlap

    count = len(SENTENCES)
    right = cuts(apart, lambda size, overlap: max(count - overlap, 1))
    mistakes = {
        "no_overlap": cuts(lambda size, overlap: size, lambda size, overlap: count),
        "steps": cuts(lambda size, overlap: overlap or size, lambda size, overlap: count),
        "end_lost": cuts(apart, lambda size, overlap: count - size + 1),
        "tails": cuts(apart, lambda size, overlap: count),
        "one_by_one": cuts(lambda size, overlap: 1, lambda size, overlap: count - size + 1),
    }
    return next((key for key, pieces in [(None, right), *mistakes.items()] if given == pieces), "other")


EXERCISES = [
    Exercise(
        id="23.1",
        title="Top-p",
        level="medium",
        minutes=10,
        task="""Write `nucleus(probabilities, share)` with NumPy (`import numpy as np` first): keep the most probable
tokens, as few as together reach `share`, give all others 0, and scale what is left to sum to 1. The result has the
tokens in the places where they were.""",
        clue="Sort the places by falling probability and sum along them. Whether a token stays depends on the sum of "
        "those *before* it.",
        name="nucleus",
        stub='''import numpy as np


def nucleus(probabilities, share):
    """Return the probabilities that top-p leaves, in the same places, the others being 0."""
    ...''',
        solution='''import numpy as np


def nucleus(probabilities, share):
    """Return the probabilities that top-p leaves, in the same places, the others being 0."""
    p = np.asarray(probabilities, dtype=float)
    order = np.argsort(-p)
    kept = order[np.cumsum(p[order]) - p[order] < share]
    return np.where(np.isin(np.arange(len(p)), kept), p, 0) / p[kept].sum()''',
        check=check_nucleus,
        hints={
            "left_out": "one probability for each token, in its place: what is cut off is 0 and stays in the list.",
            "not_scaled": "the right tokens, but what is left does not sum to 1.",
            "stops_short": "the token with which the share is reached belongs to those that stay.",
            "threshold": "this keeps tokens that have the share each. It is their sum that must reach it.",
            "min_p": "this is min-p: a share of the most probable token's probability.",
            "as_they_come": "these are the first tokens in the list, and not the most probable ones.",
            "least_first": "sorted the wrong way round: the least probable tokens stay.",
            "sorted": "the right numbers in another order. Token 3 must have its probability in place 3.",
            "other": "the numbers differ. Of 0.1, 0.4, 0.05, 0.25, 0.2, with a share of 0.6, the second and the fourth "
            "stay.",
        },
    ),
    Exercise(
        id="23.2",
        title="A stream put together",
        level="medium",
        minutes=10,
        task="""Write `text_of(lines)`: the text of an answer, from the lines of its stream (`import json` first). Lines
that begin with `data: {` are events. Others are to be left out, also comments, which begin with a colon. An event may
have no choice, a `delta` may have no `content`, and a `content` may be `None`.""",
        clue="`line[6:]` is the JSON. Of a choice take `delta` and, where it is there, `content`; and nothing may come "
        "between the pieces.",
        name="text_of",
        stub='''import json


def text_of(lines):
    """Return the text of an answer from the lines of its stream."""
    ...''',
        solution='''import json


def text_of(lines):
    """Return the text of an answer from the lines of its stream."""
    pieces = []
    for line in lines:
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                pieces.append(choice["delta"].get("content") or "")
    return "".join(pieces)''',
        check=check_text_of,
        hints={
            "no_text": "the answer is one text: join the pieces.",
            "last": "this is the last piece alone. Each event holds what is new, and not all so far.",
            "stripped": "the pieces lost their blanks. A blank belongs to the token that it comes with.",
            "joined": "there are blanks between the pieces that the model did not write.",
            "lines": "there are line ends between the pieces that the model did not write.",
            "ends": "the blank at the beginning is part of the text, as the model wrote it.",
            "none": "“None” is in the text: a `content` of None is no piece.",
            "other": "the text differs. Which lines did you take?",
        },
    ),
    Exercise(
        id="23.3",
        title="What a grammar allows",
        level="easy",
        minutes=10,
        task="""A grammar allows the texts in the list `answers` and nothing else. Write `allowed(said, answers)`: the
set of characters that may come after `said`. Where `said` is a whole answer, "END" is in the set, too: the model may
stop. Where no answer begins with `said`, the set is empty.""",
        clue="Which answers begin with `said`? Of each, the character after it. After “red”, both “END” and “d” (of "
        "“reddish”) may come.",
        name="allowed",
        stub='''def allowed(said, answers):
    """Return the set of characters that may come after `said`, with "END" where it may end."""
    ...''',
        solution='''def allowed(said, answers):
    """Return the set of characters that may come after `said`, with "END" where it may end."""
    found = {answer[len(said)] for answer in answers if answer.startswith(said) and answer != said}
    return found | ({"END"} if said in answers else set())''',
        check=check_allowed,
        hints={
            "no_set": "return a set: {…} or set(…).",
            "no_end": "the model could never stop: where `said` is a whole answer, “END” is allowed.",
            "end_alone": "“red” is whole, and yet it may go on to “reddish”: both must be allowed.",
            "anywhere": "this looks at the place alone. The answer must begin with what was said.",
            "whole": "these are whole answers. What may come next is one character.",
            "rest": "this is all that is missing. What may come next is one character.",
            "letters": "an answer that holds `said` somewhere does not begin with it.",
            "other": "the sets differ. What may come after “bl”?",
        },
    ),
    Exercise(
        id="23.4",
        title="Passages that overlap",
        level="medium",
        minutes=10,
        task="""A long text is cut into passages before retrieval, and what stands on a border would be lost. Write
`chunks(sentences, size, overlap)`: a list of passages, each a list of `size` sentences that begins with the last
`overlap` sentences of the one before. The last passage ends with the text and may be shorter. None may consist of
sentences alone that the one before it has already.""",
        clue="From one beginning to the next it is `size - overlap`. A passage that begins within the last `overlap` "
        "sentences has nothing new.",
        name="chunks",
        stub='''def chunks(sentences, size, overlap):
    """Return lists of `size` sentences, each of which begins with the last `overlap` of the one before."""
    ...''',
        solution='''def chunks(sentences, size, overlap):
    """Return lists of `size` sentences, each of which begins with the last `overlap` of the one before."""
    return [sentences[i : i + size] for i in range(0, max(len(sentences) - overlap, 1), size - overlap)]''',
        check=check_chunks,
        hints={
            "texts": "each passage is a list of sentences.",
            "no_overlap": "these passages do not overlap.",
            "steps": "`overlap` is what two passages share, and not how far they are apart.",
            "end_lost": "the end of the text is in no passage.",
            "tails": "the last passages say nothing new: all their sentences are in the one before.",
            "one_by_one": "each passage begins one sentence after the last. That is right only where the overlap is "
            "`size - 1`.",
            "other": "the passages differ. Of seven sentences, with size 3 and overlap 1, the passages begin with "
            "1, 3 and 5.",
        },
    ),
]
