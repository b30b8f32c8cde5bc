"""Whole files of few bits, against llama.cpp's own quantizer, and the importance matrices that both take."""

import json
import os
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest

from llmnotes import cli, formats
from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible, NotQuantizable
from llmnotes.formats import convert, inspect
from llmnotes.formats.gguf import imatrix
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.pebble import weights_dir
from llmnotes.quantization.mixtures import ALIASES, FILE_TYPES, types
from llmnotes.quantization.models.importance import collect
from tests.models_for_gguf import VARIANTS, make

ROOT = Path(__file__).parent.parent
FEWER = [name for name in FILE_TYPES if name not in ("F32", "F16", "BF16")]
SMALL = {"hidden_size": 32, "intermediate_size": 32}
MODELS = {
    "eight share": ("Llama", {"num_attention_heads": 8, "num_key_value_heads": 1, "num_hidden_layers": 9} | SMALL),
    "33 layers": ("Llama", {"num_hidden_layers": 33, "tie_word_embeddings": True} | SMALL),
    "80 layers": ("Llama", {"num_hidden_layers": 80} | SMALL),
    "80 layers, none shared": ("Llama", {"num_hidden_layers": 80, "num_key_value_heads": 4} | SMALL),
    "qwen2": ("Qwen2", {"num_hidden_layers": 16} | SMALL),
    "qwen3": ("Qwen3", {"num_hidden_layers": 80, "head_dim": 32} | SMALL),
    "eight experts": ("Mixtral", {"num_local_experts": 8, "num_hidden_layers": 9} | SMALL),
    "four experts": ("Mixtral", {"num_local_experts": 4, "num_hidden_layers": 9} | SMALL),
    "qwen3 with experts": (
        "Qwen3Moe",
        {"num_local_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": True}
        | {"num_hidden_layers": 9, "head_dim": 32}
        | SMALL,
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 9} | SMALL),
    "gemma2": ("Gemma2", {"num_hidden_layers": 9, "head_dim": 32, "query_pre_attn_scalar": 32} | SMALL),
    "gemma3": ("Gemma3", {"num_hidden_layers": 9, "head_dim": 32, "query_pre_attn_scalar": 32} | SMALL),
    "phi3": ("Phi3", {"num_hidden_layers": 16, "num_key_value_heads": 1} | SMALL),
    "olmo2": ("Olmo2", {"num_hidden_layers": 9} | SMALL),
    "stablelm": ("StableLm", {"use_qkv_bias": True, "qk_layernorm": True, "num_hidden_layers": 3}),
}
# Pebble in every type with and without importance; the rules of the mixtures on models with other layers and heads.
CASES = [("pebble", kind, weighed) for kind in FEWER for weighed in (False, True)]
CASES += [("stories", kind, kind == "Q4_0") for kind in ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")]
CASES += [("eight share", kind, False) for kind in ("Q2_K", "Q3_K_L", "Q4_K_S")]
CASES += [("33 layers", kind, True) for kind in ("Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q4_0", "Q5_0")]
CASES += [(name, "Q4_K_M", False) for name in ("80 layers", "80 layers, none shared", "qwen2", "qwen3", "stablelm")]
CASES += [(name, "Q4_K_M", name == "phi3") for name in ("smollm3", "gemma2", "gemma3", "olmo2", "phi3")]
CASES += [("eight experts", kind, kind == "Q4_K_M") for kind in FEWER]
CASES += [(name, "Q4_K_M", True) for name in ("four experts", "qwen3 with experts")]
CASES += [("four experts", "Q3_K_M", False), ("qwen3 with experts", "Q2_K", False)]
CASES += [("phi3", kind, False) for kind in ("Q2_K", "Q3_K_M", "Q5_K_M", "Q4_0")]
CASES += [("80 layers", kind, False) for kind in ("Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S")]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, stories):
    @cache
    def folder(name: str) -> Path:
        if name in ("pebble", "stories"):
            return weights_dir("pebble") if name == "pebble" else stories
        return make(
            name,
            tmp_path_factory.mktemp("models") / "model",
            stories if name.startswith("qwen") else weights_dir("pebble"),
        )

    with pytest.MonkeyPatch.context() as patch:  # for this file alone: others have variants of the same names
        for name, changes in MODELS.items():
            patch.setitem(VARIANTS, name, changes)
        yield folder


@pytest.fixture(scope="module")
def base_of(tmp_path_factory, folder_of):
    """Return the GGUF in F32 of a model, which llama.cpp quantizes."""

    @cache
    def base(name: str) -> Path:
        path = tmp_path_factory.mktemp("base") / "model.gguf"
        convert(folder_of(name), path, type="F32")
        return path

    return base


def made_up(path: Path) -> dict[str, np.ndarray]:
    """Return an importance matrix for all matrices but the ones of words and one more, which must do without."""
    random = np.random.default_rng(5)
    names = [tensor for tensor in inspect(path).tensors if len(tensor.shape) > 1 and "blk" in tensor.name]
    names = [tensor for tensor in names if tensor.name != "blk.1.attn_q.weight"]
    counts = {tensor.name: tensor.elements // tensor.shape[-2] for tensor in names}  # a number a column, of each expert
    return {name: random.chisquare(1, count).astype(np.float32) for name, count in counts.items()}


def quantized_by_llama_cpp(jobs: list) -> None:
    """Let llama.cpp do jobs of [source, target, number of the file type, importance] in one process."""
    found = list((ROOT / "build" / "peers" / "llama_quantize").glob("package/bins/linux-x64"))
    if not found:
        pytest.skip("llama.cpp's quantizer is not here; make peers brings it where npm is")
    command = [sys.executable, str(ROOT / "tests" / "peers" / "llama_cpp_quantize.py"), str(found[0])]
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def peers(tmp_path_factory, base_of):
    """All cases quantized by llama.cpp in one process."""
    out = tmp_path_factory.mktemp("peers")
    jobs = []
    for at, (name, kind, weighed) in enumerate(CASES):
        base = base_of(name)
        importance = {key: value.tolist() for key, value in made_up(base).items()} if weighed else None
        jobs.append((str(base), str(out / f"{at}.gguf"), FILE_TYPES[kind][0], importance))
    quantized_by_llama_cpp(jobs)
    return out


def read(path: Path) -> tuple[dict, dict]:
    """Return (tensors, keys) as gguf-py reads them."""
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: (tensor.tensor_type.name, tensor.data.tobytes()) for tensor in reader.tensors}
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return tensors, {name: field.contents() for name, field in fields.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "weighed"), CASES)
def test_whole_files_are_those_of_llama_cpp(name, kind, weighed, peers, folder_of, base_of, tmp_path):
    importance = made_up(base_of(name)) if weighed else None
    expected, keys = read(peers / f"{CASES.index((name, kind, weighed))}.gguf")
    for source in (folder_of(name), base_of(name)):
        done = convert(source, tmp_path / f"of a {source.suffix}.gguf", type=kind, importance=importance)
        tensors, ours = read(done.target)
        assert {key: value[0] for key, value in tensors.items()} == {key: value[0] for key, value in expected.items()}
        assert [key for key in expected if tensors[key] != expected[key]] == []
        assert ours["general.file_type"] == keys["general.file_type"] == FILE_TYPES[kind][0]
        assert all(tensors[key][0] == value for key, value in done.fallbacks.items())
    assert ours == keys


def test_what_does_not_fit_is_named(stories, tmp_path):
    done = convert(stories, tmp_path / "model.gguf", type="q3_k")
    assert done.fallbacks["blk.0.attn_q.weight"] == "Q4_0"
    assert done.fallbacks["blk.0.attn_v.weight"] == "Q5_1"
    assert done.fallbacks["blk.0.attn_output.weight"] == "Q5_0"
    assert done.fallbacks["blk.0.ffn_down.weight"] == "F16"
    assert read(done.target)[1]["general.file_type"] == FILE_TYPES[ALIASES["Q3_K"]][0]


def test_a_quantized_file_is_quantized_anew_as_llama_cpp_does(base_of, tmp_path):
    jobs = []
    for first, then in [("Q4_K_M", "Q8_0"), ("Q4_K_M", "Q5_K_M"), ("Q8_0", "Q2_K"), ("Q3_K_M", "F16")]:
        source = tmp_path / f"{first}.gguf"
        source.exists() or convert(base_of("pebble"), source, type=first)
        done = convert(source, tmp_path / f"{first} {then}.gguf", type=then)
        (sentence,) = done.lost
        assert sentence.startswith(f"Weights that were in {'Q3_K and ' if first == 'Q3_K_M' else first[:4]}")
        assert "keep their rounding errors" in sentence and "original precision" in sentence
        jobs.append((str(source), str(tmp_path / f"{first} {then} theirs.gguf"), FILE_TYPES[then][0], None))
    assert convert(base_of("pebble"), tmp_path / "first.gguf", type="Q8_0").lost == ()
    quantized_by_llama_cpp(jobs)
    for _, theirs, *_ in jobs:
        expected, keys = read(Path(theirs))
        tensors, ours = read(Path(theirs.replace(" theirs", "")))
        assert [name for name in expected if tensors[name] != expected[name]] == []
        assert ours["general.file_type"] == keys["general.file_type"]


def test_a_gguf_with_other_contents_is_refused_in_a_sentence(base_of, tmp_path):
    part = PlannedTensor("blk.0.attn_v.weight", "Q8_K", (1, 256), lambda: [bytes(292)])
    with open(tmp_path / "q8_k.gguf", "xb") as file:
        write_gguf(file, {"general.architecture": "llama"}, [part])
    with pytest.raises(NotConvertible, match="holds Q8_K, which llmnotes cannot turn into floats; use the model"):
        convert(tmp_path / "q8_k.gguf", tmp_path / "q4.gguf", type="Q4_0")
    with pytest.raises(NotConvertible, match="--type"):
        convert(base_of("pebble"), tmp_path / "q4.gguf")
    for keys, word in [
        ({"llama.expert_count": 8}, "that lie together in a GGUF of llama or qwen3moe"),
        ({"llama.attention.head_count": 0}, "heads"),
    ]:
        keys = {"general.architecture": "llama", "llama.attention.head_count": 4, "llama.block_count": 1} | keys
        part = PlannedTensor("blk.0.attn_v.weight", "F32", (32, 32), lambda: [bytes(4096)])
        (tmp_path / "odd.gguf").unlink(missing_ok=True)
        with open(tmp_path / "odd.gguf", "xb") as file:
            write_gguf(file, keys, [part])
        with pytest.raises(NotConvertible, match=word):
            convert(tmp_path / "odd.gguf", tmp_path / "q4.gguf", type="Q4_0")
    assert not (tmp_path / "q4.gguf").exists()


@pytest.mark.parametrize("layers", [7, 9, 16, 32, 80])
def test_the_layers_with_more_bits_are_counted_from_the_first(layers):
    names = [f"blk.{layer}.{stem}.weight" for layer in range(layers) for stem in ("attn_v", "ffn_down")]
    shapes = dict.fromkeys(["output.weight", *names], (256, 256))

    def better(file_type, stem, big=False):
        found = types(file_type, shapes, big=big)[0]
        kinds = [found[f"blk.{layer}.{stem}.weight"] for layer in range(layers)]
        assert set(kinds) <= {"Q3_K", "Q4_K", "Q5_K"}
        return [layer for layer, kind in enumerate(kinds) if kind == "Q5_K"]

    assert better("Q4_K_S", "attn_v") == [0, 1, 2, 3]
    assert better("Q4_K_S", "ffn_down") == list(range(layers // 8))
    assert better("Q3_K_M", "attn_v") == [0, 1]
    assert better("Q3_K_M", "ffn_down") == list(range(layers // 16))
    for kind in ("Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S"):  # in a model of 70 billion parameters, all
        assert better(kind, "attn_v", big=True) == list(range(layers))


def test_importance_is_the_mean_square_of_the_inputs(tiny_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    texts = ["The goose says honk.", "One two three, and many more words to read than fit into one window of six."]
    importance = collect(model, tokenizer, texts, window=6)
    squares, count = 0, 0
    for text in texts:
        ids = torch.tensor(tokenizer(text)["input_ids"])
        for start in range(0, len(ids), 6):
            embedded = model.model.embed_tokens(ids[start : start + 6])
            x = model.model.layers[0].input_layernorm(embedded).detach().double().numpy()
            squares, count = squares + (x**2).sum(0), count + len(x)
    for name in "qkv":
        np.testing.assert_allclose(
            importance[f"model.layers.0.self_attn.{name}_proj.weight"], squares / count, rtol=1e-5
        )
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert set(importance) == {f"{name}.weight" for name in linear} - {"lm_head.weight"}
    assert not model.model.layers[0].self_attn.q_proj._forward_pre_hooks
    for blank in ([], ["", " \n"]):
        with pytest.raises(NotQuantizable, match="give a longer, plain text"):
            collect(model, tokenizer, blank)


def test_importance_goes_to_a_file_and_back(tmp_path):
    importance = {"model.layers.0.mlp.down_proj.weight": np.arange(7, dtype=np.float32) / 3}
    imatrix.write_imatrix(tmp_path / "i.gguf", importance | {"blk.1.attn_q.weight": np.ones(4)}, "a text")
    back = imatrix.read_imatrix(tmp_path / "i.gguf")
    np.testing.assert_array_equal(back["blk.0.ffn_down.weight"], importance["model.layers.0.mlp.down_proj.weight"])
    np.testing.assert_array_equal(back["blk.1.attn_q.weight"], np.ones(4))
    tensors, keys = read(tmp_path / "i.gguf")
    assert keys["general.type"] == "imatrix" and keys["imatrix.datasets"] == ["a text"]
    assert keys["imatrix.chunk_count"] == keys["imatrix.chunk_size"] == 1
    assert set(tensors) == {f"{name}.{end}" for name in back for end in ("in_sum2", "counts")}


def test_a_file_of_llama_imatrix_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "i.gguf", "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["a.txt"])
    for name, sums, counts in [
        ("blk.0.attn_q.weight", [[2.0, 3.0]], [[4]]),
        ("blk.0.attn_k.weight", [[0.0, 0.0]], [[0]]),
        ("blk.0.ffn_up_exps.weight", [[2.0, 3.0], [0.0, 0.0]], [[4], [0]]),
    ]:
        writer.add_tensor(f"{name}.in_sum2", np.array(sums, np.float32))
        writer.add_tensor(f"{name}.counts", np.array(counts, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = imatrix.read_imatrix(tmp_path / "i.gguf")
    assert {name: values.tolist() for name, values in found.items()} == {
        "blk.0.attn_q.weight": [0.5, 0.75],
        "blk.0.attn_k.weight": [1.0, 1.0],  # never met an input: all columns alike, as llama.cpp has it
        "blk.0.ffn_up_exps.weight": [0.5, 0.75, 1.0, 1.0],  # two experts, one of which was never called
    }


def dat(entries, tail=b"") -> bytes:
    """An importance matrix as llama.cpp wrote it before GGUF: (name, count, mean squares times count) for each."""
    out = struct.pack("<i", len(entries))
    for name, count, values in entries:
        out += struct.pack("<i", len(name)) + name + struct.pack("<ii", count, len(values))
        out += struct.pack(f"<{len(values)}f", *values)
    return out + tail


ENTRIES = [(b"blk.0.attn_q.weight", 4, [2.0, 3.0, 0.1]), (b"blk.0.attn_k.weight", 0, [0.5, 1.0])]
END = struct.pack("<ii", 7, 5) + b"a.txt"  # chunks, and what they were read from


def test_an_old_matrix_of_llama_imatrix_is_read(tmp_path):
    for tail in (b"", END):
        (tmp_path / "i.dat").write_bytes(dat(ENTRIES, tail))
        found = imatrix.read_imatrix(tmp_path / "i.dat")
        expected = {name.decode(): np.array(values, "<f4") / np.float32(count or 1) for name, count, values in ENTRIES}
        assert {name: values.tolist() for name, values in found.items()} == {
            name: values.tolist() for name, values in expected.items()
        }


def test_an_old_matrix_is_called_what_it_is(tmp_path):
    path = tmp_path / "imatrix.dat"
    path.write_bytes(dat(ENTRIES, END))
    found = inspect(path)
    assert (found.identity.format, found.parameters) == ("llama.cpp importance matrix", 0)
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [
        ("blk.0.attn_q.weight", (3,)),
        ("blk.0.attn_k.weight", (2,)),
    ]
    assert b"".join(formats.read(found, found.tensors[0])) == struct.pack("<3f", *ENTRIES[0][2])
    with pytest.raises(NotConvertible, match="a llama.cpp importance matrix to gguf; give it to --imatrix when"):
        convert(path, tmp_path / "a.gguf")
    path.write_bytes(dat([*ENTRIES, ENTRIES[0]]))
    with pytest.raises(FileBroken, match="two matrices of the same name"):
        inspect(path)


def test_an_old_matrix_quantizes_as_a_new_one_does(base_of, tmp_path, capsys):
    importance = made_up(base_of("pebble"))
    (tmp_path / "i.dat").write_bytes(dat([(name.encode(), 1, values) for name, values in importance.items()], END))
    imatrix.write_imatrix(tmp_path / "i.gguf", importance)
    for name in ("i.dat", "i.gguf"):
        command = ["convert", str(base_of("pebble")), str(tmp_path / f"of {name}.gguf"), "--type", "Q4_0"]
        assert cli.main([*command, "--imatrix", str(tmp_path / name)]) == 0, capsys.readouterr().err
    assert (tmp_path / "of i.dat.gguf").read_bytes() == (tmp_path / "of i.gguf.gguf").read_bytes()


@pytest.mark.parametrize(
    ("data", "error", "word"),
    [
        (b"", NotConvertible, "is not an importance matrix; give one from llama-imatrix, or a .txt"),
        (b"Once upon a time, there was a goose.", NotConvertible, "not an importance"),
        (dat([(b"\xff\xfe", 1, [1.0])]), NotConvertible, "not an importance"),
        (dat([]) + bytes(20), NotConvertible, "not an importance"),
        (dat(ENTRIES)[:-1], FileBroken, "damaged"),
        (dat(ENTRIES)[:60], FileBroken, "damaged"),
        (dat([*ENTRIES, (b"\xff", 1, [1.0])]), FileBroken, "no text"),
        (dat([(b"x", 1, [])]), FileBroken, "x has 0 columns"),
        (dat([(b"x", 1, [-1.0])]), FileBroken, "negative or not finite"),
        (dat([(b"x", -1, [1.0])]), FileBroken, "negative or not finite"),
        (dat([(b"x", 1, [float("nan")])]), FileBroken, "negative or not finite"),
    ],
)
def test_what_is_no_old_matrix_is_refused(data, error, word, tmp_path):
    (tmp_path / "i.dat").write_bytes(data)
    with pytest.raises(error, match=word):
        imatrix.read_imatrix(tmp_path / "i.dat")


@pytest.mark.parametrize(
    ("tensors", "error", "word"),
    [
        ({"x.weight": [1.0]}, NotConvertible, "not an importance"),
        ({"x.in_sum2": [1.0]}, FileBroken, "counts"),
        ({"x.in_sum2": [1.0, 2.0, 3.0], "x.counts": [1.0, 1.0]}, FileBroken, "x has 3 sums and 2 counts"),
        ({"x.in_sum2": [-1.0], "x.counts": [1.0]}, FileBroken, "negative or not finite"),
        ({"x.in_sum2": [np.nan], "x.counts": [1.0]}, FileBroken, "negative or not finite"),
        ({"x.in_sum2": [1.0], "x.counts": [np.inf]}, FileBroken, "negative or not finite"),
    ],
)
def test_a_strange_matrix_of_importance_is_refused(tensors, error, word, tmp_path):
    parts = []
    for name, values in tensors.items():
        data = np.array(values, np.float32)
        parts.append(PlannedTensor(name, "F32", data.shape, lambda data=data: [data.tobytes()]))
    with open(tmp_path / "i.gguf", "xb") as file:
        write_gguf(file, {"general.type": "imatrix"}, parts)
    with pytest.raises(error, match=word):
        imatrix.read_imatrix(tmp_path / "i.gguf")


def test_importance_of_another_model_is_refused(tmp_path):
    pebble = weights_dir("pebble")
    for importance, word in [
        ({"blk.99.attn_q.weight": np.ones(256)}, "none of this model's"),
        ({"blk.0.attn_q.weight": np.ones(255)}, "255 numbers"),
        ({"blk.0.attn_q.weight": np.full(256, np.nan)}, "blk.0.attn_q.weight"),
    ]:
        with pytest.raises(NotQuantizable, match=word):
            convert(pebble, tmp_path / "model.gguf", type="Q4_0", importance=importance)
    with pytest.raises(NotConvertible, match="leave it out"):
        convert(pebble, tmp_path / "model.safetensors", importance={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [None, "f16", "BF16", "F32", "Q8_0", "Q4_0"])
def test_importance_that_changes_nothing_is_said_to(kind, tmp_path):
    importance = {"blk.0.attn_q.weight": np.ones(256)}
    done = convert(weights_dir("pebble"), tmp_path / "a.gguf", type=kind, importance=importance)
    assert any("importance matrix changed nothing" in line for line in done.lost) == (kind != "Q4_0")


def test_weights_that_are_not_finite_are_named(tiny_folder, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_folder, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    for type in ("Q8_0", "F16", "BF16", "F32"):
        with pytest.raises(NotQuantizable, match=rf"blk\.1\.ffn_up\.weight cannot become {type}"):
            convert(tmp_path / "model", tmp_path / "model.gguf", type=type)


def test_the_command_line_takes_a_text_or_a_matrix(tmp_path, capsys):
    from llmnotes.models import open_model

    text = "The goose says honk. " * 20
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    lm = open_model("pebble", say=lambda line: None)
    imatrix.write_imatrix(tmp_path / "i.gguf", collect(lm.model, lm.tokenizer, [text]))
    for name, more in [
        ("a", ["--imatrix", str(tmp_path / "text.txt")]),
        ("b", ["--imatrix", str(tmp_path / "i.gguf")]),
        ("c", []),
    ]:
        assert cli.main(["convert", "pebble", str(tmp_path / f"{name}.gguf"), "--type", "Q4_K_M", "--json", *more]) == 0
        assert json.loads(capsys.readouterr().out)["tensors"] == 38
    a, b, c = ((tmp_path / f"{name}.gguf").read_bytes() for name in "abc")
    assert a == b != c
    for wrong in ("nothing.txt", "i.txt"):
        (tmp_path / "i.txt").write_bytes(b"\xff\xfe\xfd")
        assert cli.main(["convert", "pebble", str(tmp_path / "d.gguf"), "--imatrix", str(tmp_path / wrong)]) == 2
        assert "UTF-8" in capsys.readouterr().err


@pytest.mark.slow
def test_every_file_type_and_alias_can_be_asked_for(tmp_path):
    for kind in [*FILE_TYPES, *ALIASES]:
        done = convert(weights_dir("pebble"), tmp_path / f"{kind}.gguf", type=kind.lower())
        assert done.fallbacks == {}
    with pytest.raises(LLMNotesError, match="Q4_K_M"):
        convert(weights_dir("pebble"), tmp_path / "model.gguf", type="IQ4_XS")
