"""Typical wrong answers to the exercises of notebook 23: {exercise: {key of its hint: source}}."""

_NUCLEUS = '''import numpy as np


def nucleus(probabilities, share):
    """Return the probabilities that top-p leaves, in the same places, the others being 0."""
    p = np.asarray(probabilities, dtype=float)
    {body}
    {last}'''
_ORDER = "order = np.argsort(-p)\n    kept = order[np.cumsum(p[order]) - p[order] < share]"
_SCALE = "return np.where(np.isin(np.arange(len(p)), kept), p, 0) / p[kept].sum()"


def _nucleus(body: str = _ORDER, last: str = _SCALE) -> str:
    return _NUCLEUS.format(body=body, last=last)


_TEXT_OF = '''import json


def text_of(lines):
    """Return the text of an answer from the lines of its stream."""
    pieces = []
    for line in lines:
        if line.startswith("data: {{"):
            for choice in json.loads(line[6:])["choices"]:
                {take}
    return {last}'''
_TAKE = 'pieces.append(choice["delta"].get("content") or "")'


def _text_of(take: str = _TAKE, last: str = '"".join(pieces)') -> str:
    return _TEXT_OF.format(take=take, last=last)


_ALLOWED = '''def allowed(said, answers):
    """Return the set of characters that may come after `said`, with "END" where it may end."""
    found = {{{what} for answer in answers if {rule}}}
    return found{end}'''
_WHAT, _RULE = "answer[len(said)]", "answer.startswith(said) and answer != said"
_END = ' | ({"END"} if said in answers else set())'


def _allowed(what: str = _WHAT, rule: str = _RULE, end: str = _END) -> str:
    return _ALLOWED.format(what=what, rule=rule, end=end)


def _chunks(line: str) -> str:
    return f'''def chunks(sentences, size, overlap):
    """Return lists of `size` sentences, each of which begins with the last `overlap` of the one before."""
    {line}'''


WRONG = {
    "23.1": {
        "left_out": _nucleus(last="return p[kept] / p[kept].sum()"),
        "not_scaled": _nucleus(last="return np.where(np.isin(np.arange(len(p)), kept), p, 0)"),
        "stops_short": _nucleus(
            "order = np.argsort(-p)\n    kept = order[np.cumsum(p[order]) < share]",
            "return np.where(np.isin(np.arange(len(p)), kept), p, 0) / max(p[kept].sum(), 1e-9)",
        ),
        "threshold": _nucleus("kept = np.where(p >= share, p, 0)", "return kept / max(kept.sum(), 1e-9)"),
        "min_p": _nucleus("kept = np.flatnonzero(p >= share * p.max())"),
        "as_they_come": _nucleus("kept = np.flatnonzero(np.cumsum(p) - p < share)"),
        "least_first": _nucleus(_ORDER.replace("-p)", "p)")),
        "sorted": _nucleus(_ORDER, "return np.append(p[kept], np.zeros(len(p) - len(kept))) / p[kept].sum()"),
        "other": _nucleus("kept = np.argsort(-p)[:2]"),
    },
    "23.2": {
        "no_text": _text_of(last="pieces"),
        "last": _text_of(
            'pieces = [choice["delta"].get("content") or ""] if choice["delta"].get("content") else pieces'
        ),
        "stripped": _text_of('pieces.append((choice["delta"].get("content") or "").strip())'),
        "joined": _text_of(last='" ".join(piece for piece in pieces if piece)'),
        "lines": _text_of(last='"\\n".join(piece for piece in pieces if piece)'),
        "ends": _text_of(last='"".join(pieces).strip()'),
        "none": _text_of('pieces.append(str(choice["delta"].get("content", "")))'),
        "other": _text_of(last='"".join(pieces[:-2])'),
    },
    "23.3": {
        "no_set": _allowed().replace("return found", "return sorted(found)").replace(" | (", " + list("),
        "no_end": _allowed(end=""),
        "end_alone": _allowed(end=' if said not in answers else {"END"}'),
        "anywhere": _allowed(rule="len(answer) > len(said)"),
        "whole": _allowed("answer"),
        "rest": _allowed("answer[len(said):]"),
        "letters": _allowed("answer[0]", "said in answer and answer != said"),
        "other": _allowed("answer[-1]"),
    },
    "23.4": {
        "texts": _chunks(
            'return [" ".join(sentences[i : i + size]) for i in range(0, len(sentences) - overlap, size - overlap)]'
        ),
        "no_overlap": _chunks("return [sentences[i : i + size] for i in range(0, len(sentences), size)]"),
        "steps": _chunks("return [sentences[i : i + size] for i in range(0, len(sentences), overlap or size)]"),
        "end_lost": _chunks(
            "return [sentences[i : i + size] for i in range(0, len(sentences) - size + 1, size - overlap)]"
        ),
        "tails": _chunks("return [sentences[i : i + size] for i in range(0, len(sentences), size - overlap)]"),
        "one_by_one": _chunks("return [sentences[i : i + size] for i in range(len(sentences) - size + 1)]"),
        "other": _chunks("return [sentences[i : i + size + overlap] for i in range(0, len(sentences), size)]"),
    },
}
