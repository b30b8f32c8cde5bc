"""LLaVA: two GGUF files that are llama.cpp's own, and that llama.cpp sees with."""

import io
import json
import re
import shutil
import subprocess
import sys
from array import array
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from llmnotes import formats
from llmnotes.cli.main import main
from llmnotes.errors import FileBroken, FileUnreadable, LLMNotesError, NotConvertible
from llmnotes.formats import convert
from tests import llama_cpp

pytestmark = pytest.mark.slow

PROMPT = "<|user|>What is <image> here?<|assistant|>"


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A folder with a random LLaVA of 3 vision layers and 2 language layers; its processor; the model."""
    import torch
    import transformers

    from llmnotes.pebble import weights_dir

    folder = tmp_path_factory.mktemp("llava") / "tiny-llava"
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights_dir("pebble"))
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    vision = transformers.CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=14
    )
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    token = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=token, image_seq_length=4
    )
    torch.manual_seed(0)
    model = transformers.LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():  # large enough for answers that depend on the image
            scale = 1.5 * weight.shape[-1] ** -0.5 if weight.ndim == 2 else 0.15
            weight.copy_(torch.randn(weight.shape) * scale + ("norm" in name and name.endswith("weight")))
    model.save_pretrained(folder)
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=28),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return folder, processor, model


@pytest.fixture(scope="module")
def files(llava, tmp_path_factory):
    """The two files of that LLaVA in F32."""
    folder = tmp_path_factory.mktemp("files")
    convert(llava[0], folder / "lm.gguf", "gguf", "F32")
    convert(llava[0], folder / "mm.gguf", "mmproj", "F32")
    return folder / "lm.gguf", folder / "mm.gguf"


def tensors(path):
    """{name: (dtype, shape, bytes)} of a file, and its keys."""
    inspection = formats.inspect(path)
    found = {t.name: (t.dtype, t.shape, b"".join(formats.read(inspection, t))) for t in inspection.tensors}
    plain = {key: list(value) if hasattr(value, "ends") else value for key, value in inspection.metadata.items()}
    return found, plain


def changed(folder, target, config=lambda config: None, weights=lambda weights: weights, images=lambda images: None):
    """A copy of the folder with its settings and weights changed."""
    shutil.copytree(folder, target)
    for name, change in (("config.json", config), ("processor_config.json", images)):
        value = json.loads((folder / name).read_text())
        change(value)
        (target / name).write_text(json.dumps(value))
    save_file(weights(load_file(folder / "model.safetensors")), target / "model.safetensors")
    return target


def test_the_folder_is_known_for_what_it_is(llava, capsys):
    assert formats.inspect(llava[0]).architecture == "LlavaForConditionalGeneration"
    assert main(["inspect", str(llava[0])]) == 0
    assert "LlavaForConditionalGeneration" in capsys.readouterr().out


def test_every_value_of_the_tower_and_the_projector_arrives(llava, files):
    stored, keys = tensors(files[1])
    model = llava[2].model
    expected = {}
    for name, value in model.multi_modal_projector.state_dict().items():
        expected[name.replace("linear_1", "mm.0").replace("linear_2", "mm.2")] = value.numpy()
    table = {"self_attn.out_proj": "attn_out", "mlp.fc1": "ffn_down", "mlp.fc2": "ffn_up", "layer_norm": "ln"}
    table |= {"self_attn.": "attn_", "_proj": "", "encoder.layers": "blk", "embeddings.": "", "pre_layrnorm": "pre_ln"}
    for name, value in model.vision_tower.state_dict().items():
        if re.search(r"layers\.2\.|post_layernorm", name):
            continue  # the projector looks at what the second layer of three gives
        for theirs, ours in table.items():
            name = name.replace(theirs, ours)
        expected["v." + name.replace("embedding", "embd")] = value.numpy()
    assert stored.keys() == expected.keys()
    for name, value in expected.items():
        assert stored[name] == ("F32", value.shape, value.tobytes()), name
    assert (keys["clip.vision.block_count"], keys["clip.vision.feature_layer"]) == (2, array("i", [2]))


@pytest.fixture(scope="module")
def peers(llava, converter, tmp_path_factory):
    """The four files as llama.cpp's own two converters write them."""
    out = tmp_path_factory.mktemp("peers")
    for script, jobs in {
        "llama_cpp_mmproj.py": [[str(llava[0]), str(out / kind), kind] for kind in ("F32", "F16")],
        "llama_cpp_convert.py": [[str(llava[0]), str(out / f"lm-{kind}.gguf"), kind] for kind in ("F32", "Q8_0")],
    }.items():
        command = [sys.executable, str(Path(__file__).parent / "peers" / script), str(converter)]
        done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.mark.slow
def test_the_projector_file_is_llama_cpps_own_to_the_byte(llava, peers, tmp_path):
    convert(llava[0], tmp_path / "ours.gguf", "mmproj")
    assert (tmp_path / "ours.gguf").read_bytes() == (peers / "F16" / "mmproj-model-f16.gguf").read_bytes()


def test_a_projector_file_in_f32_is_wider_than_llama_cpps(files, peers):
    """Theirs narrows three to F16 even there, from a time when GGML's convolution took nothing wider. A file of F32
    that somebody asks for holds the weights as they are."""
    (ours, keys), (theirs, their_keys) = tensors(files[1]), tensors(peers / "F32" / "mmproj-model-f32.gguf")
    assert list(ours) == list(theirs) and list(keys.items()) == list(their_keys.items())
    narrowed = {"mm.0.weight", "mm.2.weight", "v.patch_embd.weight"}
    assert {name for name in ours if ours[name] != theirs[name]} == narrowed
    for name in narrowed:
        assert np.frombuffer(ours[name][2], np.float32).astype(np.float16).tobytes() == theirs[name][2]


@pytest.mark.parametrize("dtype", ["F32", "Q8_0"])
def test_the_language_model_is_llama_cpps_own(llava, peers, tmp_path, dtype):
    convert(llava[0], tmp_path / "ours.gguf", "gguf", dtype)
    (ours, keys), (theirs, their_keys) = tensors(tmp_path / "ours.gguf"), tensors(peers / f"lm-{dtype}.gguf")
    assert ours == theirs
    otherwise = {
        "tokenizer.ggml.add_eos_token": "it leaves out what a reader should not have to guess",
        "tokenizer.ggml.add_sep_token": "no tokenizer of a causal model has one",
    }
    assert {key for key in keys.keys() | their_keys.keys() if keys.get(key) != their_keys.get(key)} == set(otherwise)


OLDER = {"vision_tower.": "vision_tower.vision_model."}
NEWER = {
    "language_model.lm_head.": "lm_head.",
    "language_model.model.": "model.language_model.",
    "vision_tower.": "model.vision_tower.",
    "multi_modal_projector.": "model.multi_modal_projector.",
}


@pytest.mark.parametrize("table", [OLDER, NEWER], ids=["older", "newer"])
def test_the_names_of_every_transformers_give_the_same_files(llava, files, tmp_path, table):
    def renamed(weights):
        found = {}
        for name, value in weights.items():
            theirs = next((theirs for theirs in table if name.startswith(theirs)), "")
            found[table.get(theirs, "") + name.removeprefix(theirs)] = value
        assert found.keys() != weights.keys()
        return found

    folder = changed(llava[0], tmp_path / "tiny-llava", weights=renamed)
    convert(folder, tmp_path / "lm.gguf", "gguf", "F32")
    convert(folder, tmp_path / "mm.gguf", "mmproj", "F32")
    assert [(tmp_path / path.name).read_bytes() for path in files] == [path.read_bytes() for path in files]


def test_settings_that_published_folders_leave_out(llava, files, tmp_path):
    def sparse(config):
        for key in ("layer_norm_eps", "hidden_act", "num_channels", "projection_dim"):
            del config["vision_config"][key]
        for key in ("vision_feature_layer", "vision_feature_select_strategy", "projector_hidden_act"):
            del config[key]
        for key in ("rms_norm_eps", "attention_bias", "mlp_bias", "tie_word_embeddings", "max_position_embeddings"):
            del config["text_config"][key]
        config["text_config"]["architectures"] = ["LlamaForCausalLM"]

    folder = changed(llava[0], tmp_path / "tiny-llava", sparse)
    convert(folder, tmp_path / "lm.gguf", "gguf", "F32")
    convert(folder, tmp_path / "mm.gguf", "mmproj", "F32")
    assert [(tmp_path / path.name).read_bytes() for path in files] == [path.read_bytes() for path in files]


def test_a_published_7b_is_described_by_five_settings():
    from llmnotes.formats.gguf import architectures, llava, rope
    from llmnotes.formats.results import Identity, Inspection

    text = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5}
    config = {"model_type": "llava", "text_config": text | {"max_position_embeddings": 4096}}
    folder = Inspection(Path("llava"), Identity("Hugging Face folder", "", ""), (), {"config": config})
    settings = llava.language_model(folder)[0].metadata["config"]
    sizes = rope.settings(architectures.of_config(settings), settings, 32)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads", "vocab_size", "head_dim")
    assert [sizes[name] for name in names] == [4096, 11008, 32, 32, 32064, 128]


def test_tied_embeddings_are_stored_once(llava, tmp_path):
    def untied(weights):
        del weights["language_model.lm_head.weight"]
        return weights

    folder = changed(llava[0], tmp_path / "a", lambda config: config.update(tie_word_embeddings=True), untied)
    convert(folder, tmp_path / "a.gguf", "gguf", "F32")
    assert "output.weight" not in tensors(tmp_path / "a.gguf")[0]
    with pytest.raises(FileBroken, match="lacks 1 tensor that"):
        convert(changed(llava[0], tmp_path / "b", weights=untied), tmp_path / "b.gguf", "gguf", "F32")


def test_weights_that_do_not_lie_as_they_are_arrive_under_their_new_names(llava, tmp_path):
    import torch

    folder = shutil.copytree(llava[0], tmp_path / "a", ignore=shutil.ignore_patterns("*.safetensors"))
    weights = {name: torch.from_numpy(array) for name, array in load_file(llava[0] / "model.safetensors").items()}
    turned = {name: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
    torch.save(turned, folder / "pytorch_model.bin")
    for source, name in ((llava[0], "b.gguf"), (folder, "c.gguf")):
        convert(source, tmp_path / name, "gguf", "F32")
    assert tensors(tmp_path / "b.gguf")[0] == tensors(tmp_path / "c.gguf")[0]


def test_the_command_line_says_what_did_not_travel(llava, tmp_path, capsys):
    target = tmp_path / "mm.gguf"
    assert main(["convert", str(llava[0]), str(target), "--to", "mmproj", "--type", "Q8_0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["fallbacks"] == {"v.patch_embd.weight": "F16", "v.position_embd.weight": "F16"}
    assert "18 tensors of the last layers" in answer["lost"][0]
    stored = tensors(target)[0]
    assert stored["v.blk.1.ffn_down.weight"][0] == "Q8_0" and stored["v.blk.1.ffn_down.bias"][0] == "F32"
    done = convert(llava[0], tmp_path / "lm.gguf", "gguf", "Q8_0")
    (sentence,) = done.lost
    assert sentence.startswith(
        "Left out: 59 tensors of the vision tower and the projector, which --to mmproj writes to a file of their own: "
    )


BROKEN = {
    "a tower that is no CLIP": ({"vision_config": {"model_type": "siglip_vision_model"}}, NotConvertible, "siglip"),
    "another activation": ({"projector_hidden_act": "relu"}, NotConvertible, "relu"),
    "the class token kept": ({"vision_feature_select_strategy": "full"}, NotConvertible, "full"),
    "layers in another order": ({"vision_feature_layer": [-1, -2]}, NotConvertible, "takes layers in order"),
    "no layer": ({"vision_feature_layer": []}, FileBroken, "vision_feature_layer"),
    "a layer too far": ({"vision_feature_layer": -5}, FileBroken, "vision_feature_layer"),
    "more layers than tensors": ({"vision_config": {"num_hidden_layers": 1 << 20}}, FileBroken, "num_hidden_layers"),
    "a layer more": ({"vision_config": {"num_hidden_layers": 4}}, FileBroken, "lacks 16 tensors"),
    "a layer less": ({"vision_config": {"num_hidden_layers": 2}}, NotConvertible, "16 tensors that"),
    "another width": ({"vision_config": {"hidden_size": 128}}, FileBroken, "has the shape"),
    "another architecture": ({"architectures": ["LlavaNextForConditionalGeneration"]}, NotConvertible, "LlavaNext"),
    "no vision_config": ({"vision_config": None}, FileBroken, "without a vision_config"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_llama_cpp_would_compute_otherwise_is_refused(llava, tmp_path, name):
    changes, error, words = BROKEN[name]

    def change(config):
        for key, value in changes.items():
            config[key] = config[key] | value if isinstance(value, dict) else value

    folder = changed(llava[0], tmp_path / "a", change)
    with pytest.raises(error, match=words):
        convert(folder, tmp_path / "mm.gguf", "mmproj", "F16")
    assert not (tmp_path / "mm.gguf").exists()


def test_a_folder_that_says_nothing_of_images(llava, tmp_path):
    folder = changed(llava[0], tmp_path / "a")
    (folder / "processor_config.json").unlink()
    with pytest.raises(FileUnreadable, match="preprocessor_config.json"):
        convert(folder, tmp_path / "mm.gguf", "mmproj")


@pytest.mark.slow
def test_no_setting_brings_a_traceback(llava, tmp_path):
    strange = [
        None,
        -1,
        0,
        1 << 70,
        10**400,
        1e308,
        float("nan"),
        "x",
        "\ud800",
        [],
        [[]],
        {},
        {"a": 1},
        True,
        [1] * 99,
    ]
    folder = shutil.copytree(llava[0], tmp_path / "a")
    good = {name: json.loads((folder / name).read_text()) for name in ("config.json", "processor_config.json")}
    places = [("config.json", at, key) for at in (None, "vision_config", "text_config") for key in _keys(good, at)]
    places += [("processor_config.json", "image_processor", key) for key in ("image_mean", "image_std")]
    refused = 0
    for count, (name, at, key) in enumerate(places):
        for value in strange[count % 3 :: 3]:
            bad = json.loads(json.dumps(good[name]))
            (bad[at] if at else bad)[key] = value
            (folder / name).write_text(json.dumps(bad))
            for to in ("gguf", "mmproj"):
                try:
                    convert(folder, tmp_path / "out.gguf", to, "F32")
                    (tmp_path / "out.gguf").unlink()
                except LLMNotesError:
                    refused += 1
        (folder / name).write_text(json.dumps(good[name]))
    assert refused > 150


def _keys(good, at):
    return list(good["config.json"][at] if at else good["config.json"])


def images():
    """Three images of the size that the model reads, as PNG files and as PIL has them."""
    from PIL import Image

    random = np.random.default_rng(0)
    for _ in range(3):
        image, file = Image.fromarray(random.integers(0, 256, (28, 28, 3), dtype=np.uint8)), io.BytesIO()
        image.save(file, "PNG")
        yield image, file.getvalue()


def answer(llava, image, last: bool, count: int = 24) -> list[int]:
    """The greedy answer of transformers' layers, CLIP's class token first as it should be, or last."""
    import torch

    _, processor, model = llava
    tower, language = model.model.vision_tower, model.model.language_model
    inputs = processor(text=PROMPT, images=image, return_tensors="pt")
    with torch.no_grad():
        patches = tower.embeddings.patch_embedding(inputs["pixel_values"]).flatten(2).transpose(1, 2)
        token = tower.embeddings.class_embedding.expand(1, 1, -1)
        hidden = torch.cat([patches, token] if last else [token, patches], 1)
        hidden = tower.pre_layrnorm(hidden + tower.embeddings.position_embedding.weight)
        for layer in tower.encoder.layers[:2]:
            hidden = layer(hidden, None)
        text = model.get_input_embeddings()(inputs["input_ids"])
        text[inputs["input_ids"] == model.config.image_token_id] = model.model.multi_modal_projector(hidden[0, 1:])
        found = []
        while len(found) < count and found[-1:] != [1]:
            logits = model.lm_head(language(inputs_embeds=text).last_hidden_state[:, -1:])
            found.append(int(logits.argmax()))
            text = torch.cat([text, model.get_input_embeddings()(torch.tensor([[found[-1]]]))], 1)
    return found


def test_llama_cpp_reads_both_files_and_answers_as_transformers_layers_do(llava, files):
    """On text the answer is that of transformers. On images it is, too, once the class token stands where llama.cpp
    puts it: behind the patches. When this fails because llama.cpp has put it first, a sentence in `lost` is over."""
    import torch

    _, processor, model = llava
    prompt = "<|user|>Who lives in the town?<|assistant|>"
    ids = processor.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :].tolist()
    seen = []
    with llama_cpp.opened(*files) as runtime:
        assert runtime.tokens(prompt) == ids[0].tolist()
        assert runtime.greedy(prompt, 24)[1] == expected
        for image, file in images():
            inputs = processor(text=PROMPT, images=image, return_tensors="pt")
            with torch.no_grad():
                out = model.generate(**inputs, max_new_tokens=24, do_sample=False)
            first = answer(llava, image, last=False)
            assert first == out[0, inputs["input_ids"].shape[1] :].tolist()
            seen.append(runtime.seen(PROMPT, file, 24))
            assert seen[-1] == answer(llava, image, last=True) != first
    assert len(set(map(tuple, seen))) == 3
