"""Typical wrong answers to the exercises of notebook 01: {exercise: {key of its hint: source}}."""

MERGE = "merge(tokens, pair)"
DECODE = "decode(ids, vocabulary)"
PRICE = "price(count, instructions, questions, answers, inward, out)"


def _code(signature: str, *body: str) -> str:
    lines = (f"    {line}".rstrip() + "\n" for line in body)
    return f"import numpy as np\n\n\ndef {signature}:\n" + "".join(lines)


def _merge(
    step: str, *, test: str = "tokens[i:i + 2] == list(pair)", end: str = "len(tokens)", new: str = "pair[0] + pair[1]"
):
    return _code(
        MERGE,
        "found, i = [], 0",
        f"while i < {end}:",
        f"    if {test}:",
        f"        found.append({new})",
        f"        i += {step}",
        "    else:",
        "        found.append(tokens[i])",
        "        i += 1",
        "return found",
    )


WRONG = {
    "01.1": {
        "first_only": _code(
            MERGE,
            "for i in range(len(tokens) - 1):",
            "    if (tokens[i], tokens[i + 1]) == pair:",
            "        return tokens[:i] + [pair[0] + pair[1]] + tokens[i + 2:]",
            "return tokens",
        ),
        "keeps_second": _merge("1"),
        "loses_last": _merge("2", end="len(tokens) - 1"),
        "either_way": _merge(
            "2", test="set(tokens[i:i + 2]) == set(pair) and len(tokens[i:i + 2]) == 2", new="''.join(tokens[i:i + 2])"
        ),
        "as_pair": _merge("2", new="pair"),
        "never": _merge("2", test="tokens[i:i + 2] == pair"),
        "spaces": _code(MERGE, "return ' '.join(tokens).replace(' '.join(pair), ''.join(pair)).split()"),
        "past_end": _merge("2", test="tokens[i] == pair[0] and tokens[i + 1] == pair[1]"),
        "text": _code(MERGE, "return ''.join(tokens)"),
        "no_list": _merge("2").replace("return found", "return tuple(found)"),
    },
    "01.2": {
        "one_by_one": _code(DECODE, "return ''.join(vocabulary[i].decode('utf-8', errors='replace') for i in ids)"),
        "drops": _code(DECODE, "return ''.join(vocabulary[i].decode('utf-8', errors='ignore') for i in ids)"),
        "ignored": _code(DECODE, "return b''.join(vocabulary[i] for i in ids).decode('utf-8', errors='ignore')"),
        "latin": _code(DECODE, "return ''.join(chr(byte) for i in ids for byte in vocabulary[i])"),
        "spaces": _code(DECODE, "return b' '.join([vocabulary[i] for i in ids]).decode('utf-8', errors='replace')"),
        "stripped": _code(
            DECODE, "return b''.join(vocabulary[i] for i in ids).strip().decode('utf-8', errors='replace')"
        ),
        "bytes": _code(DECODE, "text = b''", "for i in ids:", "    text += vocabulary[i]", "return text"),
        "shown": _code(DECODE, "return str(b''.join(vocabulary[i] for i in ids))"),
        "list": _code(DECODE, "return [vocabulary[i] for i in ids]"),
        "escaped": _code(DECODE, "return b''.join(vocabulary[i] for i in ids).decode(errors='backslashreplace')"),
        "strict": _code(DECODE, "return b''.join(vocabulary[i] for i in ids).decode('utf-8')"),
        "strict_pieces": _code(DECODE, "return ''.join(vocabulary[i].decode() for i in ids)"),
    },
    "01.3": {
        "letters": _code(
            PRICE,
            "read = sum(len(instructions) + len(q) for q in questions)",
            "return (read * inward + sum(len(a) for a in answers) * out) / 1e6",
        ),
        "once": _code(
            PRICE,
            "read = count(instructions) + sum(count(q) for q in questions)",
            "return (read * inward + sum(count(a) for a in answers) * out) / 1e6",
        ),
        "no_rules": _code(
            PRICE,
            "read = sum(count(q) for q in questions)",
            "return (read * inward + sum(count(a) for a in answers) * out) / 1e6",
        ),
        "swapped": _code(
            PRICE,
            "read = sum(count(instructions) + count(q) for q in questions)",
            "return (read * out + sum(count(a) for a in answers) * inward) / 1e6",
        ),
        "per_token": _code(
            PRICE,
            "read = sum(count(instructions) + count(q) for q in questions)",
            "return read * inward + sum(count(a) for a in answers) * out",
        ),
        "per_thousand": _code(
            PRICE,
            "read = sum(count(instructions) + count(q) for q in questions)",
            "return (read * inward + sum(count(a) for a in answers) * out) / 1000",
        ),
        "one_price": _code(
            PRICE,
            "texts = [instructions + ' ' + q for q in questions] + answers",
            "read = sum(count(instructions) + count(q) for q in questions)",
            "return (read + sum(count(a) for a in answers)) * inward / 1e6",
        ),
        "all_each_time": _code(
            PRICE,
            "read = len(questions) * (count(instructions) + sum(count(q) for q in questions))",
            "return (read * inward + sum(count(a) for a in answers) * out) / 1e6",
        ),
        "history": _code(
            PRICE,
            "read, history = 0, 0",
            "for question, answer in zip(questions, answers):",
            "    history += count(question)",
            "    read += count(instructions) + history",
            "    history += count(answer)",
            "return (read * inward + sum(count(a) for a in answers) * out) / 1e6",
        ),
        "glued": _code(
            PRICE,
            "read = sum(count(instructions + q) for q in questions)",
            "return (read * inward + sum(count(a) for a in answers) * out) / 1e6",
        ),
        "rules_written": _code(
            PRICE,
            "read = sum(count(instructions) + count(q) for q in questions)",
            "written = sum(count(instructions) + count(a) for a in answers)",
            "return (read * inward + written * out) / 1e6",
        ),
        "rounded": _code(
            PRICE,
            "read = sum(count(instructions) + count(q) for q in questions)",
            "return round((read * inward + sum(count(a) for a in answers) * out) / 1e6, 2)",
        ),
        "texts": _code(PRICE, "return (len(questions) * inward + len(answers) * out) / 1e6"),
    },
}
