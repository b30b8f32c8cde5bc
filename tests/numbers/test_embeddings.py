"""Every number that notebook 02 says in words is computed again."""

import numpy as np

from llmnotes import embeddings, word_lists
from llmnotes.models.sentences import _opened
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("02")
    values = lesson.run()
    says = lesson.says
    smol, E, ids = (values[name] for name in ("smol", "E", "ids"))

    says("Here are {} sentences", len(values["sentences"]))
    says("and {} questions", len(values["questions"]))
    asked, winner = values["questions"][0][0], values["sentences"][values["by_words"](values["questions"][0][0])]
    assert winner == "The young cat has finished her breakfast."
    assert values["words_of"](asked) & values["words_of"](winner) == {"cat"}
    assert not values["words_of"](asked) & values["words_of"]("The kitten drinks milk.")
    says("{} of {}, and even that", values["hits"]["same words"], len(values["questions"]))
    words_of, notes, questions = values["words_of"], values["sentences"], values["questions"]
    shared = [np.array([len(words_of(q) & words_of(text)) for text in notes]) for q, _ in questions]
    best = [np.flatnonzero(row == row.max()) for row in shared]
    hit = [len(b) for b, (_, right) in zip(best, questions, strict=True) if b[0] in right]
    assert len(hit) == values["hits"]["same words"] == 5 and min(hit) > 1
    lot = sum(np.isin(b, right).mean() for b, (_, right) in zip(best, questions, strict=True))
    says("If we drew lots, we'd get {:.0f}.", lot)
    [meal] = [i for i, (q, _) in enumerate(questions) if q == "the cat's meal"]
    assert words_of("the cat's meal") & words_of(notes[0]) == {"the"} and best[meal][0] == 0
    says("in a tie of {} notes", len(best[meal]))
    says("{}", "; ".join(f"{number}: {token.replace('Ġ', '␣')}" for number, token in values["around"].items()))
    says("␣cat has the id {:,}", values["cat_id"])
    says("{} rows become one vector of the same {} numbers", len(ids), E.shape[1])
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
    along, mean = E @ values["rare"], embeddings.unit(E.mean(axis=0))
    says(
        "from {:.1f} in the first 5,000 rows to {:.1f} in those from 20,000 on",
        *(along[some].mean() for some in (slice(5_000), slice(20_000, None))),
    )
    says("(the cosine is {:.2f})", float(mean @ values["rare"]))
    assert (along > 0).mean() > 0.95
    level = embeddings.unit(E - np.outer(E @ mean, mean))
    after_mean = [[embeddings.place(smol, a, b, level) for a, b in some] for some in (values["pairs"], values["wrong"])]
    says("place {} in the median, against {:,}", *(int(np.median(some) + 0.5) for some in after_mean))
    assert abs(embeddings.place(smol, "kitten", "cat", values["control"]) - before[0]) < 1_000
    random_after = [embeddings.place(smol, a, b, values["control"]) for a, b in values["pairs"]]
    assert np.median(random_after) > 40_000
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
    words, smollm2, table, whole = hits.values()
    says("{} of {}. The words alone gave {}, or {:.0f} by lot", smollm2, len(questions), words, lot)
    as_units, without = (
        values["exam"](lambda s, table=table: values["mean_row"](smol.ids(s), table))
        for table in (values["units"], values["flat"])
    )
    says("with all rows 1 long it's {} instead of {}. With {} questions", without, as_units, len(questions))
    assert sentences[values["search"](values["encoder"](questions[0][0]), values["note_rows"], 1)[0]] == sentences[0]
    assert 0.5 < sum(len(right) for _, right in questions) / len(sentences) < 1.5
    says("That's {} of {}, so the mean isn't hopeless", table, len(questions))
    assert _opened()[0].config.num_hidden_layers == 6
    says("All {}, and the baby cat has its milk", whole)
    says("{} of {} with the same words (and those won ties)", words, len(questions))
    says("then {}, {} and {} for three", smollm2, table, whole)
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

    asked, same, rows = values["asked"], values["same"], values["asked_rows"]
    ranked = [tuple(pair) for pair in values["duplicates"](rows, -1)]
    says("The {} most similar pairs", 10)
    top = [(float(rows[i] @ rows[j]), (i, j) in same, asked[i], asked[j]) for i, j in ranked[:10]]
    says("{}", "; ".join(f"{value:.2f} {'same' if good else 'not'}: {i} {j}" for value, good, i, j in top))
    assert "turn on" in top[0][2] and "turn off" in top[0][3] and values["is_same"].index(False) == 0
    says("{} questions and {} support questions", len(questions), len(asked))
    lesson.finish(
        r"vector\s+that is 1 at",
        r"and 0 everywhere else",
        r"with a 1 at",
        r"products are 0",
        r"It's 1 if both",
        r"same way, 0 at a\s+right",
        r"and −1 if",
        r"it\s+1 long",
        r"made 1 long",
        r"is a 95% interval",
        r"at most\s+256 tokens",
    )
