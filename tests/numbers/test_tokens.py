"""Every number that notebook 01 says in words is computed again."""

import json

import numpy as np

from llmnotes import embeddings, word_lists
from llmnotes.models.sentences import _opened
from llmnotes.tokens import compare, pieces, real_tokenizers
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("01")
    values = lesson.run()
    says = lesson.says
    sentence, merges, stages, seen = (values[name] for name in ("sentence", "merges", "stages", "seen"))
    pebble, smol, E, ids = (values[name] for name in ("pebble", "smol", "E", "ids"))

    says("{} words became {} tokens", WORDS[len(sentence.split())].capitalize(), WORDS[len(values["pebble_ids"])])
    says("{} words have become {} steps", len(sentence.split()), len(sentence))
    for letter in "kä🐱":
        says(f"{letter}: " + "{}", " ".join(map(str, letter.encode())))
    says("{} rows become one vector of the same {} numbers", len(ids), E.shape[1])
    tokens = {count: sum(map(len, words)) for count, words in stages.items()}
    counts = values["counts"]
    assert counts["h", "e"] == counts["i", "t"] == 4
    says("marked {} times", counts["h", "e"])
    bars = sorted(counts.items(), key=lambda item: -item[1])[:6]
    says("{}", ", ".join(f"{a} {b} {count}".replace("Ġ", "␣") for (a, b), count in bars))
    says("commonest, {} times", counts["h", "e"])
    shown = "; ".join(f"after {count} merges {tokens[count]} tokens" for count in (0, 2, 5, len(merges)))
    says("{}", shown)
    says("{} tokens became {}", tokens[0], tokens[len(merges)])
    joined = ["".join(pair) for pair in merges]
    says("it in merge {}, kit in {}", joined.index("it") + 1, joined.index("kit") + 1)
    says("in merge {} the whole word", joined.index("Ġkitten") + 1)
    assert values["encode"]("the mitten") == "the, Ġ, m, it, ten".split(", ")
    assert len("🐱".encode()) == 4

    state = json.loads(pebble.tokenizer.backend_tokenizer.to_str())
    says("only {:,} merges", len(state["model"]["merges"]))
    for number, pair, left in values["replayed"]:
        a, b = (part.replace("Ġ", "␣") for part in pair)
        says("merge {:,}, {} + {}: {}", number, a, b, " ".join(left).replace("Ġ", "␣"))
    says("joins the last {}", len(values["replayed"][-1][2]))
    special = [token for token in pebble.tokenizer.get_vocab() if token.startswith("<|")]
    says(f"With 256 bytes and {len(special)} special tokens, that's Pebble's " + "{:,} tokens", len(pebble.tokenizer))
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
    cut = compare(sentence)
    says("{}", "; ".join(f"{name} ({sizes[name]:,}): {' | '.join(found)}" for name, found in cut.items()))
    assert sizes["Pebble"] == min(sizes.values()) and len(cut["Pebble"]) == max(map(len, cut.values()))
    assert sizes["MiniLM"] < sizes["Llama 2"] and len(cut["MiniLM"]) < len(cut["Llama 2"])
    rate = {kind: len(compare(text)["SmolLM2"]) / len(text) for kind, text in word_lists.samples().items()}
    assert 1.8 < rate["German"] / rate["English"] < 2

    says("token {:,} isn't twice token {:,}", ids[1], ids[1] // 2)
    says("the kitten's is {:,}, the cat's {:,}", smol.row("kitten"), smol.row("cat"))
    says("with a 1 at place {}", ids[1])
    says("gives row {}", ids[1])
    lengths = ", ".join(
        f"{word} {np.degrees(np.arccos(value)):.0f} degrees, cosine {value:.2f}"
        for word, value in values["near"].items()
    )
    says("To kitten: {}", lengths)
    assert values["near"]["cat"] < values["near"]["castle"]
    says("nearest of all {:,} rows", len(E))
    says("At which place among {:,} rows", len(E))
    before, after = values["before"], values["after"]
    says("From place {:,.0f} to place {}", float(f"{before[0]:.2g}"), after[0])
    assert len(before) == 20 and all(smol.row(b) < smol.row(a) for a, b in values["pairs"])
    assert all(np.less(after, before))
    nearer = np.less(values["wrong_after"], values["wrong_before"]).mean()
    says("{:.1%} of the {} wrong ones do so too", nearer, len(values["wrong"]))
    says("at place {} in the median, against {:,}", values["middle"], values["wrong_middle"])
    assert values["nearest"](values["units"][smol.row("king")], values["units"])[4] == "␣queen"
    results = values["results"]
    asked, shares = results["all of them"]
    says("{:,} in {} kinds", asked, WORDS[len(results) - 1])
    says(
        "{:.0%} are right. But nearness alone gets {:.0%}, nearly all of them among those {:.0%}",
        *shares[:2],
        shares[0],
    )
    says("With nothing left out only {:.0%} are right", shares[2])
    asked = [question for some in embeddings.analogy_questions(smol).values() for question in some]
    given = [question[:3] for question in asked]
    usual, near, free = (
        embeddings.analogies(smol, given, exclude=exclude, arithmetic=arithmetic, spellings=True)
        for exclude, arithmetic in ((True, True), (True, False), (False, True))
    )
    found = [one == q[3].lower() for one, other, q in zip(usual, near, asked, strict=True) if other == q[3].lower()]
    assert np.mean(found) > 0.9
    says("{:.0%} of the time you land where", np.mean([a == q[2].lower() for a, q in zip(free, given, strict=True)]))
    opposite = results["word → opposite"][1]
    assert opposite[1] >= opposite[0] and results["much → more"][1][0] > 2 * results["much → more"][1][1]
    for relation, (_, three) in results.items():
        says("{}: {}", relation, ", ".join(f"{100 * share:.0f}" for share in three))

    hits, questions, sentences = values["hits"], values["questions"], values["sentences"]
    says("win our {} questions", len(questions))
    assert sum(sentences[0] == one for one in values["first"]) == len(questions) // 2
    long = [len(smol.ids(one)) for one in sentences]
    sizes = np.linalg.norm(values["sentence_rows"], axis=1)
    assert long.count(min(long)) == 1 and np.argmin(long) == np.argmax(sizes) == 0
    assert np.corrcoef(long, sizes)[0, 1] < -0.5
    smollm2, table, whole = hits.values()
    says("{} of {}. Guessing would give about one", smollm2, len(questions))
    assert 0.5 < sum(len(right) for _, right in questions) / len(sentences) < 1.5
    says("That's {} of {}, so the mean isn't hopeless", table, len(questions))
    assert _opened()[0].config.num_hidden_layers == 6
    says("All {}. So does it", whole)
    says("{}, {} and {} of {} for three ways", smollm2, table, whole, len(questions))
    for name, right in hits.items():
        says("{}: {} of {}", name, right, len(questions))
    closed, encoder = values["closed"], values["encoder"]
    says("a cosine of {:.2f}; not open has {:.2f}", *(closed @ encoder(text) for text in sentences[25:27]))
    traps = word_lists.traps()
    right = {kind: sum(encoder(q) @ encoder(a) > encoder(q) @ encoder(b) for q, a, b in traps[kind]) for kind in traps}
    orders, nots = len(traps["word order"]), len(traps["not"])
    says("We tried {} pairs of questions about word order", orders // 2)
    assert {(b, a) for _, a, b in traps["word order"]} == {(a, b) for _, a, b in traps["word order"]}
    says(
        "and {} about a not. It gets {} of the {} and {} of the {}",
        nots,
        right["word order"],
        orders,
        right["not"],
        nots,
    )
    lesson.finish(
        *(
            r"some 150,000 of them",
            r"from 0 to 255",
            r"256 (?:different )?bytes",
            r"UTF-8",
            r"byte 32",
            r"3,000 of its",
        ),
        *(r"per 100 letters", r"is 8,192", r"vector\s+that is 1 at", r"and 0 everywhere else", r"single 1"),
        *(
            r"products are 0",
            r"It's 1 if both",
            r"same way, 0 at a\s+right",
            r"and −1 if",
            r"its length 1",
            r"multiplied by 0",
            r"at most 256 tokens",
        ),
    )
