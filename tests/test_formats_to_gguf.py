"""GGUF files made from Hugging Face folders, against llama.cpp's own converter and against llama.cpp."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible
from llmnotes.formats import convert
from llmnotes.formats.gguf.pretokenizers import PRE
from llmnotes.pebble import weights_dir
from tests.llama_cpp import opened
from tests.models_for_gguf import VARIANTS, make, without_a_space_before

ROOT = Path(__file__).parent.parent

# Keys whose values differ from those of llama.cpp's converter, with the reason.
DIFFERENT = {
    "tokenizer.ggml.add_bos_token": "always written: where it is missing, llama.cpp adds BOS to a SentencePiece text, "
    "and the converter leaves it out for a tokenizer.json whose template has none",
    "tokenizer.ggml.add_eos_token": "always written, beside add_bos_token",
    "tokenizer.ggml.eom_token_id": "the tiny models' config.json names another end than their tokenizer, which the "
    "converter passes over",
    "tokenizer.ggml.add_sep_token": "left out: nothing here has a separator, and false is what llama.cpp assumes",
}

WORDS = [
    "the",
    "Once",
    "upon",
    " a",
    "\n",
    "\n\n",
    "\t",
    "don't",
    "I'VE",
    "123",
    "3.14",
    "é",
    "ß",
    "naïve",
    "日本",
    "😀",
]
WORDS += [
    "👩‍👩‍👧",
    "\u0301",
    "\u200b",
    "\xa0",
    "...",
    "!?",
    "Ω",
    "пр",
    "<0x41>",
    "_",
    "'Re",
    "\r\n",
    "a\0b",
    " <",
    "|>",
    "  ",
]


@pytest.fixture(scope="module")
def pebble() -> Path:
    return weights_dir("pebble")


def strings(count: int) -> list[str]:
    """Return texts that are hard on tokenizers: spaces, scripts, emoji, bytes that are no words; none begins blank."""
    rng = random.Random(0)
    ranges = [(33, 127), (160, 0x2000), (0x3000, 0xD000), (0x1F300, 0x1F700)]
    texts = []
    while len(texts) < count:
        if len(texts) % 3:
            text = "".join(rng.choice(WORDS) + rng.choice(["", " "]) for _ in range(rng.randint(1, 12)))
        else:
            text = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 15)))
        texts += [text] if not text.startswith((" ", "▁")) else []
    return texts


def read(path: Path) -> tuple[dict, dict]:
    """Return (keys, tensors) as gguf-py reads them."""
    import gguf

    reader = gguf.GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    keys = {name: ([kind.name for kind in field.types], field.contents()) for name, field in fields.items()}
    tensors = {t.name: (t.tensor_type.name, t.shape.tolist(), t.data.tobytes()) for t in reader.tensors}
    return keys, tensors


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, pebble, stories):
    @cache
    def folder(name: str) -> Path:
        if name == "pebble":
            return pebble
        if name == "stories":
            return stories
        dtype = "bfloat16" if name in ("mistral", "qwen2") else "float16" if name == "llama_mha" else "float32"
        # transformers changes any other that a Qwen has, and llama.cpp's converter knows no other of Gemma and Phi-3.
        stories_too = name.startswith(("qwen", "gemma", "phi3")) and name not in ("qwen3_moe", "qwen3_moe_yarn")
        tokenizer = stories if stories_too else pebble
        place = tmp_path_factory.mktemp("models") / name.replace(
            "phi3", "phi"
        )  # in whose name llama.cpp looks for a Phi-3's tokens
        make(name, place, tokenizer, dtype)
        if name.startswith("gemma"):
            without_a_space_before(place)
        return place

    return folder


# Four of the five types of Pebble say all there is to say about types; every variant has a type of its own.
CASES = [("pebble", kind) for kind in ("F32", "F16", "BF16", "Q8_0")] + [("stories", "F32"), ("stories", "Q8_0")]
CASES += [
    (name, ("F16", "Q8_0", "BF16", "F32")[at % 4])
    for at, name in enumerate(VARIANTS)
    if name != "stablelm_qk_norm"  # the converter stops there: its stack of norms is made by a generator nobody runs
]


@pytest.fixture(scope="module")
def peers(tmp_path_factory, converter, folder_of):
    """All cases converted by llama.cpp's converter in one process: most of its time goes into imports."""
    out = tmp_path_factory.mktemp("peers")
    jobs = [(str(folder_of(name)), str(out / f"{name}-{kind}.gguf"), kind) for name, kind in CASES]
    command = [sys.executable, str(ROOT / "tests" / "peers" / "llama_cpp_convert.py"), str(converter)]
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name}-{kind}" for name, kind in CASES])
def test_tensors_and_keys_are_those_of_llama_cpps_converter(name, kind, peers, folder_of, tmp_path):
    convert(folder_of(name), tmp_path / "ours.gguf", type=kind)
    ours, tensors = read(tmp_path / "ours.gguf")
    theirs, expected = read(peers / f"{name}-{kind}.gguf")
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if tensors[name] != expected[name]] == []
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    # Of a Phi-3 the converter takes tokenizer.json's word for <unk>, <s> and </s>, and of others tokenizer.model's.
    differing -= {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"} if name.startswith("phi3") else set()
    assert differing <= DIFFERENT.keys(), {key: (ours.get(key), theirs.get(key)) for key in differing}


def test_without_a_type_it_is_the_folders_own(pebble, stories, tmp_path):
    convert(pebble, tmp_path / "a.gguf")
    convert(stories, tmp_path / "b.gguf")
    assert read(tmp_path / "a.gguf")[1]["blk.0.attn_q.weight"][0] == "BF16"
    assert read(tmp_path / "b.gguf")[1]["blk.0.attn_q.weight"][0] == "F16"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
@pytest.mark.parametrize(
    ("name", "kind"), [("pebble", "F32"), ("pebble", "F16"), ("pebble", "BF16"), ("stories", "F32")]
)
def test_llama_cpp_says_what_pytorch_says(name, kind, folder_of, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = folder_of(name)
    convert(folder, tmp_path / "model.gguf", type=kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with opened(tmp_path / "model.gguf") as llama:
        for prompt in ("Once upon a time", "The dog", "Tom and"):
            ids = tokenizer(prompt, return_tensors="pt")
            out = model.generate(**ids, do_sample=False, max_new_tokens=64, pad_token_id=tokenizer.eos_token_id)
            said = out[0, ids["input_ids"].shape[1] :].tolist()
            text, tokens = llama.greedy(prompt, 64)
            assert tokens == said
            assert text.strip() == tokenizer.decode(said, skip_special_tokens=True).strip()
        if kind != "F32":
            return
        special = [] if name == "stories" else tokenizer.all_special_tokens
        texts = strings(600) + [text + token + text for token in special for text in strings(20)]
        assert [text for text in texts if llama.tokens(text) != tokenizer(text)["input_ids"]] == []


def differs_from_llama_cpp(folder: Path, path: Path) -> float:
    """Return the largest difference of llama.cpp's 20 likeliest next tokens from transformers', in nats."""
    import torch
    from transformers import AutoModelForCausalLM

    convert(folder, path, type="F32")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(3, 500, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.log_softmax(model(ids).logits[0, -1], -1)
    with opened(path) as llama:
        return max(abs(expected[token].item() - logprob) for token, logprob in llama.next_tokens(ids[0].tolist(), 20))


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
@pytest.mark.parametrize("name", VARIANTS)
def test_llama_cpp_computes_every_variant_as_pytorch_does(name, folder_of, tmp_path):
    # llama.cpp looks Gemma's GELU up in a table of float16.
    close = 5e-3 if name.startswith("gemma") else 1e-4
    assert differs_from_llama_cpp(folder_of(name), tmp_path / "model.gguf") < close


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("gemma")])
def test_a_gemma_without_its_gelu_is_computed_as_pytorch_does(name, folder_of, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder_of(name), tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    down = {key: tensor * 0 for key, tensor in tensors.items() if key.endswith("down_proj.weight")}
    save_file(tensors | down, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    assert differs_from_llama_cpp(tmp_path / "model", tmp_path / "model.gguf") < 1e-4


def test_sentencepiece_without_its_model_comes_from_the_merges(stories, tmp_path):
    folder = tmp_path / "stories"
    shutil.copytree(stories, folder)
    os.chmod(folder, 0o755)
    (folder / "tokenizer.model").unlink()
    convert(folder, tmp_path / "model.gguf", type="F32")
    keys = read(tmp_path / "model.gguf")[0]
    with_model = tmp_path / "with.gguf"
    convert(stories, with_model, type="F32")
    expected = read(with_model)[0]
    assert keys["tokenizer.ggml.tokens"] == expected["tokenizer.ggml.tokens"]
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp is not installed")
    with opened(with_model) as one, opened(tmp_path / "model.gguf") as other:
        assert all(one.tokens(text) == other.tokens(text) for text in strings(200))


def changed(folder: Path, target: Path, file: str, change) -> Path:
    """Return a copy of `folder` in which `change` was applied to the JSON of one file."""
    shutil.copytree(folder, target)
    os.chmod(target, 0o755)
    value = json.loads((target / file).read_text())
    change(value)
    (target / file).unlink()
    (target / file).write_text(json.dumps(value))
    return target


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
@pytest.mark.parametrize("pre", [name for name in PRE if name != "stablelm2"])
def test_every_known_way_of_cutting_words_gives_the_same_tokens(pre, pebble, tmp_path):
    from tokenizers import Tokenizer

    def cut(value):
        steps = [step | {"trim_offsets": True} if step["type"] == "ByteLevel" else step for step in PRE[pre][0]]
        value["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else steps[0]
        value["model"]["ignore_merges"] = PRE[pre][1]

    folder = changed(pebble, tmp_path / "model", "tokenizer.json", cut)
    convert(folder, tmp_path / "model.gguf")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert read(tmp_path / "model.gguf")[0]["tokenizer.ggml.pre"][1] == pre
    with opened(tmp_path / "model.gguf") as llama:
        assert [text for text in strings(300) if llama.tokens(text) != tokenizer.encode(text).ids] == []


def cut_by_another_pattern(value):
    value["pre_tokenizer"] = {"type": "Whitespace"}


@pytest.mark.parametrize(
    ("file", "change", "error", "word"),
    [
        ("config.json", lambda c: c.update(architectures=["MambaForCausalLM"]), NotConvertible, "LlamaForCausalLM"),
        ("config.json", lambda c: c.update(num_hidden_layers=3), NotConvertible, "does not describe"),
        ("config.json", lambda c: c.update(num_hidden_layers=5), FileBroken, "lacks"),
        ("config.json", lambda c: c.update(tie_word_embeddings=False), FileBroken, "lm_head"),
        ("config.json", lambda c: c.update(num_hidden_layers=10**9), FileBroken, "num_hidden_layers"),
        ("config.json", lambda c: c.update(hidden_size="big"), FileBroken, "hidden_size is big, which cannot be right"),
        ("config.json", lambda c: c.update(num_key_value_heads=[4, 2]), NotConvertible, "heads, a number for each"),
        ("config.json", lambda c: c.update(intermediate_size=[96, 64]), NotConvertible, "size, a number for each"),
        ("config.json", lambda c: c.update(max_position_embeddings=1 << 32), FileBroken, "max_position_embeddings"),
        ("config.json", lambda c: c.update(num_attention_heads=0), FileBroken, "num_attention_heads"),
        ("config.json", lambda c: c.update(vocab_size=100), FileBroken, "shape"),
        ("config.json", lambda c: c.update(rope_parameters={"rope_type": "longrope"}), NotConvertible, "longrope"),
        ("tokenizer.json", cut_by_another_pattern, NotConvertible, "pre-tokenizer"),
        ("tokenizer.json", lambda t: t["model"].update(type="Unigram"), NotConvertible, "BPE"),
        ("tokenizer.json", lambda t: t["model"].update(vocab=[]), FileBroken, "vocabulary"),
        ("tokenizer.json", lambda t: t["model"]["vocab"].update(x="y"), FileBroken, "token"),
    ],
)
def test_what_cannot_be_converted_is_said_in_one_sentence(file, change, error, word, pebble, tmp_path):
    folder = changed(pebble, tmp_path / "model", file, change)
    with pytest.raises(error, match=word):
        convert(folder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_a_context_of_many_millions_is_believed(pebble, tmp_path):
    folder = changed(pebble, tmp_path / "model", "config.json", lambda c: c.update(max_position_embeddings=1 << 25))
    convert(folder, tmp_path / "model.gguf")
    assert read(tmp_path / "model.gguf")[0]["llama.context_length"] == (["UINT32"], 1 << 25)


def test_a_strange_type_or_target_is_refused(pebble, tmp_path):
    with pytest.raises(NotConvertible, match="Q8_0"):
        convert(pebble, tmp_path / "model.gguf", type="Q99")
    (tmp_path / "model.gguf").write_bytes(b"kept")
    with pytest.raises(LLMNotesError, match="exists"):
        convert(pebble, tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"kept"


def test_rows_that_no_block_fits_become_f16_and_are_named(stories, tmp_path):
    done = convert(stories, tmp_path / "model.gguf", type="Q8_0")
    assert done.fallbacks == {f"blk.{layer}.ffn_down.weight": "F16" for layer in range(5)}


def test_what_a_tokenizer_does_before_it_cuts_is_said_to_be_lost(stories, tmp_path):
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    merge = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    tried = {
        "as SentencePiece": [prepend, mark],
        "spaces merged": [merge, prepend, mark],
        "accents": [{"type": "NFKC"}, prepend, mark],
        "no marks": [{"type": "NFKC"}],
        "no list": 5,
        "no step": [7],
    }
    said = {}
    for name, steps in tried.items():

        def change(fast, steps=steps):
            fast |= {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}

        folder = changed(stories, tmp_path / name, "tokenizer.json", change)
        (folder / "tokenizer.model").unlink()
        try:
            said[name] = convert(folder, tmp_path / f"{name}.gguf", type="F32").lost
        except LLMNotesError as error:
            said[name] = [type(error)]
    # AutoTokenizer puts its LlamaTokenizer in the place of all these steps.
    auto = [sum("AutoTokenizer takes LlamaTokenizer" in str(sentence) for sentence in said[name]) for name in tried]
    assert auto == [1, 1, 1, 0, 0, 0]
    assert [len(said[name]) for name in tried] == [1, 2, 2, 1, 1, 1]
    assert [said[name][0] for name in list(tried)[3:]] == [NotConvertible, FileBroken, FileBroken]
    assert "several spaces" in said["spaces merged"][0]
