"""Notebook 07: every number in its words, computed again; and what its cache and its stream do at their ends."""

import numpy as np
import pytest

from llmnotes.attention import softmax
from llmnotes.fit import models
from llmnotes.pebble.corpus import DOCUMENTS, documents
from tests.numbers.prose import Prose

# What the reader sets, and what cannot be otherwise.
SETTINGS = (
    r"[Tt]emperatures?(?: of)? \d(?:\.\d)?(?:, 1 and 2)?",
    r"T = \d(?:\.\d)?(?: to \d\.\d)?",
    r"(?:top-p|min-p|Top-p with p =) 0\.\d+(?: to 0\.\d)?",
    r"k = 5\b",
    r"(?:from|above|below) [01]\b(?: to 1\b)?",
    r"close to 0\b",
    r"sum to 1\b",
    r"(?:share of|reaches) (?:90%|0\.7)",
    r"0\.4 and 0\.25 hold 0\.65 together",
    r"token 1 must have its number in place 1",
    r"a about 2%|c about 75%",
    r"\b1\s+for\s+the\s+token\s+with\s+the\s+best\s+score,\s+and\s+0\s+for",
    r"after 3 its best token is 4, after 9 it is 0",
    r"the end of a turn, is token 2",
    r"keeps 50 by default",
    r"line of length 1\b",
    r"at least one in 20|[Aa]t least one of 20",
    r"cache at 8,192 tokens",
    r"At 1, plain|for 100 new tokens",
    r"teacher isn't at 0",
    r"a temperature of [12]\b",
    r"[Tt]op-k with 12\b",
    r"close to 100%",
)


def _neighbours(text):
    words = text.replace(".", " .").replace(",", " ,").replace('"', ' " ').split()
    return list(zip(words, words[1:], strict=False))


def one_step(n, **settings):
    """Return the probabilities of the next token as the library's `generate` has them when it draws."""
    row = n["lm"].model.generate(
        n["torch"].tensor([n["ids"]]), do_sample=True, max_new_tokens=1, return_dict_in_generate=True,
        output_scores=True, **settings,
    ).scores[0][0]  # fmt: skip
    return row.softmax(-1).numpy()


@pytest.fixture(scope="module")
def lesson():
    """The lesson and the names that its code leaves."""
    prose = Prose("07")
    return prose, prose.run()


def test_every_number_in_the_prose_is_computed_again(lesson):
    prose, n = lesson
    p, scores, fears, best = n["p"], n["scores"], n["fears"], n["best"]
    top_p, min_p, top_k, probabilities = n["top_p"], n["min_p"], n["top_k"], n["probabilities"]
    says, good = prose.says, list(fears)
    kitten = softmax(n["pebble"](n["encode"]("A baby cat is a"))[-1])
    says("{:,} scores, and the model is done", len(scores))
    says("people are afraid of {} things", len(n["listed"](n["FEARS"])))
    read = [document.text for document in documents(DOCUMENTS)]
    says("None of the {:,} documents that it read", DOCUMENTS)
    assert not any(text.startswith("She ") for text in read)
    inside = [text.split("She was afraid of ", 1)[1] for text in read if "She was afraid of " in text]
    assert len(inside) > 1000 and all(after.startswith("nothing") for after in inside)
    says("which gets {:.1%} here", p[n["encode"]("She was afraid of nothing")[len(n["ids"])]])
    says("So the {:.0%} for geese is Pebble's opinion", p[best[0]])
    says("We try all {} animals", len(n["ANIMALS"]))
    says("The same {} animals", len(n["ANIMALS"]))
    cow = " The home of a cow is the barn."
    facts = [young for _, young, *_ in n["ANIMALS"]]
    starts = [f"A baby {animal} is a{'n' * (young[0] in 'aeiou')}" for animal, young, *_ in n["ANIMALS"]]
    means, ends, chosen = [], [], []
    for times in range(5):
        chances, ending, then = [], [], []
        for start, young in zip(starts, facts, strict=True):
            before, after = (n["encode"](f"{start} {young}." + count * cow) for count in (times, times + 1))
            rows = softmax(n["pebble"](after))
            chances.append(np.prod([rows[i - 1, after[i]] for i in range(len(before), len(after))]))
            ending.append(rows[len(before) - 1, 1])
            then.append(int(rows[len(before) - 1].argmax()))
        means, ends, chosen = [*means, np.mean(chances)], [*ends, np.mean(ending)], [*chosen, then]
    says("as a whole it has {:.3%} right after the first sentence, {:.3%} when it stands there once, and {:.3%} when "
         "twice", *means[:3])  # fmt: skip
    assert chosen[0] == chosen[1] == chosen[2]  # "it makes the same choice"
    assert sorted(means, reverse=True) == means  # "It gets less likely each time"
    says(
        "has {:.0%} right after the first sentence, then {:.0%}, {:.0%} and {:.0%} behind one, two and three of these",
        *ends[:4],
    )
    texts = [n["generate"](n["CachedPebble"](n["W"]), n["encode"](start), np.argmax, most=150) for start in starts]
    assert all(len(text) < 150 for text in texts)
    says("all {} texts end by themselves", len(texts))
    said = [n["Counter"](n["decode"](text[1:]).replace(".", "").split(" The ")) for text in texts]
    assert max(max(sentences.values()) for sentences in said) == 4  # "none says a sentence more than four times"
    says("Most of the {} texts repeat", len(texts))
    assert sum(sentences["home of a cow is the barn"] >= 3 for sentences in said) > 18
    says("If Pebble gives geese {:.0%}, about {} of 100", p[best[0]], round(100 * p[best[0]]))
    ratio = p[best[0]] / p[best[1]]
    says("Geese are {:.2f} times as likely as frogs", ratio)
    says("a {:.2f} times", ratio**2)
    says("b {:.2f} times", 2 * float(f"{ratio:.2f}"))
    says("c still {:.2f} times", ratio)
    says("a. {:.2f} times. Dividing by 0.5 doubles the lead", ratio**2)
    says("{0:.2f} × {0:.2f} = {1:.2f}. At T = 2 it is the square root, {2:.2f}", ratio, ratio**2, ratio**0.5)
    heated = {T: probabilities(scores, T) for T in (0.5, 1, 2)}
    assert np.allclose(heated[0.5][best[0]] / heated[0.5][best[1]], ratio**2, rtol=1e-4)
    junk = float(1 - heated[1][good].sum())
    says("it's {:.1%}, spread over", junk)
    says("{:.1%} of junk at each token", junk)
    several = 1 - (1 - junk) ** 20
    says("We draw 20 tokens")
    says("b about {:.0%}", several)
    assert 20 * junk > 0.3 and not 0.015 < several < 0.025
    says("all 20 are right is {:.4f} multiplied by itself 20 times. That's {:.2f}, so {:.0%} of the texts",
         1 - junk, 1 - several, several)  # fmt: skip
    says("until together they hold a share, say 90%")
    assert [int((top_p(q, 0.9) > 0).sum()) for q in (p, kitten)] == [8, 1]  # "One token …, eight where"
    assert [int((min_p(q, 0.1) > 0).sum()) for q in (p, kitten)] == [8, 1]
    wide = top_p(heated[2], 0.9)
    says("top-p keeps {} tokens at our place", int((wide > 0).sum()))
    says("a share of 90%. Min-p keeps {}", int((min_p(heated[2], 0.1) > 0).sum()))
    assert (one_step(n, temperature=2.0, top_p=0.9, top_k=0) > 0).sum() == (wide > 0).sum()
    usual = one_step(n, temperature=2.0, top_p=0.9)
    says("you see {} tokens with {:.1%} of junk", int((usual > 0).sum()), 1 - usual[good].sum())
    says("only the best {} tokens stay in the game", int((one_step(n, temperature=2.0) > 0).sum()))
    hen = n["encode"]("She was afraid of hen")
    assert hen[len(n["ids"])] not in fears
    onwards = n["decode"](n["generate"](n["CachedPebble"](n["W"]), hen, np.argmax, most=12))
    assert "She was afraid of hen, and Astrid wanted to help." in onwards
    sure, cold = [], []
    for start, young in zip(starts, facts, strict=True):
        row = n["pebble"](n["encode"](start))[-1]
        right = n["encode"](f"{start} {young}")[len(n["encode"](start))]
        hot, first = min_p(probabilities(row, 2), 0.1), top_p(softmax(row), 0.9) ** 0.5
        sure, cold = [*sure, 1 - hot[right] / hot.sum()], [*cold, 1 - first[right] / first.sum()]
        if start == "A baby cat is a":
            says("now lets ␣cat in, with {:.0%}", hot[n["encode"]("A baby cat is a cat")[-1]] / hot.sum())
    says("At the sure places of all {} animals", len(sure))
    says("min-p leaves {:.1%} of junk, and top-p first {:.1%}", np.mean(sure), np.mean(cold))
    says("we have all {:,} documents", DOCUMENTS)
    llama, older = models()["llama-3.1-8b"]["config"], models()["llama-2-7b"]["config"]
    assert 4 * n["cache_bytes"](llama, 1) == n["cache_bytes"](older, 1)  # "a quarter"
    says("{} key heads where there were {}", llama["num_key_value_heads"], older["num_key_value_heads"])
    says("Llama 2 was made for {:,} tokens; the 8,192", older["max_position_embeddings"])
    says("for a text of 8,192 tokens")
    says("the last of {0} tokens it computes one row instead of {0}", n["lm"].model.config.max_position_embeddings)
    says("can take ({} tokens for Pebble)", n["lm"].model.config.max_position_embeddings)
    assert n["CachedPebble"](n["W"]).kept[0].itemsize == 4  # "Pebble computes with four"
    tokens = len(n["generate"](n["CachedPebble"](n["W"]), n["ids"], np.argmax, most=200)) - len(n["ids"])
    says("After {} new tokens the story is over", tokens)
    says("a real model with {:.0f} million parameters", models()["smollm2-135m"]["parameters"] / 1e6)
    pairs = {pair for text in read for pair in _neighbours(text)}

    def broken(text):
        return np.mean([pair not in pairs for pair in _neighbours(text)[:-1]])

    greedy = n["texts_by"](0, None, 3)
    assert len(set(greedy)) == 1
    says("Greedy has {:.0%} broken here", broken(greedy[0]))
    freely = [broken(text) for text in n["texts_by"](1, None, 80)]
    assert not any(freely[:10])  # "of the first ten without a rule, none is broken anywhere"
    says("of all eighty, {} are", sum(share > 0 for share in freely))
    # captions
    cool = {name: [np.mean([broken(text) for text in texts]) for texts in rule] for name, rule in {
        "min-p": [n["texts_by"](T, n["tenth"], 20) for T in (1.5, 2)],
        "top-p first": [n["texts_by"](1, lambda p, T=T: top_p(p, 0.9) ** (1 / T), 20) for T in (1.5, 2)],
    }.items()}  # fmt: skip
    says(
        "Min-p, or top-p before the temperature, stays below {:.0%}", np.ceil(100 * max(map(max, cool.values()))) / 100
    )
    says("A model gives {:,} scores, one for each token", len(scores))
    says("taken {} times, is no longer small", 20)
    assert int((top_k(p, 5) > 0).sum()) == 5 and good
    places = [n["top_p"](probabilities(np.log(q), 2), 0.9) for q in (p, kitten)]
    assert int((places[0] > 0).sum()) > 900  # "reaches deep into the junk"
    prose.finish(*SETTINGS)


def test_a_cache_refuses_another_text_and_a_stream_ends_with_half_a_character(lesson):
    _, n = lesson
    cached = n["CachedPebble"](n["W"])
    cached([0, 5, 6])
    for other in ([0, 7, 6, 8], [0, 5], [0, 5, 6]):
        with pytest.raises(AssertionError, match="one text"):
            cached(other)
    assert cached([0, 5, 6, 8]).shape[0] == 1
    half = n["encode"]("Zoë")[-2]
    assert list(n["stream"](n["pebble"], n["ids"], lambda row: half, most=1)) == ["\ufffd"]
    whole = n["encode"]("Zoë")
    assert list(n["stream"](n["pebble"], whole[:-1], lambda row: whole[-1], most=1)) == ["ë"]
    ends = np.full(2048, 1 / 2048, "float32")

    class Last:
        def random(self):
            return 1 - 2**-53

    assert n["draw"](ends, Last()) == 2047
