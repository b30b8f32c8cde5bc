"""The forms of data that the field has: read, written with the model's template, or refused; nothing lost silently."""

import copy
import json
import sys

import pytest
from transformers import AutoTokenizer

from llmnotes.errors import FileBroken, MissingPart
from llmnotes.finetuning.data import IGNORE, Row, encode, examples
from llmnotes.finetuning.records import read, unused
from llmnotes.pebble import weights_dir

# ChatML that takes the thoughts out of earlier answers, and gives the last one an empty thought, as Qwen3 does.
THINKS = """
{%- if tools %}<|user|>tools {{ tools | tojson }}<|end|>
{% endif %}
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}<|assistant|>
{% if loop.index0 > ns.last %}<think>
{{ m.reasoning_content or '' }}
</think>
{% endif %}{{ m.content.split('</think>')[-1].lstrip() }}
{%- for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments | tojson }}</call>
{%- endfor %}<|end|>
{% else %}<|user|>{{ m.role }} {{ m.content }}<|end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% endif %}"""
# A template that says what is learned: transformers makes the mask of it.
MARKED = """
{%- for m in messages %}
{%- if m.role == 'assistant' %}<|assistant|>{% generation %} {{ m.content }}<|end|>{% endgeneration %}
{% elif m.role == 'system' %}<|user|>system {{ m.content }}<|end|>
{% else %}<|user|> {{ m.content }}<|end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


@pytest.fixture(scope="module")
def chat():
    return AutoTokenizer.from_pretrained(weights_dir("pebble-chat"))


def templated(chat, template: str):
    made = copy.deepcopy(chat)
    made.chat_template = template
    return made


def talk(*turns, **more) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]} | more


def shown(tokenizer, row: Row) -> str:
    """Return the text of a row, with what is learned in brackets."""
    text, inside = "", False
    for token, label in zip(row.ids, row.labels, strict=True):
        text += "]" * (inside and label == IGNORE) + "[" * (not inside and label != IGNORE) + tokenizer.decode([token])
        inside = label != IGNORE
    return text + "]" * inside


TALK = talk(
    ("system", "be kind"), ("user", "cow?"), ("assistant", "moo"), ("user", "pig?"), ("assistant", "oink oink"),
    ("user", "hen?"), ("assistant", "cluck"),
)  # fmt: skip


def test_several_turns_are_learned_exactly_as_transformers_marks_them(chat):
    tokenizer, said = templated(chat, MARKED), []
    (row,) = encode(examples([TALK]), tokenizer, 200, said.append)
    made = tokenizer.apply_chat_template(
        TALK["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = made["input_ids"], made["assistant_masks"]
    assert list(row.ids) == ids[: len(row.ids)] and tokenizer.decode(ids[len(row.ids) :]).strip() == "" and not said
    assert [label != IGNORE for label in row.labels] == [bool(learned) for learned in mask[: len(row.ids)]]
    assert shown(tokenizer, row).count("[") == 3


def test_a_template_that_takes_thoughts_out_makes_rows_that_the_model_will_meet(chat):
    tokenizer = templated(chat, THINKS)
    talked = copy.deepcopy(TALK)
    talked["messages"][4]["reasoning_content"] = "a pig"
    rows = encode(examples([talked]), tokenizer, 300, pytest.fail)
    assert len(rows) == 3
    for row, end in zip(rows, (3, 5, 7), strict=True):
        before = tokenizer.apply_chat_template(
            talked["messages"][: end - 1], tokenize=False, add_generation_prompt=True
        )
        whole = tokenizer.apply_chat_template(talked["messages"][:end], tokenize=False)
        text = shown(tokenizer, row).rstrip()
        assert text == f"{before}[{whole.removeprefix(before).rstrip()}]"  # nothing behind the token that ends it
        assert list(row.ids[: -row.learned - 1]) == tokenizer(before, add_special_tokens=False)["input_ids"]
    assert "<think>\na pig\n</think>\noink oink<|end|>" in shown(tokenizer, rows[1])
    assert "a pig" not in shown(tokenizer, rows[2]), "as the template has it when the talk goes on"


def test_a_message_of_weight_0_is_read_and_not_learned(chat):
    talked = copy.deepcopy(TALK)
    talked["messages"][4]["weight"] = 0
    talked["messages"][6]["weight"] = 1
    (row,) = encode(examples([talked]), templated(chat, MARKED), 200, pytest.fail)
    assert "oink oink" in shown(chat, row) and shown(chat, row).count("[") == 2 and "[ oink" not in shown(chat, row)
    talked["messages"][2]["weight"] = talked["messages"][6]["weight"] = 0
    with pytest.raises(FileBroken, match="no message of the assistant, so there is nothing to learn"):
        examples([talked])


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": "c"}'}}
TOOL = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}
CALLING = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "assistant", "content": "It is 4."},
    ],
    "tools": [TOOL],
    "parallel_tool_calls": False,
}


def test_openais_tools_reach_the_template_or_are_refused(chat):
    tokenizer, said = templated(chat, THINKS), []
    (row,) = encode(examples([CALLING]), tokenizer, 999, said.append)
    text = shown(tokenizer, row)
    assert text.startswith('<|user|>tools [{"type": "function"') and "<|user|>user 2+2?<|end|>" in text
    assert '</think>\n<call>add {"a": 2, "b": "c"}</call><|end|>]' in text and "<|user|>tool 4" in text
    assert text.rstrip().endswith("It is 4.<|end|>]")
    assert said == ['Left out: 1 "tool_call_id" of messages.']
    assert unused(examples([CALLING])) == 'Fields of the data that were not used: "parallel_tool_calls" (1 times).'
    plain = templated(chat, MARKED)
    with pytest.raises(FileBroken, match='record 1 has "tools", for which the model\'s chat template has no place'):
        encode(examples([CALLING]), plain, 999)
    del (without := copy.deepcopy(CALLING))["tools"]
    with pytest.raises(FileBroken, match='has "tool_calls", for which the model\'s chat template has no place'):
        encode(examples([without]), plain, 999)


def test_a_message_that_the_template_leaves_out_is_refused_and_one_that_it_writes_otherwise_is_not(chat):
    deaf = templated(chat, MARKED.replace("system {{ m.content }}", ""))
    with pytest.raises(FileBroken, match="record 1 has a message of the role 'system' that the model's chat template"):
        encode(examples([TALK]), deaf, 200)
    loud = templated(chat, MARKED.replace("system {{ m.content }}", "{{ m.content | upper }}"))
    (row,) = encode(examples([TALK]), loud, 200, pytest.fail)
    assert "BE KIND" in shown(chat, row)
    said = []
    encode(examples([talk(*[("user", "a"), ("assistant", "b"), ("user", "c")])]), loud, 99, said.append)
    assert said == ["Left out: 1 messages behind the last answer."]


def test_rows_that_are_cut_are_counted_in_one_line(chat):
    tokenizer, said = templated(chat, MARKED), []
    lines = [talk(("user", "a"), ("assistant", "moo " * count)) for count in (1, 9, 9, 9)]
    rows = encode(examples(lines), tokenizer, 12, said.append)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert [end in row.ids[5:] for row in rows] == [True, False, False, False]
    (line,) = said
    assert line.startswith("Of 4 rows, 3 are longer than max_length (12 tokens; the longest has ")
    assert line.endswith(") and were cut: they lost the token that ends them.")


def test_a_prompt_that_was_templated_beforehand_gets_no_second_first_token_and_no_second_last_one(chat, stories):
    first = chat.bos_token_id
    for record in (
        {"prompt": "<|bos|><|user|> cow?<|end|><|assistant|>", "completion": " moo<|end|>\n"},
        {"prompt": "<|user|> cow?<|end|><|assistant|>", "completion": " moo<|end|>"},
        {"text": "<|bos|><|user|> cow?<|end|><|assistant|> moo<|end|>\n"},
    ):
        (row,) = encode(examples([record]), chat, 99, pytest.fail)
        assert row.ids.count(first) == 1 and row.ids[0] == first
        assert row.ids.count(chat.eos_token_id) == 2 and chat.decode(row.ids).rstrip().endswith("moo<|end|>")
    ends = AutoTokenizer.from_pretrained(stories)
    ends._tokenizer.post_processor = None
    ends.add_eos_token = ends.add_bos_token = True
    ends.update_post_processor()
    if ends("a")["input_ids"][-1] == ends.eos_token_id:  # a tokenizer that ends every text
        (row,) = encode(examples([{"prompt": "Once upon", "completion": " a time"}]), ends, 99)
        assert row.ids.count(ends.eos_token_id) == 1 and row.ids[-1] == ends.eos_token_id


def test_alpaca_sharegpt_and_lists_of_messages_are_the_same_talk(chat):
    expected = talk(("system", "be kind"), ("user", "Add.\n\n2+2"), ("assistant", "4"))
    alpaca = {"instruction": "Add.", "input": "2+2", "output": "4", "system": "be kind"}
    turns = [{"from": "human", "value": "Add.\n\n2+2"}, {"from": "gpt", "value": "4"}]
    share = {"conversations": turns, "system": "be kind"}
    trl = {"prompt": expected["messages"][:2], "completion": expected["messages"][2:]}
    for record in (alpaca, share, trl, {"conversations": expected["messages"]}):
        assert examples([record])[0].fields == expected
    assert examples([{"instruction": "Say moo.", "input": "", "output": "moo", "id": 3}])[0].fields == talk(
        ("user", "Say moo."), ("assistant", "moo"), id=3
    )
    earlier = talk(("user", "a"), ("assistant", "b"), ("user", "c"))["messages"]
    (example,) = examples([{"prompt": earlier, "completion": [{"role": "assistant", "content": "d"}]}])
    (row,) = encode([example], templated(chat, MARKED), 99, pytest.fail)
    assert shown(chat, row).count("[") == 1 and "[ d<|end|>]" in shown(chat, row)


def test_a_json_array_is_read(tmp_path):
    path = tmp_path / "d.json"
    path.write_text(
        " \n" + json.dumps([{"text": "a"}, {"instruction": "b", "output": "c"}], indent=1), encoding="utf-8"
    )
    assert [(e.fields, e.where) for e in read(path)] == [
        ({"text": "a"}, f"{path}, record 1"),
        (talk(("user", "b"), ("assistant", "c")), f"{path}, record 2"),
    ]
    path.write_text('[{"text": "a"}, {"text": 7}]', encoding="utf-8")
    with pytest.raises(FileBroken, match='record 2 lacks the text "text"'):
        read(path)
    path.write_text('[{"text": "a"}', encoding="utf-8")
    with pytest.raises(FileBroken, match="is no JSON"):
        read(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(FileBroken, match="holds no line of data"):
        read(path)


BROKEN = {
    '{"instruction": "a", "output": ""}': 'lacks the text "output"',
    '{"instruction": "a", "output": "b", "input": 7}': 'lacks the text "input"',
    '{"instruction": "a", "output": "b", "history": [["c", "d"]]}': 'has a field "history", which is not read; write',
    '{"conversations": 7}': "that are no list of",
    '{"conversations": [{"from": "bing", "value": "a"}]}': "has a turn from 'bing'; the names are human",
    '{"conversations": [{"from": "gpt", "value": 3}]}': 'lacks the text "content" of a message',
    '{"messages": [{"role": "user", "content": "a", "weight": 1}]}': 'has a "weight" that is not 0 or 1 on',
    '{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}': 'has a "weight" that is not 0 or 1 on',
    '{"messages": [{"role": "assistant", "content": "a", "function_call": {}}]}': 'a message with "function_call"',
    '{"messages": [{"role": "assistant", "tool_calls": []}]}': 'has "tool_calls" that are no list of',
    '{"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}]}': "no list",
    '{"messages": [{"role": "assistant", "content": [{"type": "image_url"}]}]}': "has a content that is not text",
    '{"messages": [{"role": "assistant", "content": "a"}], "tools": [7]}': 'has "tools" that are no list of objects',
    '{"messages": [{"role": "assistant", "content": "a"}], "tools": "["}': 'has "tools" that are no list of objects',
    '{"text": "a", "tools": []}': 'has "tools" that are no list of objects beside "messages"',
    '{"text": "a", "functions": []}': 'has a field "functions", which is not read; write "tools"',
}


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: line[:60])
def test_what_would_lose_its_meaning_is_refused(tmp_path, line):
    path = tmp_path / "d.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(FileBroken, match="d.jsonl, line 1 ") as caught:
        read(path)
    assert BROKEN[line] in str(caught.value) and str(caught.value).endswith(".")


def test_fields_that_nothing_reads_are_named():
    found = examples([{"text": "a", f"field {i}": 1, "fact": 1} for i in range(10)])
    assert unused(found).endswith(" and 2 more.") and '"field 0" (1 times)' in unused(found)
    assert unused(examples([{"text": "a", "fact": 2}])) == ""


def test_a_table_is_read_cell_by_cell_as_text(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes('\ufeffprompt,completion,id\r\nNA,7,1\r\n,"c, ""d""\ne",\r\n'.encode())
    assert [(e.fields, e.where) for e in read(path)] == [
        ({"prompt": "NA", "completion": "7", "id": "1"}, f"{path}, line 2"),
        ({"prompt": "", "completion": 'c, "d"\ne', "id": ""}, f"{path}, line 4"),
    ]
    for content, sentence in (
        (b"text\na\nb,c\n", "line 3 has not as many cells as the first line has names"),
        (b"prompt,completion\na\n", "line 2 has not as many cells"),
        (b'text\n"a\n', "is no CSV in UTF-8"),
        (b"text\n\xff\n", "is no CSV in UTF-8"),
        (b"question,answer\na,b\n", "line 2 must be one of"),
        (b"text\n", "holds no line of data"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileBroken, match=sentence):
            read(path)


def test_parquet_needs_the_library_datasets(tmp_path, monkeypatch):
    path = tmp_path / "d.parquet"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPart, match="d.parquet is read by the library datasets; bring it with"):
        read(path)

    class Dataset:  # what the library answers
        rows = ({"messages": TALK["messages"], "n": None},)

        @classmethod
        def from_parquet(cls, path, keep_in_memory):
            return (row if row else int("Parquet magic bytes not found\nin footer") for row in cls.rows)

    monkeypatch.setitem(sys.modules, "datasets", type(sys)("datasets"))
    monkeypatch.setattr(sys.modules["datasets"], "Dataset", Dataset, raising=False)
    assert [(e.fields, e.where) for e in read(path)] == [(TALK, f"{path}, row 1")]
    Dataset.rows = ({},)
    with pytest.raises(FileBroken, match="d.parquet is no Parquet file"):
        read(path)
