"""The models and machines that `llmnotes fit` knows by name, against what is published about them."""

import pytest

from llmnotes import cli
from llmnotes.fit import fit, machines, models, on_meta, parse
from llmnotes.fit.model import model_of
from llmnotes.fit.pieces import read

# Numbers in the safetensors of each model, as the hub shows them
PUBLISHED = {
    "aya-expanse-8b": 8_028_033_024,
    "codellama-7b": 6_738_546_688,
    "gemma-2-27b": 27_227_128_320,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-12b": 12_187_325_040,
    "gemma-3-1b": 999_885_952,
    "gemma-3-270m": 268_098_176,
    "gemma-3-27b": 27_432_406_640,
    "gemma-3-4b": 4_300_079_472,
    "gpt-oss-120b": 116_829_156_672,
    "gpt-oss-20b": 20_914_757_184,
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "granite-3.3-8b": 8_170_864_640,
    "lfm2-1.2b": 1_170_340_608,
    "lfm2-350m": 354_483_968,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llava-1.6-mistral-7b": 7_566_747_648,
    "ministral-8b": 8_019_808_256,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-nemo-12b": 12_247_782_400,
    "mistral-small-24b": 23_572_403_200,
    "mixtral-8x22b": 140_620_634_112,
    "mixtral-8x7b": 46_702_792_704,
    "olmo-2-13b": 13_716_198_400,
    "olmoe-1b-7b": 6_919_161_856,
    "phi-2": 2_779_683_840,
    "phi-3-mini": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "phi-4-mini": 3_836_021_760,
    "pythia-1.4b": 1_414_647_808,
    "pythia-6.9b": 6_857_302_016,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-72b": 72_706_203_648,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen3-14b": 14_768_307_200,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-32b": 32_762_123_264,
    "smollm3-3b": 3_075_098_624,
    "starcoder2-15b": 15_957_889_024,
    "starcoder2-3b": 3_030_371_328,
    "starcoder2-7b": 7_173_923_840,
}
# GB of the GGUF files that are offered on the hub
FILES = """
    gemma-2-27b Q4_K_M 16.65 Q8_0 28.94
    gemma-2-2b Q4_K_M 1.71 Q8_0 2.78
    gemma-2-9b Q4_K_M 5.76 Q6_K 7.59 Q8_0 9.83
    gemma-3-12b Q4_K_M 7.30 Q8_0 12.51
    gemma-3-1b Q4_K_M 0.81 Q8_0 1.07
    gemma-3-27b Q4_K_M 16.55 Q8_0 28.71
    llama-2-13b Q4_K_M 7.87 Q5_K_M 9.23 Q8_0 13.83
    llama-2-70b Q4_K_M 41.42
    llama-3.1-70b Q4_K_M 42.52
    llama-3.1-8b Q2_K 3.18 Q3_K_M 4.02 Q4_K_M 4.92 Q5_K_M 5.73 Q6_K 6.60 Q8_0 8.54
    llama-3.2-1b Q4_K_M 0.81 Q8_0 1.32
    llama-3.2-3b Q4_K_M 2.02 Q6_K 2.64 Q8_0 3.42
    mistral-7b-v0.1 Q3_K_M 3.52 Q4_K_M 4.37 Q5_K_M 5.13 Q6_K 5.94 Q8_0 7.70
    mistral-nemo-12b Q4_K_M 7.48 Q6_K 10.06 Q8_0 13.02
    mistral-small-24b Q4_K_M 14.33 Q8_0 25.05
    mixtral-8x7b Q4_K_M 28.45 Q8_0 49.63
    olmo-2-7b Q4_K_M 4.47
    phi-3-mini Q4_K_M 2.39 Q8_0 4.06
    phi-4 Q4_K_M 9.05 Q8_0 15.58
    qwen2.5-14b Q4_K_M 8.99 Q8_0 15.70
    qwen2.5-32b Q4_K_M 19.85 Q8_0 34.82
    qwen2.5-72b Q4_K_M 47.42
    qwen2.5-7b Q4_K_M 4.68 Q6_K 6.25 Q8_0 8.10
    qwen3-14b Q4_K_M 9.00 Q8_0 15.70
    qwen3-30b-a3b Q4_K_M 18.56 Q8_0 32.48
    qwen3-32b Q4_K_M 19.76
    qwen3-4b Q4_K_M 2.50 Q8_0 4.28
    qwen3-8b Q4_K_M 5.03 Q6_K 6.73 Q8_0 8.71
    smollm2-1.7b Q4_K_M 1.06 Q8_0 1.82
    tinyllama-1.1b Q4_K_M 0.669 Q8_0 1.17
""".split("\n")[1:-1]
KINDS = {entry["config"]["model_type"]: name for name, entry in reversed(models().items())}  # the first of each type


def test_parameters_are_those_that_are_published():
    found = {name: model_of(name).parameters for name in PUBLISHED}
    assert found == PUBLISHED
    assert all(entry["parameters"] == model_of(name).parameters for name, entry in models().items())


@pytest.mark.parametrize("name", KINDS.values())
def test_what_was_counted_before_is_what_transformers_builds(name):
    """One model of each type; `kit.fit_catalogue` counts all of them again."""
    pieces, shape = on_meta.count(name, models()[name]["config"])
    assert pieces == read(models()[name]["pieces"])
    widths = ("hidden", "inner", "layers", "heads", "kv_heads", "head", "vocabulary")
    assert all(getattr(model_of(name).shape, width) == getattr(shape, width) for width in widths)


@pytest.mark.parametrize("line", FILES)
def test_files_have_the_size_of_those_that_are_offered(line):
    name, *rest = line.split()
    model = models()[name]["config"].get("text_config", name)
    for kind, size in zip(rest[::2], rest[1::2], strict=True):
        found = fit(model, ram="64GB", precision=kind).options[0]
        assert found.parts["weights"] / 1e9 == pytest.approx(float(size), rel=0.015), kind


def test_gemma_3_27b_keeps_a_window_in_five_of_six_layers():
    text = models()["gemma-3-27b"]["config"]["text_config"]
    file = fit(text, ram="64GB", context=131072, precision="Q4_K_M").options[0]
    assert file.parts["cache"] / 1e9 == pytest.approx(11.4, abs=0.05)
    whole = fit("gemma-3-27b", ram="64GB", context=131072, precision="BF16").options[0]
    assert whole.parts["cache"] / 1e9 == pytest.approx(11.2, abs=0.05)  # transformers keeps no room for a batch
    quantized = fit(text, ram="64GB", context=131072, precision="Q4_K_M", cache="q8_0").options[0]
    assert quantized.parts["cache"] / file.parts["cache"] == 34 / 64


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("qwen3-8b", "qwen3-8b"),
        ("Qwen2.5-Coder-7B-Instruct", "qwen2.5-7b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("GPT2", "gpt2"),
    ],
)
def test_names_are_those_of_the_hub_or_short(asked, found):
    assert model_of(asked).name == found


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("lama-2-7b", "did you mean llama-2-7b"),
        ("someone/gemma-3-12b", "did you mean gemma-3-12b"),
        ("gemma-3-13b", "gemma-3-12b"),
        ("mistral-large-2", ""),
        ("whisper", ""),
        ("bert-base-uncased", ""),
        ("x", ""),
        ("a" * 5000, ""),
        ("\n", ""),
    ],
)
def test_other_names_get_one_sentence_and_status_2(asked, near, capsys):
    assert cli.main(["fit", asked, "--ram", "8GB"]) == 2
    said = capsys.readouterr().err
    assert near in said and ("did you mean" in said) == bool(near)
    assert said.count("\n") == 1 and "`llmnotes fit --list` shows all." in said


def test_machines_have_the_memory_that_they_are_sold_with():
    sold = {"rtx-2060": 6, "rtx-2060-12gb": 12, "rtx-3060": 12, "rtx-4060": 8, "rtx-4090": 24, "rtx-5060": 8}
    sold |= {"rtx-5070": 12, "rtx-5080": 16, "rtx-5090": 32, "a100-40gb": 40, "a100-80gb": 80, "h100": 80}
    known = machines()
    assert {name: [f"{size}GiB"] for name, size in sold.items()} == {name: known[name]["gpus"] for name in sold}
    assert {"t4", "l4", "m1-8gb", "m2-24gb", "m3-pro-36gb", "m4-max-128gb"} <= set(known)
    for entry in known.values():
        assert all(0 < parse(size) <= parse("512GiB") for size in [*entry["gpus"], entry["ram"]])
        assert not entry.get("shared") or parse(entry["gpus"][0]) < parse(entry["ram"])


def test_nothing_is_wider_than_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    for command in (
        "fit --list",
        "fit llama-2-70b --machine kaggle-2xt4",
        "fit llava-1.6-mistral-7b --vram 24G --ram 64G",
        "fit qwen3-235b-a22b --vram 80G,80G,80G,80G --ram 999G --context 131072",
        "fit gpt2-xl --vram 2G --ram 9G --cache Q4_0",
        "fit llama-2-7b --vram 8G --ram 16G --train qlora",
    ):
        cli.main(command.split())
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_cache_of_another_type_is_refused(capsys):
    assert cli.main("fit llama-2-7b --ram 8G --cache Q9".split()) == 2
    assert "llama.cpp has no cache of the type Q9; choose F16, Q8_0, Q4_0." in capsys.readouterr().err
    assert cli.main("fit stablelm-3b --ram 8G --cache q4_0".split()) == 2
    assert "whose heads have 80 numbers, which is no multiple of 32; leave the cache" in capsys.readouterr().err
