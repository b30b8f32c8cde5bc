"""The exercises of notebook 01: a merge, the way back from ids to text, and the price of a prompt."""

from collections.abc import Callable

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

MERGES = [
    (["t", "h", "e"], ("h", "e")),
    (["Ġ", "k", "it", "t", "en"], ("it", "t")),
    (["a", "b", "a", "b", "c"], ("a", "b")),
    (["a", "a", "a", "b"], ("a", "a")),
    (["m", "i", "l", "k"], ("t", "h")),
    (["b", "a"], ("a", "b")),
    (["a", "b"], ("a", "b")),
    (["wh", "it", "ten"], ("t", "ten")),
]


def merge(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Return the tokens with every place where `pair` stands joined to one, from left to right."""
    joined: list[str] = []
    at = 0
    while at < len(tokens):
        step = 2 if tuple(tokens[at : at + 2]) == tuple(pair) else 1
        joined.append("".join(tokens[at : at + step]))
        at += step
    return joined


def check_merge(answer: Answer) -> str | Verdict | None:
    """Return None for the joined tokens, else which mistake they come from."""

    def first_only(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        for i in range(len(tokens) - 1):
            if tuple(tokens[i : i + 2]) == pair:
                return [*tokens[:i], "".join(pair), *tokens[i + 2 :]]
        return tokens

    def keeps_second(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        found = []
        for i, token in enumerate(tokens):
            found.append("".join(pair) if tuple(tokens[i : i + 2]) == pair else token)
        return found

    def loses_last(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        found, i = [], 0
        while i < len(tokens) - 1:
            step = 2 if tuple(tokens[i : i + 2]) == pair else 1
            found.append("".join(tokens[i : i + step]))
            i += step
        return found

    def either_way(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        found, i = [], 0
        while i < len(tokens):
            step = 2 if sorted(tokens[i : i + 2]) == sorted(pair) else 1
            found.append("".join(tokens[i : i + step]))
            i += step
        return found

    def as_pair(tokens: list[str], pair: tuple[str, str]) -> list:
        return [pair if token == "".join(pair) else token for token in merge(tokens, pair)]

    mistakes = {
        "first_only": first_only,
        "keeps_second": keeps_second,
        "loses_last": loses_last,
        "either_way": either_way,
        "as_pair": as_pair,
        "never": lambda tokens, pair: list(tokens),
        "spaces": lambda tokens, pair: " ".join(tokens).replace(" ".join(pair), "".join(pair)).split(" "),
        "text": lambda tokens, pair: "".join(tokens),
    }
    try:
        verdict = judge(answer, merge, MERGES, mistakes)
    except IndexError:
        return "past_end"
    if verdict is None and not isinstance(answer(["t", "h", "e"], ("h", "e")), list):
        return "no_list"
    return verdict


PIECES = [piece.encode() for piece in ("the", " kit", "ten", "K", "ä", "tz", "chen", ".", " ", "é")]
PIECES += [b" \xf0\x9f", b"\x90", b"\xb1", b"\xc3", b"\xa4"]  # a cat's face and an ä, in parts
DECODES = [
    ([0, 1, 2], PIECES),
    ([0, 10, 11, 12, 7], PIECES),
    ([3, 13, 14, 5, 6], PIECES),
    ([3, 4, 5, 6, 8], PIECES),
    ([0, 8, 8, 1, 9], PIECES),
    ([0, 10, 11], PIECES),  # the answer was cut off in the middle of a letter
    ([2, 13], PIECES),
]


def decode(ids: list[int], vocabulary: list[bytes]) -> str:
    """Return the text of the tokens with these ids; a letter that is cut off becomes �."""
    return b"".join(vocabulary[i] for i in ids).decode("utf-8", errors="replace")


def check_decode(answer: Answer) -> str | Verdict | None:
    """Return None for the text of the ids, else which mistake leads to it."""

    def joined(ids: list[int], vocabulary: list[bytes]) -> bytes:
        return b"".join(vocabulary[i] for i in ids)

    mistakes = {
        "one_by_one": lambda ids, vocabulary: "".join(vocabulary[i].decode(errors="replace") for i in ids),
        "drops": lambda ids, vocabulary: "".join(vocabulary[i].decode(errors="ignore") for i in ids),
        "ignored": lambda ids, vocabulary: joined(ids, vocabulary).decode(errors="ignore"),
        "latin": lambda ids, vocabulary: joined(ids, vocabulary).decode("latin-1"),
        "spaces": lambda ids, vocabulary: b" ".join(vocabulary[i] for i in ids).decode(errors="replace"),
        "stripped": lambda ids, vocabulary: decode(ids, vocabulary).strip(),
        "bytes": joined,
        "shown": lambda ids, vocabulary: str(joined(ids, vocabulary)),
        "list": lambda ids, vocabulary: [vocabulary[i] for i in ids],
        "escaped": lambda ids, vocabulary: joined(ids, vocabulary).decode(errors="backslashreplace"),
    }
    try:
        return judge(answer, decode, DECODES, mistakes)
    except UnicodeDecodeError as error:
        whole = [joined(*case) for case in DECODES]
        return "strict" if error.object in whole else "strict_pieces"


def price(
    count: Callable[[str], int], instructions: str, questions: list[str], answers: list[str], inward: float, out: float
) -> float:
    """Return what the calls cost: `inward` and `out` are the prices of a million tokens."""
    read = sum(count(instructions) + count(question) for question in questions)
    written = sum(count(answer) for answer in answers)
    return (read * inward + written * out) / 1e6


def words(text: str) -> int:
    return len(text.split())


def letter_pairs(text: str) -> int:
    return (len(text) + 1) // 2


# what a message calls them: "for a count of words, 'be kind', […] the right answer is …"
words.__name__, letter_pairs.__name__ = "a count of words", "a count of letter pairs"


def check_price(answer: Answer) -> str | Verdict | None:
    """Return None for the price, else which mistake leads to it."""
    rules, asked, said = (
        "be kind and brief please",
        ["where is my cat", "who sells milk"],
        ["at home", "the shop", "no"],
    )
    cases = [
        (words, rules, asked, said[:2], 200_000, 600_000),
        (letter_pairs, rules * 9, asked * 5, said * 3 + ["so it is"], 300_000, 3_000_000),
        (words, "go", ["one two three"], ["four"], 1_000_000, 5_000_000),
        (words, "be brief", ["where is it"], ["here"], 500, 900),  # less than a cent
    ]

    def letters(count, instructions, questions, answers, inward, out):
        return price(len, instructions, questions, answers, inward, out)

    def once(count, instructions, questions, answers, inward, out):
        return ((count(instructions) + sum(map(count, questions))) * inward + sum(map(count, answers)) * out) / 1e6

    def no_rules(count, instructions, questions, answers, inward, out):
        return (sum(map(count, questions)) * inward + sum(map(count, answers)) * out) / 1e6

    def all_each_time(count, instructions, questions, answers, inward, out):
        read = len(questions) * (count(instructions) + sum(map(count, questions)))
        return (read * inward + sum(map(count, answers)) * out) / 1e6

    def rules_written(count, instructions, questions, answers, inward, out):
        more = len(answers) * count(instructions) * out / 1e6
        return price(count, instructions, questions, answers, inward, out) + more

    def with_history(answers_too, questions_too=True):
        def bill(count, instructions, questions, answers, inward, out):
            earlier = 0
            for i in range(len(questions)):
                earlier += sum(map(count, questions[:i])) * questions_too + sum(map(count, answers[:i])) * answers_too
            return price(count, instructions, questions, answers, inward, out) + earlier * inward / 1e6

        return bill

    def glued(between):
        def bill(count, instructions, questions, answers, inward, out):
            read = sum(count(instructions + between + question) for question in questions)
            return (read * inward + sum(map(count, answers)) * out) / 1e6

        return bill

    mistakes = {
        "history": with_history(True),
        "history, questions": with_history(False),
        "history, answers": with_history(True, False),
        "glued": glued(""),
        "glued, space": glued(" "),
        "glued, line": glued("\n"),
        "all_each_time": all_each_time,
        "rules_written": rules_written,
        "rounded": lambda *given: round(price(*given), 2),
        "letters": letters,
        "once": once,
        "no_rules": no_rules,
        "swapped": lambda count, rules, asked, said, inward, out: price(count, rules, asked, said, out, inward),
        "per_token": lambda *given: 1e6 * price(*given),
        "per_thousand": lambda *given: 1e3 * price(*given),
        "one_price": lambda count, rules, asked, said, inward, out: price(count, rules, asked, said, inward, inward),
        "texts": lambda count, rules, questions, answers, inward, out: (
            (len(questions) * inward + len(answers) * out) / 1e6
        ),
    }
    verdict = judge(answer, price, cases, mistakes)
    return verdict.partition(",")[0] if isinstance(verdict, str) else verdict


EXERCISES = [
    Exercise(
        id="01.1",
        title="Merge a pair",
        level="easy",
        minutes=8,
        kept=True,
        task="Write `merge(tokens, pair)`. It walks through the list `tokens` from left to right. Wherever the two "
        "tokens "
        "of `pair` stand next to each other, in this order, they become one. Return a new list:\n\n"
        '`merge(["t", "h", "e"], ("h", "e"))` gives `["t", "he"]`.',
        clue="Keep a position `i` and a `while` loop. If `tokens[i]` and `tokens[i + 1]` are the pair, append "
        "`pair[0] + pair[1]` and go on by two; if not, append `tokens[i]` and go on by one. What happens at the "
        "last token? And see that `i` grows in both branches, or the loop never ends.",
        name="merge",
        stub="""def merge(tokens, pair):
    ...  # return a new list
""",
        solution="""def merge(tokens, pair):
    joined, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            joined.append(pair[0] + pair[1])
            i += 2
        else:
            joined.append(tokens[i])
            i += 1
    return joined
""",
        check=check_merge,
        hints={
            "first_only": "You stop after the first pair. Go on to the end of the list.",
            "keeps_second": "You write the joined token and then the pair's second token again. After a pair, go on "
            "by two.",
            "loses_last": "You stop one token too early: a last token that belongs to no pair gets lost.",
            "either_way": "You also join the two the other way round. A pair has an order: “he” is not “eh”.",
            "as_pair": "You put the pair itself into the list. We want one text: add the two.",
            "never": "You return the tokens as they were. A list never equals a tuple: if you compare "
            "`tokens[i : i + 2]` with `pair`, make both of one kind, `tuple(tokens[i : i + 2])`.",
            "spaces": "You look for the pair in one long text. But *it ten* contains *t ten*, and *it* is another "
            "token than *t*. Compare whole tokens.",
            "past_end": "You look for a token behind the last one (IndexError). Ask first whether `i + 1` is still "
            "less than `len(tokens)`.",
            "text": "You join all of the tokens. Only the two of the pair become one.",
            "no_list": "The tokens are right, but they aren't in a list. Make one of them: `list(…)`.",
        },
    ),
    Exercise(
        id="01.2",
        title="The broken cat",
        level="easy",
        minutes=8,
        kept=True,
        task="A bug from work. In a colleague's chat window, �� stands where the model wrote 🐱. This is the code:"
        "\n\n```python\n"
        "def decode(ids, vocabulary):\n"
        '    return "".join(vocabulary[i].decode("utf-8", errors="replace") for i in ids)\n```\n\n'
        '`vocabulary[i]` has the bytes of token `i`, and `.decode` makes letters of bytes; with `errors="replace"` it '
        "writes � for bytes that are no letter, instead of stopping with an error. Repair it. Only where the last "
        "letter of the answer is cut off may there still be a �.",
        clue="The cat's four bytes lie in more than one token. Can `.decode` make a letter of half of them? "
        '`b"".join` puts bytes together, as `"".join` does with letters.',
        name="decode",
        stub="""def decode(ids, vocabulary):
    ...  # return a text
""",
        solution="""def decode(ids, vocabulary):
    whole = b"".join(vocabulary[i] for i in ids)
    return whole.decode("utf-8", errors="replace")
""",
        check=check_decode,
        hints={
            "one_by_one": "This still decodes each token on its own, so half a letter becomes �. First put the "
            "bytes of all tokens together, then decode once.",
            "drops": "Now half a letter vanishes, and the cat with it. Put the bytes of all tokens together first, "
            "then decode once.",
            "ignored": "Nearly. But where the answer is cut off in the middle of a letter, yours hides it. We want a � "
            'there: `errors="replace"`.',
            "latin": "You make a letter of each byte, so ä becomes Ã¤. UTF-8 writes some letters with several bytes.",
            "spaces": "You put a space between the tokens. Where one belongs, it is part of the token already.",
            "stripped": "You take away spaces at the ends. The text has to come back as it was.",
            "bytes": "You return bytes. Make a text of them: `.decode`, once, at the end.",
            "shown": "`str` of bytes writes them as Python code, with `b'` in front. Use `.decode`.",
            "list": "You return a list with the bytes of each token. Put them together, and make one text of them.",
            "escaped": "You write the bytes of a letter that is cut off with a backslash. We want a � "
            'there: `errors="replace"`.',
            "strict": "One answer is cut off in the middle of a letter, and there your function stops with an error. "
            'Give `.decode` an `errors="replace"`.',
            "strict_pieces": "Your function stops with an error, since some tokens hold only a part of a letter. Put "
            "the bytes of all tokens together first, then decode once.",
        },
    ),
    Exercise(
        id="01.3",
        title="What will it cost?",
        level="easy",
        minutes=8,
        task="A task from work. Your support bot sends the same instructions along with *every* question, and the "
        "provider "
        "bills what the model reads and what it writes at two prices. Write `price(count, instructions, questions, "
        "answers, "
        "inward, out)`: `count(text)` gives a text's tokens, `questions` and `answers` are lists of texts, `inward` "
        "and `out` "
        "are the prices of a million tokens read and written. Count each text on its own.",
        clue="First add up the tokens that are read, then those that are written. For two questions, the "
        "instructions are "
        "read twice. Divide by `1e6` at the end.",
        name="price",
        stub="""def price(count, instructions, questions, answers, inward, out):
    ...  # return one number
""",
        solution="""def price(count, instructions, questions, answers, inward, out):
    read = sum(count(instructions) + count(question) for question in questions)
    written = sum(count(answer) for answer in answers)
    return (read * inward + written * out) / 1e6
""",
        check=check_price,
        hints={
            "letters": "You count letters. Providers bill tokens: use `count(text)`.",
            "once": "You count the instructions once. The model remembers nothing from one call to the next, so "
            "they are "
            "sent, and billed, with each question.",
            "no_rules": "Your sum leaves out the instructions. They are read with each question, and each time they "
            "cost.",
            "all_each_time": "You bill every question in every call. Multiply only the instructions by the number of "
            "questions.",
            "history": "You also send the earlier questions or answers along, as many chats do. Here each question "
            "is a conversation of its own: the model reads only the instructions and this question.",
            "glued": "You glue the instructions and the question together and count that. Tokens can change where two "
            "texts meet, so count each text on its own and add.",
            "rules_written": "You add the instructions to the answers too. The model only reads them.",
            "rounded": "You round to cents. One call can cost less than a cent, so return the number as it is.",
            "swapped": "You have the two prices the wrong way round: `inward` is for what the model reads.",
            "per_token": "The prices are for a million tokens. Your number is a million times too large.",
            "per_thousand": "The prices are for a million tokens, not for a thousand.",
            "one_price": "You use one price for both. What the model writes costs `out`.",
            "texts": "You count texts. Providers bill tokens: use `count(text)` on each of them.",
        },
    ),
]
