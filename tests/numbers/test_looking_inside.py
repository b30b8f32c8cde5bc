"""The numbers in the prose of "Looking inside", and that the package's four tools are the lesson's."""

import numpy as np
import pytest
import torch

from llmnotes.pebble import inside
from llmnotes.pebble.numpy_model import Pebble, additions, rms_norm
from tests.numbers.prose import WORDS, Prose

LANGUAGES = dict(
    map(
        str.split,
        """France French, Italy Italian, Japan Japanese, Germany German, Spain Spanish, Russia Russian, China Chinese,
Greece Greek, Portugal Portuguese, Sweden Swedish, Norway Norwegian, Poland Polish""".split(","),
    )
)
MORE = dict(  # a capital of several words by its first
    map(
        str.split,
        """Ukraine Kyiv, Turkey Ankara, Iran Tehran, Iraq Baghdad, Syria Damascus, Lebanon Beirut, Jordan Amman, Qatar
Doha, Ireland Dublin, Scotland Edinburgh, Denmark Copenhagen, Finland Helsinki, Iceland Reykjavik, Hungary
Budapest, Romania Bucharest, Bulgaria Sofia, Serbia Belgrade, Croatia Zagreb, Belgium Brussels, Netherlands
Amsterdam, Switzerland Bern, Canada Ottawa, Brazil Brasilia, Argentina Buenos, Colombia Bogota, Venezuela
Caracas, Ecuador Quito, Bolivia La, Mexico Mexico, Jamaica Kingston, India New, Pakistan Islamabad, Bangladesh
Dhaka, Nepal Kathmandu, Thailand Bangkok, Vietnam Hanoi, Indonesia Jakarta, Malaysia Kuala, Philippines
Manila, Taiwan Taipei, Korea Seoul, Nigeria Abuja, Ghana Accra, Ethiopia Addis, Uganda Kampala, Morocco Rabat,
Algeria Algiers, Tunisia Tunis, Libya Tripoli, Senegal Dakar""".split(","),
    )
)


@pytest.fixture(scope="module")
def lesson():
    return Prose("08")


@pytest.fixture(scope="module")
def values(lesson):
    return lesson.run()


def test_every_number_is_computed_again(lesson, values):
    counts, edges, quiz, everyone = (values[name] for name in ("counts", "edges", "quiz", "everyone"))
    zero, leads, encode, total = values["zero"], values["all_leads"], values["encode"], len(values["quiz"])
    gentle = (values["gentle"] > 0).sum(axis=1)
    names = [name for name, *_ in quiz]
    animals = len(everyone)
    lesson.says("try it on {} animals", animals)
    lesson.says("Pebble's world has {} animals", animals)
    lesson.says("and keep {}", total)
    assert values["lens"](encode("A baby cow is a"))[3][1][0][0] == " cat"
    lesson.says("How many of the {} answers stay right without it?", total)
    stay, needed = counts[7], WORDS[total - counts[7]]
    assert zero[7][names.index("cat")] < 0
    lesson.says("{}. The cat is one of {} that need the last MLP", stay, needed)
    lesson.says("Without the last MLP, {} answers stay right.", stay)
    whole = values["leads"](values["pebble"], quiz).mean()
    close = WORDS[((zero[7] > 0) & (zero[7] < 1)).sum()]
    lesson.says("falls from {:.1f} to {:.1f}, and {} of the {} lead by less than 1", whole, zero[7].mean(), close, stay)
    lesson.says("look at the {} again", stay)
    assert (values["stopped"].argmax(axis=1) == [answer for *_, answer in quiz]).sum() == stay
    lesson.says("{} again, and all the scores are the same", stay)
    lesson.says("with zero, {} answers were left; with the average, all {}", counts[2], gentle[2])
    lesson.says("block 2 goes from {} to {} only", counts[4], gentle[4])
    lesson.says("the last MLP, from {} to {}, and in the first, from {} to {}", stay, gentle[7], counts[1], gentle[1])
    score = values["shares"](values["ids"], values["k"])
    rival = values["shares"](values["ids"], values["cat"])
    lesson.says("{:.1f} of the {:.1f} come from MLP 3", score["MLP 3"], sum(score.values()))
    lesson.says("{:.1f} from MLP 2", score["MLP 2"])
    lead = {name: score[name] - rival[name] for name in score}
    lesson.says("MLP 3 is {:.1f} ahead, MLP 2 is {:.1f} ahead", lead["MLP 3"], lead["MLP 2"])
    lesson.says("attention 2 is {:.1f} behind", -lead["attention 2"])
    lesson.says("for all {}.", total)
    np.testing.assert_allclose(leads.sum(axis=1), values["leads"](values["pebble"], quiz), atol=1e-3)
    lesson.says("gives {:.1f} to the lead on average, MLP 3 gives {:.1f}", leads.mean(0)[6], leads.mean(0)[8])
    lesson.says("the largest share for {} animals", (leads.argmax(1) == 8).sum())
    both = values["right"](values["both"], quiz)
    lesson.says("{} or {} answers stay right. Without both, {}", counts[5], stay, both)
    lesson.says("MLP gives {:.1f} to the lead on average", leads.mean(axis=0)[2])
    assert counts[1] == 0
    units = values["units"]
    best = units.argmax()
    assert 0.08 < units[best] / units.sum() < 0.12
    lesson.says("The largest of the {} units gives {:.2f} of {:.2f}, a tenth", len(units), units[best], units.sum())
    left = [without_units(values, units.argsort()[::-1][:many]) for many in (1, 10)]
    lesson.says("the kitten stays, with {:.2f}.", left[0])
    lesson.says("it isn't all {}, either: the ten largest give {:.2f}", len(units), np.sort(units)[-10:].sum())
    lesson.says("without them ␣k is down to {:.2f}", left[1])
    draws = np.random.default_rng(1)
    kept = [without_units(values, draws.choice(len(units), 10, replace=False)) for _ in range(50)]
    lesson.says("it stays above 0.85, in {0} draws of {0}", len(kept))
    assert min(kept) > 0.85
    assert [i for i, row in enumerate(edges) for count in row if count < total] == [1, 2]
    fallen = values["leads"](values["pebble"], quiz) - values["cuts"][1, 1]
    rest = values["cuts"][1, 1].mean(), (fallen > 1).sum(), total
    lesson.says("the mean lead falls from {:.1f} to {:.1f}, by more than 1 for {} of the {}", whole, *rest)
    moves, pairs = values["moves"], len(values["pairs"])
    lesson.says("What attention 2 adds decides the animal: {} of {}", moves[4], pairs)
    lesson.says("We tried all {1} pairs: {0} change sides", *all_pairs(values))
    told = [values["additions"](values["pebble"], ids)["attention 2"] for _, ids, _ in quiz]
    own = [place(values["pebble"], row, ids[3]) <= 10 for row, (_, ids, _) in zip(told, quiz, strict=True)]
    its = [place(values["pebble"], row, young) <= 10 for row, (*_, young) in zip(told, quiz, strict=True)]
    lesson.says("among the ten best for {} of {}, the young for {}", sum(own), total, sum(its))
    lesson.says("to move one answer: {}. MLP 3 has {}, MLP 2 has {}", moves[2], moves[7], moves[5])
    first = values["first"]
    assert set(first[:3] + first[4:]) == {total}
    lesson.says("{} are right; in any other row, all {}", first[3], total)
    assert values["moved"](0, "mlp", 3) == pairs
    lesson.says("{} times out of {}", pairs, pairs)
    lesson.says("0.7 for a coin flip".replace("0.7", f"{np.log(2):.1f}"))
    lesson.says("0 if the model was sure and right")
    lesson.says("that's all that the {} answers showed", total)
    higher = (values["less"] > values["whole"]).sum()
    lesson.says("On {} of {} texts, the loss gets higher", higher, len(values["whole"]))
    early = {a: values["lens"](ids)[3][1][0][0] == values["decode"](answer) for a, ids, answer in quiz}
    says_cat = [a for a, ids, _ in quiz if values["lens"](ids)[3][1][0][0] == " cat"]
    assert {"elephant", "pigeon", "butterfly"} < set(says_cat) and early["butterfly"]
    lesson.says("So it is for most of {} animals", total)
    lesson.says("The lens after block 2, for {} animals. {} rows have", total, sum(early.values()))
    wrong = sum(animal not in ("cat", "butterfly") for animal in says_cat)
    lesson.says("and {} animals that are no cats get a wrong", wrong)
    lesson.says("One of eight parts is changed, on {} animals", total)
    lesson.says("What is left of the story, on {} animals", total)
    real(lesson, values)
    lesson.finish(
        r"[Bb]locks? [0-3](?: and [0-3])?\b",
        r"\((6|tokens), 256\)",
        r"\b(MLP|[Aa]ttention) [0-3]\b|\btoken i \+ 1\b",
        r"weights below 0\.05",
        r"row 0 and column 2, and the one in row 1 and column 1",
    )


def without_units(values, units):
    """The probability of the kitten if some units of the last MLP write nothing."""
    model = Pebble(values["W"])
    model.blocks[3].mlp.down = model.blocks[3].mlp.down.copy()
    model.blocks[3].mlp.down[:, units] = 0
    return values["softmax"](model(values["ids"])[-1])[values["k"]]


def all_pairs(values):
    """How often attention 2 of another prompt makes Pebble name the other's young, and the number of such pairs."""
    hits = tried = 0
    added = {name: inside.average(values["pebble"], 2, "attention", [ids]) for name, ids, _ in values["quiz"]}
    for other, _, young in values["quiz"]:
        model = values["patched"](Pebble(values["W"]), 2, "attention", 5, added[other])
        asked = [ids for _, ids, answer in values["quiz"] if answer != young]
        hits += sum(model(ids)[-1].argmax() == young for ids in asked)
        tried += len(asked)
    return hits, tried


def real(lesson, values):
    """What is said of SmolLM2: the same with hooks in the library's own model."""
    model, places, known = values["smol"].model, values["places"], values["known"]
    world = [(start, answer[0]) for start, answer in known]
    lesson.says("SmolLM2 has {} blocks", len(model.model.layers))
    lesson.says('We ask for {} ("The capital of France is")', len(values["asked"]))
    settings = model.config
    assert values["settings"] == {
        "layers": settings.num_hidden_layers,
        "base": settings.rope_parameters["rope_theta"],
        "eps": settings.rms_norm_eps,
    }
    lesson.says("a line for each of {} capitals.", len(places))
    assert (places[:, 23] < places[:, 22]).all() and (places[:, :22] > 300).all()
    lesson.says("At block 23 all lines drop towards the first place")
    lost = sum(last > 0 for last in places[:, -1])
    lesson.says("{} reach it, all in the last block (blue); the other {} are named", len(known), lost)
    lesson.says("stay high from block to block, drop at block 23")
    lesson.says("its average over the {} that SmolLM2 knows", len(known))
    lesson.says("and {} stay right", usual(values, 29, "mlp"))
    lesson.says("With the average of attention 23, {} do", usual(values, 23, "attention"))
    lesson.says("what the attention of block 23 has added")
    assert moved_by(model, world) == len(world)
    lesson.says(
        "Block 23 brings in what the model knows of the country, and for {} of our {} the city", *brought(values)
    )
    lesson.says("The lens on the whole row sees the city {} blocks later", WORDS[29 - 23])
    lesson.says("So it is for {} of {} pairs, and none names the language", *asked_for_another(values))
    drop, early, tenth, right, moved = fifty_more(values)
    lesson.says("We tried {} more countries. All {} lines drop at block 23", len(MORE), drop)
    lesson.says("But {} have the city first before the last block, and only {} have it", early, tenth)
    lesson.says("Of the {} that SmolLM2 knows, {} change sides", right, moved)


def place(model, row, token):
    """The place of a token if the lens reads this row."""
    scores = model.read(row)
    return (scores > scores[token]).sum() + 1


def usual(values, number, part):
    """How many capitals stay right if a part of SmolLM2 adds its average."""
    big, known = values["big"], values["known"]
    model = inside.replaced(big, number, part, inside.average(big, number, part, [start for start, _ in known]))
    return sum(model(start)[-1].argmax() == city[0] for start, city in known)


def given(values, start, donor):
    """What SmolLM2 says after `start` if attention 23 adds to its last token what it adds for `donor`."""
    big = values["big"]
    added = np.zeros((len(start), big.table.shape[1]), np.float32)
    added[-1] = values["additions"](big, donor)["attention 23"]
    model = values["patched"](Pebble(values["V"], **values["settings"]), 23, "attention", len(start) - 1, added)
    return model(start)[-1].argmax()


def asked_for_another(values):
    """Put in what is added when the language is asked for; return how many then name the capital, and of how many."""
    tokens, capital = values["smol"].tokenizer, dict(map(str.split, values["capitals"].split(",")))
    names, hits = list(LANGUAGES), []
    for country, donor in zip(names, names[1:] + names[:1], strict=True):
        start, other = (
            tokens(text)["input_ids"] for text in (f"The capital of {country} is", f"The language of {donor} is")
        )
        said = tokens.decode([int(given(values, start, other))]).strip()
        hits.append(said == capital[donor])
        assert said != LANGUAGES[donor]
        if (country, donor) == ("France", "Italy"):
            assert said == "Rome"
    return sum(hits), len(hits)


def fifty_more(values):
    """How many of other capitals drop, come first early, are in the ten, are known, and change sides."""
    tokens, big = values["smol"].tokenizer, values["big"]
    asked = [
        [tokens(text)["input_ids"] for text in (f"The capital of {country} is", f" {city}")]
        for country, city in MORE.items()
    ]
    places = np.array([values["ahead"](*one) for one in asked])
    tenth = [place(big, values["additions"](big, start)["attention 23"], city[0]) <= 10 for start, city in asked]
    known = [one for one, row in zip(asked, places, strict=True) if row[-1] == 0]
    pairs = zip(known, known[1:] + known[:1], strict=True)
    moved = [given(values, start, donor) == city[0] for (start, _), (donor, city) in pairs]
    early = (places[:, :-1] == 0).any(axis=1).sum()
    return (places[:, 23] < places[:, 22]).sum(), early, sum(tenth), len(known), sum(moved)


def brought(values):
    """How many of the capitals that the lesson asks for are among the ten best of what attention 23 adds."""
    big, asked = values["big"], values["asked"]
    places = [place(big, values["additions"](big, start)["attention 23"], city[0]) for start, city in asked]
    return sum(one <= 10 for one in places), len(asked)


def moved_by(model, world):
    """How often SmolLM2 names the next city, if ␣is gets what attention 23 has added for that prompt."""
    ids, written = torch.tensor([start for start, _ in world]), []

    def keep(module, args, output):
        written.append(output[0])

    def change(module, args, output):
        rows = output[0].clone()
        rows[:, 4] = written[0].roll(-1, 0)[:, 4]
        return rows, *output[1:]

    for hook in (keep, change):
        handle = model.model.layers[23].self_attn.register_forward_hook(hook)
        with torch.no_grad():
            best = model(ids).logits[:, -1].argmax(dim=-1).tolist()
        handle.remove()
    return sum(guess == city for guess, (_, city) in zip(best, world[1:] + world[:1], strict=True))


def test_what_breaks_without_the_first_mlp(values):
    """Sounds and homes are lost without it, too, and the model without it is the only one that loses them."""
    encode, lost = values["encode"], values["without"](0, "mlp")
    for model, good in ((values["pebble"], True), (lost, False)):
        for animal, _, sound, home, _ in values["ANIMALS"]:
            for start, end in ((f"The {animal} says", sound), (f"The home of the {animal} is the", home)):
                if end != "-":
                    ids, answer = encode(start), encode(f"{start} {end}")
                    assert (model(ids)[-1].argmax() == answer[len(ids)]) == good, (start, end)


def test_the_tools_of_the_package_are_those_of_the_lesson(values):
    pebble, ids, k = values["pebble"], values["ids"], values["k"]
    for (_, ours), theirs in zip(values["lens"](ids)[1:], inside.lens(pebble, ids), strict=True):
        assert [values["decode"](i) for i, _ in theirs] == [token for token, _ in ours]
        np.testing.assert_allclose([p for _, p in theirs], [p for _, p in ours], atol=1e-5)
    assert inside.shares(pebble, ids, k) == pytest.approx(values["shares"](ids, k), abs=1e-4)
    prompts = values["prompts"][:5]
    for number in range(4):
        near = {"atol": 1e-4}
        for part in ("attention", "mlp"):
            theirs = inside.replaced(pebble, number, part)(ids)
            np.testing.assert_allclose(theirs, values["without"](number, part)(ids), **near)
            usual = inside.average(pebble, number, part, prompts)
            theirs = inside.replaced(pebble, number, part, usual)(ids)
            ours = values["softened"](values["W"], prompts, number, part)(ids)
            np.testing.assert_allclose(theirs, ours, **near)
    np.testing.assert_array_equal(pebble(ids), Pebble(values["W"])(ids))


def test_the_rows_that_are_kept_are_those_of_the_model(values):
    pebble, ids = values["pebble"], values["ids"]
    changed = inside.replaced(pebble, 2, "mlp")
    again = inside.replaced(changed, 3, "attention")  # a change upon a change
    model = Pebble(values["W"])
    model.blocks[2].mlp = model.blocks[3].attention = lambda x: 0 * x
    np.testing.assert_allclose(again(ids), model(ids), atol=1e-4)
    first = additions(pebble, ids)["attention 0"]
    x = pebble.table[ids]
    block = pebble.blocks[0]
    np.testing.assert_allclose(first, block.attention(rms_norm(x, block.norm1))[-1], atol=1e-5)
