"""`llmnotes.fit` against what llama.cpp, transformers and bitsandbytes really hold."""

import gc

import pytest

from llmnotes.cache_name import cache_name
from llmnotes.errors import ProcessDied
from llmnotes.fit import fit
from llmnotes.fit.empty_gguf import write_empty
from llmnotes.fit.hugging_face import PRECISIONS
from llmnotes.fit.shapes import Shape
from llmnotes.formats import convert
from llmnotes.llama_cpp.memory import reported_buffers
from llmnotes.pebble import weights_dir

pytestmark = pytest.mark.slow

TYPES = ("F32", "F16", "Q8_0", "Q4_K_M", "Q4_0")
MILLIONS_250 = Shape(1024, 2816, 16, 16, 8, 64, 32000, False)


def close(said: dict[str, int], real: dict[str, int], margin: float = 0.01) -> None:
    for part, size in real.items():
        assert said[part] == pytest.approx(size, rel=margin, abs=6000), part  # they print hundredths of a MiB


@pytest.fixture(scope="module")
def pebbles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pebbles")
    for kind in TYPES:
        convert(weights_dir("pebble"), folder / f"{kind}.gguf", type=kind)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("kind", TYPES)
def test_llama_cpp_reports_for_pebble_what_fit_says(pebbles, kind):
    pytest.importorskip("xllamacpp")
    for context in (100, 512, 2048):
        real = reported_buffers(pebbles / f"{kind}.gguf", context)
        for model in ("pebble", pebbles / f"{kind}.gguf"):  # from the config, and from the file's header
            found = fit(model, ram="64GB", context=context, precision=kind).options[0]
            close(found.parts, real)


@pytest.mark.parametrize(("kind", "context"), [("F16", 2048), ("Q8_0", 512), ("Q4_K_M", 8192), ("Q4_0", 2048)])
def test_llama_cpp_reports_for_250_million_what_fit_says(pebbles, shared, kind, context):
    """`benchmarks/fit.py` does so for five types and three contexts each."""
    pytest.importorskip("xllamacpp")
    file = shared / f"{kind}.gguf"
    write_empty(file, pebbles / "F16.gguf", MILLIONS_250, kind)
    config = dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=16, num_attention_heads=16)
    config |= dict(num_key_value_heads=8, vocab_size=32000, tie_word_embeddings=False)
    real = reported_buffers(file, context)
    for model in (config, file):
        found = fit(model, ram="64GB", context=context, precision=kind)
        assert 2.4e8 < found.parameters < 2.7e8
        close(found.options[0].parts, real)


@pytest.mark.parametrize(
    "shape",
    [
        MILLIONS_250._replace(inner=1024, layers=2, kv_heads=16, vocabulary=2048),  # attention is the widest place
        MILLIONS_250._replace(head=256, layers=2, kv_heads=16, vocabulary=2048),
        MILLIONS_250._replace(layers=1, vocabulary=50_000),
        Shape(896, 4864, 5, 14, 2, 64, 4000, True),
    ],
)
def test_llama_cpp_reports_for_other_shapes_what_fit_says(pebbles, shared, shape):
    pytest.importorskip("xllamacpp")
    write_empty(shared / "shape.gguf", pebbles / "F16.gguf", shape, "F16")
    real = reported_buffers(shared / "shape.gguf", 1000)
    close(fit(shared / "shape.gguf", ram="99GB", context=1000).options[0].parts, real)


def test_a_file_that_llama_cpp_cannot_load_is_refused(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(ProcessDied, match="did not load"):
        reported_buffers(tmp_path / "broken.gguf", 128)


def alive() -> list:
    """Return all tensors that are alive, those included that have no memory, as torch.export leaves them behind."""
    import torch

    gc.collect()
    return [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]


def held(besides: list) -> int:
    """Return the bytes of the tensors on the processor that are alive `besides` those, each storage once."""
    known = {id(one) for one in besides}
    storages = (one.untyped_storage() for one in alive() if id(one) not in known and one.device.type == "cpu")
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_transformers_and_bitsandbytes_hold_what_fit_says(precision):
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = {"dtype": torch.float32 if precision == "F32" else torch.bfloat16}
    if precision in ("int8", "NF4"):
        pytest.importorskip("bitsandbytes")
        how["quantization_config"] = (
            BitsAndBytesConfig(load_in_8bit=True)
            if precision == "int8"
            else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        )
    before = alive()
    model = AutoModelForCausalLM.from_pretrained(weights_dir("pebble"), local_files_only=True, **how).eval()
    parts = fit("pebble", ram="9GB", context=300, precision=precision)
    parts = next(option for option in parts.options if option.engine == "transformers").parts
    weights = held(before)
    assert parts["weights"] + parts["scales"] == pytest.approx(weights, rel=0.01)
    with torch.no_grad():
        cache = model(torch.ones(1, 300, dtype=torch.long), use_cache=True)[cache_name()]
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert parts["cache"] == pytest.approx(kept, rel=0.01)


@pytest.mark.parametrize("precision", ("BF16", "int8", "NF4"))
def test_a_llava_is_held_as_fit_says_with_its_image_encoder(precision, shared):
    import torch
    from transformers import BitsAndBytesConfig, LlavaConfig, LlavaForConditionalGeneration

    folder = shared / "llava"
    if not folder.exists():
        text = dict(model_type="llama", hidden_size=256, intermediate_size=768, num_hidden_layers=2, vocab_size=2048)
        text |= dict(num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False)
        vision = dict(model_type="clip_vision_model", hidden_size=128, intermediate_size=512, num_hidden_layers=3)
        vision |= dict(num_attention_heads=4, image_size=56, patch_size=14)
        config = LlavaConfig(text_config=text, vision_config=vision)
        LlavaForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    how = {"int8": BitsAndBytesConfig(load_in_8bit=True), "NF4": BitsAndBytesConfig(load_in_4bit=True)}
    how["NF4"].bnb_4bit_quant_type = "nf4"
    how = {"quantization_config": how[precision]} if precision in how else {}
    before = alive()
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True, **how)
    weights = held(before)
    parts = next(
        one for one in fit(folder, ram="9GB", precision=precision).options if one.engine == "transformers"
    ).parts
    assert parts["weights"] + parts["scales"] + parts["vision"] == pytest.approx(weights, rel=0.01)
    assert fit(folder, ram="9GB").parameters == 3_525_504
    del model
