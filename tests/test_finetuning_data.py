"""Lines of JSON become rows of tokens: what is learned, what is refused, and packing that changes nothing."""

import copy
import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmnotes.errors import FileBroken, FileUnreadable
from llmnotes.finetuning import records
from llmnotes.finetuning.data import IGNORE, Row, collate, encode, examples, pack
from llmnotes.finetuning.records import Example, read, split
from llmnotes.pebble import weights_dir


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return AutoTokenizer.from_pretrained(tiny_folder)  # a byte is a token, no marks, no chat template


@pytest.fixture(scope="module")
def chat():
    return AutoTokenizer.from_pretrained(weights_dir("pebble-chat"))


def written(tokenizer, row: Row) -> tuple[str, str]:
    """Return what a row reads, and what of it is learned."""
    return tokenizer.decode(row.ids), tokenizer.decode([label for label in row.labels if label != IGNORE])


def test_the_loss_falls_on_the_answer_only(tiny, chat):
    (row,) = encode(examples([{"prompt": "Q: cow?\nA:", "completion": " moo\n"}]), tiny, 99)
    assert written(tiny, row) == ("Q: cow?\nA: moo\n", " moo\n")
    (row,) = encode(examples([{"prompt": "Q: cow?\nA:", "completion": " moo.\n"}]), chat, 99)
    assert written(chat, row) == ("<|bos|>Q: cow?\nA: moo.\n<|end|>", " moo.\n<|end|>")
    assert list(row.ids[: -row.learned]) == chat("Q: cow?\nA:")["input_ids"]
    (row,) = encode(examples([{"text": "A cow."}]), chat, 99)
    assert written(chat, row) == ("<|bos|>A cow.<|end|>", "A cow.<|end|>")  # nothing predicts the first token


def test_each_answer_of_a_chat_is_learned_and_no_question(chat):
    messages = [("user", "cow?"), ("assistant", "moo"), ("user", "pig?"), ("assistant", "oink"), ("user", "and?")]
    record = {"messages": [{"role": role, "content": text} for role, text in messages]}
    (row,) = encode(examples([record]), chat, 99)
    assert written(chat, row) == (
        "<|bos|><|user|> cow?<|end|><|assistant|> moo<|end|><|user|> pig?<|end|><|assistant|> oink<|end|>",
        " moo<|end|> oink<|end|>",
    )
    whole = chat.apply_chat_template(record["messages"][:4], tokenize=True)["input_ids"]
    asked = chat.apply_chat_template(record["messages"][:3], tokenize=True, add_generation_prompt=True)["input_ids"]
    assert list(row.ids) == whole and whole[: len(asked)] == asked


def test_a_model_without_a_chat_template_gets_plain_lines(tiny):
    record = {"messages": [{"role": "user", "content": "cow?"}, {"role": "assistant", "content": "moo"}]}
    (row,) = encode(examples([record]), tiny, 99)
    assert written(tiny, row) == ("User: cow?\nAssistant: moo\n", " moo\n")


def test_a_text_that_ends_already_gets_no_second_end(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    for record in ({"prompt": "Once upon", "completion": " a time</s>"}, {"text": "Once upon a time</s>"}):
        (row,) = encode(examples([record]), tokenizer, 99)
        assert list(row.ids).count(tokenizer.eos_token_id) == 1 and row.ids[-1] == tokenizer.eos_token_id


def test_a_prompt_has_the_tokens_that_it_has_alone(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)  # SentencePiece, which would put a space before a completion
    (row,) = encode(examples([{"prompt": "Once upon", "completion": " a time"}]), tokenizer, 99)
    assert list(row.ids) == [*tokenizer("Once upon a time")["input_ids"], tokenizer.eos_token_id]
    (row,) = encode(examples([{"prompt": "Once up", "completion": "on a time"}]), tokenizer, 99)
    alone = tokenizer("Once up")["input_ids"]
    assert list(row.ids[: len(alone)]) == alone and row.labels[len(alone)] == row.ids[len(alone)]
    assert all(label == IGNORE for label in row.labels[: len(alone)])


def test_a_long_row_is_cut_and_one_without_an_answer_refused(tiny):
    (row,) = encode(examples([{"prompt": "ab", "completion": "cdef"}]), tiny, 4)
    assert written(tiny, row) == ("abcd", "cd") and row.learned == 2
    found = [Example({"prompt": "abcd", "completion": "e"}, "d.jsonl, line 7")]
    with pytest.raises(FileBroken, match=r"d.jsonl, line 7 has nothing to learn within max_length \(4 tokens\)"):
        encode(found, tiny, 4)


def test_a_template_that_refuses_names_the_line(chat):
    found = [Example({"messages": [{"role": r, "content": "x"} for r in ("system", "assistant")]}, "d, line 3")]
    with pytest.raises(FileBroken, match="d, line 3 is refused by the model's chat template.*two roles"):
        encode(found, chat, 99)


GOOD = '{"text": "a"}'
BROKEN = {
    "{": "no JSON",
    '{"text": "a"': "no JSON",
    "[" * 100_000: "no JSON",
    '{"text": ' + "9" * 5000 + "}": "no JSON",
    "[1]": "no JSON object",
    "7": "no JSON object",
    '{"a": 1}': "is none of them",
    '{"text": "a", "prompt": "b", "completion": "c"}': "more than one",
    '{"text": ""}': 'lacks the text "text"',
    '{"text": 7}': 'lacks the text "text"',
    '{"text": "\\ud800"}': "half a character",
    '{"prompt": "a"}': 'lacks the text "completion"',
    '{"prompt": "a", "completion": null}': 'lacks the text "completion"',
    '{"prompt": ["a"], "completion": "b"}': 'lacks the text "prompt"',
    '{"messages": {}}': "no list",
    '{"messages": ["a"]}': "no list",
    '{"messages": [{"role": "assistant"}]}': 'lacks the text "content"',
    '{"messages": [{"content": "a"}]}': 'lacks the text "role"',
    '{"messages": [{"role": "user", "content": "a"}]}': "no message of the assistant",
    '{"messages": []}': "no message of the assistant",
}


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: line[:40])
def test_a_broken_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "d.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(FileBroken, match="d.jsonl, line 3 ") as caught:
        read(path)
    sentence = str(caught.value)
    assert BROKEN[line] in sentence and sentence.endswith(".") and "\n" not in sentence and len(sentence) < 300


def test_a_file_that_cannot_be_read_at_all(tmp_path, monkeypatch):
    path = tmp_path / "d.jsonl"
    for nothing in (b"", b"\n \n", b"\xef\xbb\xbf\n"):
        path.write_bytes(nothing)
        with pytest.raises(FileBroken, match="holds no line of data; put one JSON object on each line"):
            read(path)
    path.write_bytes(GOOD.encode() + b'\n{"text": "\xff"}\n')
    with pytest.raises(FileBroken, match="line 2 is not UTF-8"):
        read(path)
    monkeypatch.setattr(records, "LINE_LIMIT", 20)
    path.write_bytes(GOOD.encode() + b"\n" + b" " * 30)
    with pytest.raises(FileBroken, match="line 2 is longer than"):
        read(path)
    for no_file in (tmp_path, tmp_path / "no.jsonl"):
        with pytest.raises(FileUnreadable, match="There is no file"):
            read(no_file)

    def forbidden(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records, "open", forbidden, raising=False)
    with pytest.raises(FileUnreadable, match=r"d.jsonl cannot be read \(Permission denied\); check its rights"):
        read(path)


def test_what_other_programs_write_is_read(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a", "fact": 1}\r\n\r\n{"prompt": "", "completion": "\\u00e9"}')
    assert [example.fields for example in read(path)] == [{"text": "a", "fact": 1}, {"prompt": "", "completion": "é"}]
    assert [example.where for example in read(path)] == [f"{path}, line 1", f"{path}, line 3"]


@pytest.mark.parametrize("seed", range(5))
def test_no_fact_stands_on_both_sides_of_a_split(seed):
    rng = random.Random(seed)
    records = [{"text": str(i), "fact": f"f{rng.randrange(30)}"} for i in range(100)]
    train, held_out = split(examples(records), 0.2, seed)
    facts = [{example.fields["fact"] for example in side} for side in (train, held_out)]
    assert not facts[0] & facts[1] and len(train) + len(held_out) == 100 and 15 <= len(held_out) <= 25
    assert split(examples(records), 0.2, seed) == (train, held_out) != split(examples(records), 0.2, seed + 9)


def test_facts_that_one_line_joins_stay_together():
    records = [{"text": str(i), "fact": [i, i + 1]} for i in range(0, 12, 2)] + [{"text": "x", "fact": [1, 8]}]
    for seed in range(20):
        sides = split(examples(records), 0.3, seed)
        facts = [{fact for example in side for fact in example.fields["fact"]} for side in sides]
        assert not facts[0] & facts[1] and all(sides)
        homes = [fact in facts[1] for fact in (0, 1, 8, 9)]
        assert len(set(homes)) == 1
    with pytest.raises(FileBroken, match="share a fact"):
        split(examples([{"text": "a", "fact": 1}, {"text": "b", "fact": 1}]), 0.5)


def test_without_a_field_copies_stay_together_and_a_key_may_say_what_a_fact_is():
    train, held_out = split(examples([{"text": text} for text in "aabbccddee"]), 0.4)
    assert not {e.fields["text"] for e in train} & {e.fields["text"] for e in held_out} and len(held_out) == 4
    records = [{"text": f"{subject} {i}"} for subject in ("cow", "pig", "hen") for i in range(4)]
    train, held_out = split(examples(records), 0.3, key=lambda fields: fields["text"].split()[0])
    assert len({e.fields["text"].split()[0] for e in held_out}) == 1 and len(held_out) == 4


def test_packing_keeps_every_document_and_wastes_little():
    rng = random.Random(0)
    rows = [Row((i,) * n, (i,) * n, (n,)) for i, n in enumerate(rng.choices(range(1, 40), k=300))]
    packed = pack(rows, 64)
    assert all(len(row.ids) == sum(row.lengths) <= 64 for row in packed)
    assert sorted(i for row in packed for i in row.ids) == sorted(i for row in rows for i in row.ids)
    total = sum(len(row.ids) for row in rows)
    assert len(packed) <= 1.05 * total / 64 + 1  # at most 5% beyond what no packing can beat
    assert pack(rows, 64) == packed and pack([], 64) == []
    assert [row.lengths for row in pack([rows[0], Row((1,) * 99, (1,) * 99, (99,))], 64)][0] == (99,)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_in_a_row_do_not_see_each_other(tiny_folder, attention):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation=attention).eval()
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in (5, 9, 3, 7, 4):
        ids = tuple(torch.randint(0, 256, (length,), generator=generator).tolist())
        rows.append(Row(ids, (IGNORE, *ids[1:]), (length,)))
    packed = pack(rows, 16)
    assert [row.lengths for row in packed] == [(9, 7), (5, 4, 3)]  # two rows, the second with padding
    alone = {row.ids: model(**inputs([row])).logits[0] for row in rows}
    out = model(**inputs(packed)).logits
    at = [(0, 0, 9), (0, 9, 16), (1, 0, 5), (1, 5, 9), (1, 9, 12)]
    for row, start, end in at:
        ids = packed[row].ids[start:end]
        torch.testing.assert_close(out[row, start:end], alone[ids], rtol=0, atol=1e-5)
    assert torch.isfinite(out).all()  # the padding, too, looks at something
    places = collate(packed)["position_ids"]
    assert places[0].tolist() == [*range(9), *range(7)] and places[1, :12].tolist() == [*range(5), *range(4), *range(3)]
    labels = collate(packed)["labels"]
    assert all(labels[row, start] == IGNORE for row, start, _ in at), "a document would predict the next one's start"


def test_a_packed_and_an_unpacked_batch_give_the_same_gradient(tiny_folder):
    from llmnotes.finetuning.train import summed_loss

    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    rows = encode(examples([{"prompt": "q" * n, "completion": "a" * n} for n in (2, 5, 3)]), bytes_tokenizer(), 64)
    gradients = []
    for batch in (rows, pack(rows, 64)):
        model.zero_grad()
        loss = summed_loss(model, collate(batch))
        loss.backward()
        gradients.append((loss.item(), [p.grad.clone() for p in model.parameters()]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-6) and len(pack(rows, 64)) == 1
    for one, other in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def inputs(rows) -> dict:
    return {name: tensor for name, tensor in collate(rows).items() if name != "labels"}


def bytes_tokenizer():
    class Bytes:
        eos_token_id = eos_token = bos_token = chat_template = None
        all_special_tokens = ()

        def __call__(self, text, **_):
            return {"input_ids": list(text.encode())}

    return Bytes()


def test_json_and_python_agree(tmp_path):
    records = [{"prompt": "a", "completion": "b", "fact": ["x", 1]}, {"text": "c"}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    assert [e.fields for e in read(path)] == [e.fields for e in examples(records)] == records


def test_a_template_that_rewrites_what_it_wrote_names_the_line(tiny):
    tokenizer = copy.deepcopy(tiny)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages | length }}"
    talk = [{"role": role, "content": role} for role in ("user", "assistant")]
    with pytest.raises(FileBroken, match="does not write where it asks for one; write the line as prompt and comple"):
        encode(examples([{"messages": talk}]), tokenizer, 64)
