"""Every number that notebook 00 says in words is computed again."""

from llmnotes.models import complete
from llmnotes.pebble import exam
from llmnotes.pebble.exam import score
from llmnotes.pebble.names import REGIONS
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("00")
    values = lesson.run()
    lm, names, top, tokens = (values[name] for name in ("lm", "names", "top", "tokens"))
    says = lesson.says

    def seen(token):
        return token.replace(" ", "␣")

    says("into {:.0f} MB", values["size"] / 1e6)
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
    given = zip(values["read"][0, 1:], values["given"], strict=True)
    pieces = [f"{seen(lm.tokenizer.decode([i]))} {p:.0%}" for i, p in given]
    says("for the tokens of a sentence: {}", ", ".join(pieces))
    billions = 3.1
    says("that model has {} billion weights, so it takes {:.1f} GB or {:.1f} GB", billions, 4 * billions, 2 * billions)
    lesson.finish(
        *(r"sum to 100%", r"of the 100%", r"Qwen2\.5-3B", r"135 million"),
        *(r"a file of 100 bytes that holds 200 weights, the answer is 4", r"a random number between 0 and 1"),
        *(r"How a model works[^a-z]*00[\s\S]*?And this is what", r"^\|.*$", r"3rd edition"),
    )
