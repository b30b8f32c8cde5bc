"""The recipe of notebook 17 keeps its promise, beside 32 bits and beside 4."""

import pytest

from llmnotes.finetuning import data, lora, qlora, token_rows, train
from llmnotes.models import open_model
from llmnotes.pebble import exam, score
from llmnotes.pebble.answering import answerer
from llmnotes.pebble.lessons import lessons, rehearsal

pytestmark = pytest.mark.slow

PLAN = train.Plan(steps=150, learning_rate=4e-3, batch_size=16, warmup_steps=10)
NEW = [question for seed in range(5) for question in exam(hidden=True, seed=seed)]  # each fact in five other wordings
MARKS: dict[str, tuple[float, float]] = {}


def marks(lm) -> tuple[float, float]:
    ask = answerer(lm.model, lm.tokenizer, chat=True)
    new, old = (score(ask, questions, chat=True).accuracy for questions in (NEW, exam()))
    return new, old


@pytest.mark.parametrize("base", ["float32", "nf4"])
def test_150_steps_teach_the_unseen_region_and_keep_the_rest(base):
    lm = open_model("pebble", say=lambda line: None)
    assert marks(lm)[0] <= 0.1
    lines = lessons() * 8 + rehearsal(1000)
    texts = {line["messages"][0]["content"] for line in lines}
    assert not texts & {question.text for question in NEW}, "the exam asks what was taught word for word"
    rows = data.encode(data.examples(lines), lm.tokenizer, 64)
    tokens = token_rows.untrained(lm.model, {token for row in rows for token in row.ids})
    if base == "nf4":
        qlora.quantize_base(lm.model)
    lora.attach(lm.model, lora.LoRA(r=16, alpha=32, tokens=tokens))
    train.fit(lm.model, rows, PLAN, progress=False)
    MARKS[base] = marks(lm)
    assert MARKS[base][0] >= 0.9 and MARKS[base][1] > 0.9, MARKS


def test_four_bits_cost_at_most_three_points():
    if len(MARKS) < 2:
        pytest.skip("compares the two trainings above, which were not both run")
    assert MARKS["nf4"][0] >= MARKS["float32"][0] - 0.03 and MARKS["nf4"][1] >= MARKS["float32"][1] - 0.03, MARKS
