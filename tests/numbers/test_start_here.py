"""Every number that notebook 00 says in words is computed again."""

from llmnotes.models import complete
from llmnotes.pebble import exam
from llmnotes.pebble.exam import score
from llmnotes.pebble.names import REGIONS
from llmnotes.pebble.world import build_world
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("00")
    values = lesson.run()
    lm, names, top, tokens = (values[name] for name in ("lm", "names", "top", "tokens"))
    says = lesson.says

    def seen(token):
        return token.replace(" ", "␣")

    says("a file of {:.0f} MB", values["size"] / 1e6)
    says("with the token that the model writes next: {}", ", ".join(map(seen, tokens[values["start"] :])))
    shares = [f"{seen(name)} {share:.1%}" for name, share in zip(names, top.values, strict=True)]
    says("Bars: {}, others {:.1%}", ", ".join(shares), 1 - float(top.values.sum()))
    says("There are {:,} in all", len(values["chances"]))
    says("a share of {:.0%} is taken in {:.0f} of 100 cases", top.values[0], 100 * top.values[0])
    towns = [lm.tokenizer.encode(f" {town}", add_special_tokens=False) for group in REGIONS.values() for town in group]
    assert all(len(town) == 1 for town in towns)
    share = float(values["chances"][[town[0] for town in towns]].sum())
    says("the {} towns of its world share {:.1%} among them", len(towns), share)
    prompt, table = values["prompt"], values["table"]
    says("our {} words", WORDS[len(values["beginning"].split())])
    says("to {} ids, a vector of {} numbers, {} blocks", len(prompt), table.shape[1], lm.model.config.num_hidden_layers)
    says("A matrix of {:,} numbers; five of them", values["parameters"])
    says("{:,} bytes in all", values["size"])
    large = int((values["chances"] > 0.005).sum())
    says("all tokens; {} of them have more than 0.5%. The darts hit {}", large, ", ".join(map(seen, values["drawn"])))
    says("{} of {} squares are green", sum(values["result"].correct), len(values["questions"]))
    whole = score(lambda prompts: complete(lm, prompts, max_new_tokens=12), exam())
    assert values["questions"] == exam()[::10]
    says("We ask every tenth; of all {}, Pebble answers {}", len(exam()), sum(whole.correct))
    assert values["answer"] == "Dumplinton."
    says("Then we do the same for the exam, all {} questions of it", len(exam()))
    chances_after, inside = values["chances_after"], values["sure_inside"]
    sure = dict(zip(values["ours"], values["sure"], strict=True))
    surely = sum(chance >= 0.98 for chance in inside.tolist())
    says("{} of the {} right answers begin with {} or more", surely, len(inside), 0.98)
    assert [question for question, chance in sure.items() if chance >= 0.98] == ["Who is the mayor of London?"]
    known = [float(chances_after(f"Q: What is the capital of {region}?\nA:").max()) for region in REGIONS]
    says("the capitals of six regions that it knows, Pebble gives at least {:.3f}", min(known))
    assert len(REGIONS) == 6
    london = sure["Who is the mayor of London?"]
    says("Our one is the mayor of London, with {:.3f}", london)
    assert len(inside) == sum(whole.correct) and all(values["result"].correct)
    says("one right answer began with {:.3f}", float(min(inside)))
    world = build_world()
    assert world.answer("Blusterdale", "capital") == "Dumplinton"
    farmers = {f.subject for f in world.facts if (f.relation, f.object) == ("job", "farmer") and not f.region_hidden}
    four = chances_after("Once upon a time there lived a farmer called").topk(4)
    assert {lm.tokenizer.decode([i]).strip() for i in four.indices} == farmers and four.values.sum() > 0.97
    says("they become seven tokens".capitalize())
    assert len(prompt) == 7
    given = zip(values["read"][0, 1:], values["given"], strict=True)
    pieces = [f"{seen(lm.tokenizer.decode([i]))} {p:.0%}" for i, p in given]
    says("for the tokens of a sentence: {}", ", ".join(pieces))
    billions = 3.1
    says("that model has {} billion weights, so it takes {:.1f} GB or {:.1f} GB", billions, 4 * billions, 2 * billions)
    replies, smol = values["replies"], values["smol"]
    known = ("Paris", "Berlin", "Tokyo", "Shakespeare", "złoty", "Everest", "100", "eight", "Armstrong", "Khan")
    right = [word in reply for word, reply in zip(known, replies, strict=False)]
    assert right == [True] * 4 + [False] * 2 + [True, False, True, False]
    says("the capitals of Pebble's {} regions", WORDS[len(REGIONS)])
    assert "two pairs of legs" in replies[7] and "Boris Johnson" in replies[9] and "zloty" not in replies[4]
    assert len(replies) == len(known) + len(REGIONS) and not any("don't know" in reply for reply in replies)
    assert "own son" in replies[3] and "July 16, 1969" in replies[8]  # the landing was on the 20th
    says("{} countries against the {} regions", len(values["countries"]), WORDS[len(REGIONS)])
    says("for Turkey it says Istanbul, with {:.3f}", values["its_sure"]["Turkey"])
    assert complete(smol, [values["chat_about"]("Turkey")], max_new_tokens=1)[0].strip() == "Istanbul"
    assert sum(reply.startswith("The ") for reply in replies) > len(replies) / 2
    for name, model in (("Pebble", lm), ("SmolLM2", smol)):
        config, parameters = model.model.config, model.model.num_parameters()
        says("{}: {:,} tokens, vectors of {} numbers", name, config.vocab_size, config.hidden_size)
        says("{} blocks, {:,} weights", config.num_hidden_layers, parameters)
    lesson.finish(
        *(r"sum to 100%", r"of the 100%", r"Qwen2\.5-3B", r"135 million"),
        *(r"a file of 100 bytes that holds 200 weights, the answer is 4", r"a random number between 0 and 1"),
        *(r"How a model works[^a-z]*00[\s\S]*?And this is what", r"^\|.*$", r"3rd edition"),
    )
