"""`llmnotes.fit`: names, amounts, places, advice, and the command."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from llmnotes import cli
from llmnotes.errors import LLMNotesError
from llmnotes.fit import fit, llama_cpp, machines, models, on_meta
from llmnotes.fit.hugging_face import needs
from llmnotes.fit.model import model_of
from llmnotes.fit.report import fit_text
from llmnotes.fit.shapes import TYPES
from llmnotes.fit.sizes import parse
from llmnotes.fit.training import predict
from llmnotes.fit.weights import scales
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor


def test_sizes_are_those_of_published_files():
    published = {"Q3_K_M": 3.30, "Q4_0": 3.83, "Q4_K_M": 4.08, "Q5_K_M": 4.78, "Q6_K": 5.53, "Q8_0": 7.16}
    found = {option.precision: option.parts["weights"] / 1e9 for option in fit("llama-2-7b", ram="64GB").options[:9]}
    for kind, size in published.items():
        assert found[kind] == pytest.approx(size, abs=0.006), kind
    big = fit("llama-2-70b", ram="64GB", precision="Q4_K_M").options[0]
    assert big.parts["weights"] / 1e9 == pytest.approx(41.42, abs=0.006)


@pytest.mark.parametrize("name", models())
def test_built_in_configurations_have_the_parameters_of_transformers(name):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    entry = models()[name]
    config = json.loads(json.dumps(entry["config"]))
    kind = config.pop("model_type")
    maker = AutoModelForImageTextToText if kind in on_meta.IMAGE else AutoModelForCausalLM
    with torch.device("meta"):
        model = maker.from_config(AutoConfig.for_model(kind, **config))
    assert model_of(name).parameters == entry["parameters"] == sum(one.numel() for one in model.parameters())


LIKE_LLAMA = [name for name, entry in models().items() if entry["config"]["model_type"] in TYPES]


@pytest.mark.parametrize("name", LIKE_LLAMA)
def test_training_counts_the_parameters_that_running_counts(name):
    weights = predict(models()[name]["config"], "full", 1, 1).parts["weights"].bytes
    assert (
        weights
        == 4 * models()[name]["parameters"]
        == fit(name, ram="9GB", precision="F32").options[-1].parts["weights"]
    )


def test_scales_of_nf4_can_be_quantized_too():
    model = model_of("llama-2-7b")
    weights = model.shape.layers * model.shape.linear
    assert needs(model, "NF4", 1).parts["scales"] == scales(model.shape, "nf4").bytes == weights // 64 * 4
    assert scales(model.shape, "nf4", double=True).bytes == pytest.approx(weights / 64 * (1 + 4 / 256), rel=1e-4)


@pytest.mark.parametrize("name", ("llama-2-7b", "llava-1.5-7b", "llama-3.2-1b"))
def test_device_maps_name_every_module(name):
    import torch
    from accelerate.utils import check_device_map
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = json.loads(json.dumps(models()[name]["config"]))
    kind = config.pop("model_type")
    maker = AutoModelForImageTextToText if kind in on_meta.IMAGE else AutoModelForCausalLM
    with torch.device("meta"):
        model = maker.from_config(AutoConfig.for_model(kind, **config))
    vram = {"llama-3.2-1b": "2.5GB"}.get(name, "8GB")
    found = next(
        one for one in fit(name, vram, "64GB", 1024).options if one.engine + one.precision == "transformersBF16"
    )
    assert found.verdict == "GPU and RAM" and set(found.device_map.values()) == {0, "cpu"}
    check_device_map(model, found.device_map)  # raises ValueError for a parameter without a place
    assert sum(found.gpus) <= parse(vram) - 500_000_000


def test_layers_go_where_there_is_room_and_nowhere_else():
    full = fit("llama-2-7b", "24GB", "32GB", precision="Q4_K_M").options[0]
    assert full.verdict == "GPU" and full.n_gpu_layers == 33
    one = llama_cpp.needs(model_of("llama-2-7b"), "Q4_K_M", 4096)
    assert full.gpus[0] == sum(one.layers) + sum(one.caches) + one.output + one.compute  # the embedding stays outside
    seen = []
    for vram in range(1, 9):
        found = fit("llama-2-7b", f"{vram}GB", "32GB", precision="Q4_K_M").options[0]
        seen.append(found.n_gpu_layers)
        assert sum(found.gpus) <= max(vram * 10**9 - 500_000_000, 0)
        if 0 < found.n_gpu_layers < 33:
            layer = max(one.layers) + one.caches[0]
            assert sum(found.gpus) + layer > vram * 10**9 - 500_000_000  # there was no room for one more
    assert seen == sorted(seen) and seen[0] < 5 and seen[-1] == 33
    first = 500_000_000 + one.compute + one.output + one.layers[-1] + one.caches[-1]  # the output and the last layer
    assert fit("llama-2-7b", first, "32GB", precision="Q4_K_M").options[0].n_gpu_layers == 2
    assert fit("llama-2-7b", first - 1, "32GB", precision="Q4_K_M").options[0].n_gpu_layers == 1
    tied = fit("llama-3.2-1b", "24GB", "32GB", precision="Q8_0").options[0]
    one = llama_cpp.needs(model_of("llama-3.2-1b"), "Q8_0", 4096)
    assert tied.gpus[0] == one.weights + sum(one.caches) + one.compute  # a tied embedding is the output there
    two = fit("llama-2-13b", ["15GiB", "15GiB"], "32GB", precision="F16").options[0]
    assert two.verdict == "GPU" and all(8e9 < size < 15 * 2**30 for size in two.gpus)
    assert fit("llama-2-13b", ["15GiB"], "16GB", precision="F16").options[0].verdict == "no"


def test_the_image_encoder_lies_on_the_first_gpu_alone():
    needed = llama_cpp.needs(model_of("llava-1.5-7b"), "Q4_K_M", 600)
    all_layers = sum(needed.layers) + sum(needed.caches) + needed.output
    one = fit("llava-1.5-7b", "24GB", "64GB", 600, precision="Q4_K_M").options[0]
    assert needed.vision > 500_000_000 and one.gpus == (all_layers + needed.compute + needed.vision,)
    two = fit("llava-1.5-7b", ["4GB", "4GB"], "64GB", 600, precision="Q4_K_M").options[0]
    assert two.verdict == "GPU" and sum(two.gpus) == all_layers + 2 * needed.compute + needed.vision


def test_quantized_layers_are_not_split():
    found = fit("llama-2-13b", "8GB", "32GB", precision="int8").options[0]
    assert found.verdict == "RAM" and found.device_map == {"": "cpu"}


def test_advice_holds_when_it_is_followed():
    found = fit("llama-2-7b", "8GB", "16GB", 4096)
    text = " ".join(found.advice)
    context, kind = re.search(r"with ([\d,]+) tokens, (\S+) in llama.cpp", text).groups()
    context = int(context.replace(",", ""))
    assert fit("llama-2-7b", "8GB", "16GB", context, precision=kind).options[0].verdict == "GPU"
    assert fit("llama-2-7b", "8GB", "16GB", context + 512, precision=kind).options[0].verdict != "GPU"
    assert "offload_buffers=True" in text and "Q5_K_M in llama.cpp and NF4" in text
    assert fit("llama-2-7b", "8GB", "16GB", precision="Q5_K_M").options[0].verdict == "GPU"
    assert "Nothing fits" in fit("llama-2-70b", "8GB", "16GB").advice[-1]
    assert "The CPU" in " ".join(fit("llama-2-7b", "0.6GB", "16GB").advice)
    assert "576 tokens" in " ".join(fit("llava-1.5-7b", "24GB", "64GB", 600).advice)


def test_training_is_that_of_finetuning():
    found = fit("tinyllama-1.1b", ram="64GB", context=128, train="lora").options
    config = models()["tinyllama-1.1b"]["config"]
    assert found[0].total == predict(config, "lora", 1, 128, dtype="float32", kernel="llmnotes").total
    assert [option.precision for option in found] == ["F32"]
    bigger = fit("llama-2-7b", "8GB", "16GB", 2048, train="qlora").options[-1]
    assert bigger.checkpointing and bigger.verdict == "GPU"
    assert not fit("llama-2-7b", "80GB", "16GB", 2048, train="qlora").options[-1].checkpointing
    assert not fit("llama-2-7b", "24GB", "32GB", train="full").fits


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GB", 8 * 10**9), ("8GiB", 8 * 2**30), ("8192MB", 8192 * 10**6), (" 7.5 gib ", 7.5 * 2**30), ("512 kB", 512000)],
)
def test_amounts_are_read(text, count):
    assert parse(text) == count


@pytest.mark.parametrize(
    "text", ["", "8", "GB", "-8GB", "8XB", "1e9GB", "nanGB", "8GB8", "٨GB", "9" * 17 + "TB", "8 Gb ps"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(LLMNotesError, match="not an amount of memory; write a number and a unit"):
        parse(text)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hidden_size": 2**40},
        {"text_config": 5},
        {"num_hidden_layers": "32"},
        {"num_local_experts": 8},
        {"num_hidden_layers": 5000},
        {"model_type": "llava", "vision_config": {"patch_size": 0}},
        {"model_type": "llava", "vision_config": []},
    ],
)
def test_broken_configs_are_refused(config, tmp_path, capsys):
    good = {} if not config else models()["llama-2-7b"]["config"]
    (tmp_path / "config.json").write_text(json.dumps(good | config), encoding="utf-8")
    assert cli.main(["fit", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", [b"", b"[1]", b"[" * 100_000, b"\xff", b'{"a": NaN'])
def test_what_is_no_config_is_refused(text, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes(text)
    assert cli.main(["fit", str(tmp_path / "config.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_ggufs_that_say_too_little_are_refused(tmp_path, capsys):
    keys = {"general.architecture": "llama", "llama.embedding_length": 64, "llama.attention.head_count": 4}
    keys |= {"llama.feed_forward_length": 128, "llama.block_count": 2}

    def answer(parts, **more) -> int:
        with open(tmp_path / "m.gguf", "wb") as file:
            write_gguf(file, keys | more, parts)
        return cli.main(["fit", str(tmp_path / "m.gguf"), "--ram", "8GB"])

    table = PlannedTensor("token_embd.weight", "F32", (100, 64), lambda: [bytes(25600)])
    assert answer([table]) == 0
    capsys.readouterr()
    for parts, more in (
        ([], {}),
        ([PlannedTensor("token_embd.weight", "F32", (), lambda: [bytes(4)])], {}),
        ([table], {"split.count": Typed("U16", 3)}),
        ([table], {"llama.block_count": 0}),
        ([table], {"llama.attention.head_count_kv": [1, 2, 3]}),
        ([table], {"general.architecture": "bert"}),
        ([table], {"llama.attention.key_length": Typed("I32", -1)}),
        ([table], {"llama.attention.value_length": 1.5}),
    ):
        assert answer(parts, **more) == 2, more
        assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "m.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:100])
    assert cli.main(["fit", str(tmp_path / "m.gguf")]) == 2


FAMILIES = "Llama Mistral Qwen2 Qwen3 StableLm Gemma Gemma2 Phi3 Olmo2 Cohere SmolLM3 Granite".split()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_gguf_is_counted_that_convert_cannot_make(family, tmp_path, stories):
    """Every row for llama.cpp is tried: convert makes a file of that type, or there is no such row."""
    import transformers

    from llmnotes.errors import NotConvertible
    from llmnotes.formats import convert

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 512, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**sizes))
    model.save_pretrained(tmp_path / "model")
    for file in stories.glob("token*"):
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    found = fit(tmp_path / "model", ram="8GB")
    rows = [option.precision for option in found.options if option.engine == "llama.cpp"]
    assert {option.precision for option in found.options if option.engine == "transformers"} >= {"F32", "NF4"}
    if rows:
        convert(tmp_path / "model", tmp_path / "base.gguf", type="F32")
        for kind in rows:
            convert(tmp_path / "model", tmp_path / f"{kind}.gguf", type=kind)
        of_file = fit(tmp_path / "Q4_K_M.gguf", ram="8GB")
        for option in of_file.options[1:]:
            if option.engine == "llama.cpp":
                convert(tmp_path / "Q4_K_M.gguf", tmp_path / f"anew {option.precision}.gguf", type=option.precision)
        assert found.advice == () or "GGUF for llama.cpp" not in found.advice[0]
    else:
        with pytest.raises(NotConvertible) as refused:
            convert(tmp_path / "model", tmp_path / "base.gguf", type="F32")
        why = str(refused.value).partition(", and ")[0]  # what follows names the folder
        assert found.advice[0].startswith(f"No GGUF for llama.cpp: {why}")


def test_a_gguf_of_blocks_that_nobody_reads_is_counted_as_it_is(tmp_path):
    keys = {"general.architecture": "llama", "llama.embedding_length": 256, "llama.attention.head_count": 4}
    keys |= {"llama.feed_forward_length": 256, "llama.block_count": 1}
    with open(tmp_path / "m.gguf", "wb") as file:
        write_gguf(file, keys, [PlannedTensor("token_embd.weight", "Q8_K", (4, 256), lambda: [bytes(4 * 292)])])
    found = fit(tmp_path / "m.gguf", ram="8GB")
    assert [option.precision for option in found.options if option.engine == "llama.cpp"] == ["as stored"]
    said = "No other GGUF for llama.cpp: m.gguf holds Q8_K, which llmnotes cannot turn into floats"
    assert found.advice[0].startswith(said)


def test_the_command(capsys, tmp_path):
    assert cli.main("fit llava-1.5-7b --vram 8GB --ram 16GB --context 4096 --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    kinds = {(option["engine"], option["precision"]) for option in found["options"]}
    assert {kind for engine, kind in kinds if engine == "transformers"} == {"F32", "BF16", "int8", "NF4"}
    assert {"F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"} == {
        kind for engine, kind in kinds if engine == "llama.cpp"
    }
    assert found["fits"] and all(option["total"] == sum(option["parts"].values()) for option in found["options"])
    assert cli.main("fit llama-2-70b --machine rtx-3070".split()) == 1
    assert "Nothing fits" in capsys.readouterr().out
    for name in machines():
        assert cli.main(["fit", "qwen3-0.6b", "--machine", name, "--train", "lora", "--context", "64"]) == 0
    capsys.readouterr()
    for wrong in (
        "fit lama-2-7b --ram 8GB",
        "fit",
        "fit llama-2-7b --machine rtx-9999",
        "fit llama-2-7b --machine colab-t4 --vram 8GB",
        "fit llama-2-7b --precision Q9",
        "fit llama-2-7b --context -1",
        "fit llama-2-7b --vram 8GB,x",
        "fit llava-1.5-7b --train lora",
        f"fit {tmp_path}",
    ):
        assert cli.main(wrong.split()) == 2, wrong
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.rstrip().endswith((".", "`.")), said
    assert cli.main(["fit", "--list"]) == 0
    assert "orca_mini_3b" in capsys.readouterr().out


def test_names_on_the_hub_are_known_and_a_terminal_is_safe():
    model = model_of("meta-llama/llama-2-7b-HF")
    assert model.name == "llama-2-7b"
    assert "\x1b" not in fit_text(fit(replace(model, name="a\x1b[2Jb"), ram="8GB"))


def test_what_says_no_shape_and_a_training_that_is_not_counted_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", w=np.ones(3))
    with pytest.raises(LLMNotesError, match="does not say the model's shape; give the folder with its config.json"):
        fit(tmp_path / "weights.npz", ram="8GB")
    with pytest.raises(LLMNotesError, match="does not count the training method 'dora'; choose full, lora, qlora"):
        fit("llama-2-7b", ram="8GB", train="dora")
