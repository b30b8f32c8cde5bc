"""Whatever transformers acts on in a config.json is honoured on the way to GGUF, refused, or named under `lost`."""

import dataclasses
import importlib.util
import inspect
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible
from llmnotes.formats import convert, gguf
from llmnotes.formats import inspect as inspected
from llmnotes.formats.gguf import rope
from llmnotes.formats.gguf.architectures import ARCHITECTURES, Architecture
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.understood import IDLE, known_settings
from llmnotes.pebble import weights_dir
from tests.llama_cpp import opened
from tests.models_for_gguf import SIZES
from tests.test_formats_from_gguf import rewritten

pytestmark = pytest.mark.slow

TOKENS = list(range(3, 43))
CLOSE = 1e-5  # logits of two runs that compute the same; a setting that acts moves them by far more
NAMES = [architecture.model_type for architecture in ARCHITECTURES]
WITH_LLAVA = [*NAMES, "llava"]  # whose language model is a Llama

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
BASE: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},  # what is named anyway would hide all else
    "mixtral": EXPERTS | {"head_dim": 16},  # which transformers wants to be told for YaRN
    "qwen3_moe": EXPERTS | {"moe_intermediate_size": 48, "norm_topk_prob": True},
    "gemma3_text": {"num_hidden_layers": 6},  # the sixth is the first without a window
}
# Values for settings whose type does not say which others make sense.
SENSIBLE: dict[str, list[Any]] = {
    "hidden_act": ["relu", "gelu", "swish"],
    "layer_types": [["sliding_attention", "full_attention"]],
    "sliding_window": [8, 64, None],
    "attention_chunk_size": [8],
    "head_dim": [32],
    "per_layer_config": [{"1": {"hidden_act": "relu"}}],
    "rope_parameters": [{"rope_type": "default", "rope_theta": 100.0}],
    "rope_scaling": [{"type": "linear", "factor": 2.0}],
    "original_max_position_embeddings": [64],
    "rope_theta": [100.0],
    "partial_rotary_factor": [0.5],
    "is_causal": [False],
    "no_rope_layers": [[1, 0], [1, 1], [0, 1]],
    "rope_local_base_freq": [100.0],
    "sliding_window_pattern": [2],
    "mlp_only_layers": [[1], []],
    "num_experts": [4, 5],
    "dtype": [],  # read as float32 in this test
    "architectures": [],  # which model it is, and no setting of it
    "rms_norm_eps": [0.5],
    "layer_norm_eps": [0.5],
}
# What only acts together.
TOGETHER = [
    {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0, "layer_types": None},
    {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None},
    {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2, "layer_types": None},
    {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]},
    {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention", "full_attention"]},
    {"num_key_value_heads": None},
    {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}},
    {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
    {"rope_parameters": {"full_attention": {"rope_theta": 50.0}}, "rope_scaling": {"type": "linear", "factor": 2.0}},
    {"layer_types": None, "sliding_window_pattern": 1},
    {"rope_parameters": {"rope_type": "linear", "factor": 4.0}},
    {"rope_parameters": None, "rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    {"rope_parameters": {"rope_type": "linear", "factor": 4.0}, "rope_scaling": {"type": "linear", "factor": 2.0}},
]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """The folder of a tiny random model of each architecture, with the tokenizer of Pebble."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = make(name, tmp_path_factory.mktemp(name) / name)
        return made[name]

    return folder


def make(name: str, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    architecture = named(name).hugging_face
    own = {"architectures": [architecture], "bos_token_id": 0, "eos_token_id": 1}  # as Pebble's tokenizer has them
    config = config_class(name)(**SIZES | own | BASE.get(name, {}))
    if name == "llava":
        architecture = "LlavaForConditionalGeneration"
        eye = transformers.CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=8
        )
        config = transformers.LlavaConfig(text_config=config, vision_config=eye, image_token_index=0)
    model = getattr(transformers, architecture)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2 + (parameter.ndim == 1))
        for layer in model.model.layers if name.startswith("gemma") else ():
            layer.mlp.down_proj.weight.zero_()  # llama.cpp looks the GELU up in a table of float16, which is too coarse
    model.save_pretrained(folder)
    for file in weights_dir("pebble").glob("token*"):
        shutil.copy(file, folder)
    return folder


def named(name: str) -> Architecture:
    name = "llama" if name == "llava" else name
    return next(architecture for architecture in ARCHITECTURES if architecture.model_type == name)


def changed(folder: Path, target: Path, changes: dict) -> Path:
    """Return a folder in `target` with the same weights, by a link, and some settings changed."""
    target = target / "model"
    target.mkdir(parents=True)
    for file in folder.iterdir():
        if file.name != "config.json":
            (target / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text())
    config.get("text_config", config).update(changes)
    (target / "config.json").write_text(json.dumps(config))
    return target


def logits(folder: Path):
    """Return what transformers computes: (tokens, vocabulary); None where it refuses the settings or these weights."""
    import torch
    import transformers

    kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    try:
        model, info = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        if info["missing_keys"] or info["mismatched_keys"]:
            return None
        with torch.no_grad():
            return model(torch.tensor([TOKENS]), return_dict=True).logits[0]
    except Exception:
        return None


# What is said of other things than the settings.
BESIDE = "converting back gives|vision tower|a second time for it|AutoTokenizer takes"


def honoured(folder: Path, expected, same: Path | None = None) -> bool:
    """Return whether the GGUF of a folder is refused, named as different, or computed by llama.cpp as `expected`.

    `same` is a GGUF that is known to compute that: a file of the same bytes need not run.
    """
    target = folder.with_name("model.gguf")
    try:
        done = convert(folder, target, type="F32")
    except LLMNotesError as error:
        assert not re.search("damaged|copy it again", str(error)), error
        return True
    if [sentence for sentence in done.lost if not re.search(BESIDE, sentence)]:
        return True
    if same is not None and same.read_bytes() == target.read_bytes():
        return True
    if importlib.util.find_spec("xllamacpp") is None:
        convert(target, folder.with_name("back"), to="huggingface")
        return bool((logits(folder.with_name("back")) - expected).abs().max() < CLOSE)
    return agrees(target, expected)


def agrees(path: Path, expected) -> bool:
    """Return whether llama.cpp gives the likeliest tokens the probabilities that transformers does."""
    with opened(path) as llama:
        answer = llama.next_tokens(TOKENS, 20)
    wanted = expected[-1].log_softmax(-1)
    return all(abs(wanted[token].item() - logprob) < 2e-3 for token, logprob in answer)


def alternatives(name: str, kind: Any, default: Any) -> list[Any]:
    """Return other values for a setting, by its name or by its type."""
    if name in SENSIBLE:
        return SENSIBLE[name]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int):
        return [default // 2 or 1, default + 2]
    if isinstance(default, float):
        return [default * 2 + 0.1]
    return [] if default is not None else [3 if "int" in str(kind) else True]


def config_class(name: str):
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[named(name).model_type]


def every_change(name: str) -> list[dict]:
    """Return a dict for each change of one setting, of this or any other architecture here, and what acts together."""
    own = json.loads(config_class(name)(**SIZES).to_json_string(use_diff=False))
    found = [*TOGETHER]
    for other in dict.fromkeys([name, *NAMES]):
        for field in dataclasses.fields(config_class(other)):
            default = own.get(field.name, field.default)
            found += [{field.name: value} for value in alternatives(field.name, field.type, default)]
    found += [{key: value} for key in SENSIBLE for value in SENSIBLE[key]]
    return [change for at, change in enumerate(found) if change not in found[:at]]


@pytest.mark.parametrize("name", WITH_LLAVA)
def test_a_setting_that_moves_the_logits_is_honoured_refused_or_named(name, model_of, tmp_path):
    folder = changed(model_of(name), tmp_path / "base", {})
    base, moved, silent = logits(folder), 0, []
    assert honoured(folder, base)
    for at, change in enumerate(every_change(name)):
        folder = changed(model_of(name), tmp_path / f"{at}", change)
        now = logits(folder)
        if now is None:
            continue
        acts = bool((now - base).abs().max() > CLOSE)
        moved += acts
        if not honoured(folder, now, None if acts else tmp_path / "base" / "model.gguf"):
            silent.append(change)
    assert silent == []
    assert moved >= 5  # the activation, the norm, two ways to turn positions, a layer less


PLAIN = {"rope_theta": 1000.0}
KINDS = {
    "default": PLAIN,
    "linear": PLAIN | {"factor": 4.0},
    "dynamic": PLAIN | {"factor": 4.0},
    "llama3": PLAIN
    | {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    | {"original_max_position_embeddings": 32},
    "yarn": PLAIN | {"factor": 4.0, "original_max_position_embeddings": 32},
    "longrope": PLAIN
    | {"factor": 4.0, "original_max_position_embeddings": 32}
    | {"short_factor": [1.5] * 8, "long_factor": [2.5] * 8},
}
# Values for the rope parameters; all of them are tried in each kind for a Llama, elsewhere those that a kind reads.
CURVES: dict[str, list[Any]] = {
    "rope_theta": [100.0],
    "partial_rotary_factor": [0.5, 1.0],
    "factor": [3.0, 0.5],
    "original_max_position_embeddings": [16, None],
    "attention_factor": [1.5],
    "beta_fast": [0.5],
    "beta_slow": [0.2],
    "low_freq_factor": [2.0],
    "high_freq_factor": [6.0],
    "mscale": [0.7],
    "mscale_all_dim": [0.3],
    "truncate": [False, None],
    "mrope_section": [[2, 3, 3]],
    "short_factor": [[3.0] * 8],
    "long_factor": [[3.0] * 8],
}


YARN = ("attention_factor", "beta_fast", "beta_slow", "truncate")


@pytest.mark.parametrize("name", NAMES)
def test_a_rope_parameter_that_moves_the_logits_is_honoured_refused_or_named(name, model_of, tmp_path):
    base, silent, kinds = logits(model_of(name)), [], set()
    for kind, parameters in KINDS.items():
        changes = [{}, {"mscale": 0.7, "mscale_all_dim": 0.3}]
        keys = CURVES if name == "llama" else {*parameters, "partial_rotary_factor", *(YARN if kind == "yarn" else ())}
        changes += [{key: value} for key in CURVES if key in keys for value in CURVES[key]]
        cases = [{"rope_parameters": parameters | change | {"rope_type": kind}} for change in changes]
        if name == "gemma3_text":
            cases = [{"rope_parameters": {"full_attention": case["rope_parameters"]}} for case in cases]
        cases += [case | {"original_max_position_embeddings": 64} for case in cases[:1]]
        before = [base]
        for at, case in enumerate(cases):
            folder = changed(model_of(name), tmp_path / f"{kind}{at}", case)
            now = logits(folder)
            if now is None or any((now - other).abs().max() < CLOSE for other in before):
                continue
            before.append(now)
            kinds.add(kind)
            if not honoured(folder, now):
                silent.append(case)
    assert silent == []
    assert {"default", *(("longrope",) if name == "phi3" else ("linear", "yarn"))} <= kinds


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_hold_every_setting_that_transformers_has(name):
    """A setting that a later transformers adds fails here, and goes into a table of `Architecture` or into `IDLE`."""
    from transformers import GenerationConfig, masking_utils, modeling_rope_utils

    known = known_settings(named(name)) | {"bos_token_id", "eos_token_id", "pad_token_id"}
    cls = config_class(name)
    assert {field.name for field in dataclasses.fields(cls)} - known == set()
    # What code reads without a field of that name, such as `getattr(config, "is_causal", True)`.
    shared = _read(masking_utils) | _read(modeling_rope_utils)
    assert (_read(sys.modules[config_of_model(name).__module__]) | (shared - OTHERS)) - known - METHODS == set()
    assert set(GenerationConfig._get_default_generation_params()) - {*IDLE} == set()
    assert set(modeling_rope_utils.RopeParameters.__annotations__) - {*rope.PARAMETERS} == set()


METHODS = {"get_text_config", "standardize_rope_params", "validate_rope", "json", "default_theta"}
# A Gemma 3 that sees is an architecture of its own.
METHODS |= {"vision_config", "text_config", "image_token_id", "mm_tokens_per_image"}
OTHERS = {"attention_chunk_size", "sliding_window"}  # for masks that a model asks for, whose own code reads these too


def _read(module) -> set[str]:
    """Return the names of settings in the code of a module."""
    code = inspect.getsource(module)
    return {*re.findall(r"\bconfig\.([a-z]\w+)", code), *re.findall(r"getattr\([\w.]*config, \"([a-z]\w+)\"", code)}


def config_of_model(name: str):
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return MODEL_FOR_CAUSAL_LM_MAPPING[config_class(name)]


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_those_of_transformers(name):
    architecture = named(name)
    theirs = json.loads(config_class(name)().to_json_string(use_diff=False))
    theirs |= {field.name: field.default for field in dataclasses.fields(config_class(name))}
    positions = config_class(name)().rope_parameters
    if name == "gemma3_text":
        theirs |= {"rope_local_base_freq": positions["sliding_attention"]["rope_theta"], "sliding_window_pattern": 6}
        positions = positions["full_attention"]
    theirs |= positions
    for table in (architecture.defaults, architecture.weighed):
        assert {key: theirs.get(key) for key in table} == table
    for key, values in architecture.only.items():
        assert theirs[key] in values


def test_a_setting_that_nobody_knows_is_named_and_what_is_known_to_be_idle_is_not(model_of, tmp_path):
    changes = {"unsloth_version": "2025.1", "use_cache": False, "my_note": None}
    assert convert(changed(model_of("llama"), tmp_path / "a", changes), tmp_path / "a.gguf").lost == ()
    changes = {"alibi": True, "rope_parameters": {"rope_type": "default", "curve": 2}}
    lost = convert(changed(model_of("llama"), tmp_path / "b", changes), tmp_path / "b.gguf").lost
    assert len(lost) == 1 and "alibi and rope_parameters.curve, which llmnotes does not know" in lost[0]


def test_the_window_of_a_qwen2_is_named_where_a_layer_has_one(model_of, tmp_path):
    window = {"use_sliding_window": True, "sliding_window": 8, "layer_types": None}
    for at, (change, count) in enumerate(
        [({"max_window_layers": 1}, 1), ({"max_window_layers": 2}, 0), ({"layer_types": ["full_attention"] * 2}, 0)]
    ):
        folder = changed(model_of("qwen2"), tmp_path / f"{at}", window | change)
        assert [sentence for sentence in convert(folder, folder / "a.gguf").lost if "sliding" in sentence] == (
            ["llama.cpp attends to the whole text; this model only attends to a sliding window."] * count
        )
    with pytest.raises(NotConvertible, match="hidden_act is relu, but llama.cpp computes"):
        convert(changed(model_of("qwen2"), tmp_path / "b", {"hidden_act": "relu"}), tmp_path / "b.gguf")


@pytest.mark.parametrize("name", ["llama", "stablelm"])
def test_yarn_comes_back_as_it_went(name, model_of, tmp_path):
    changes = [{"attention_factor": 1.5}, {"mscale": 0.7, "mscale_all_dim": 0.3}, {"beta_fast": 0.5, "beta_slow": 0.2}]
    for at, change in enumerate([{}, *changes]):
        parameters = KINDS["yarn"] | {"rope_type": "yarn", "partial_rotary_factor": 1.0} | change
        folder = changed(model_of(name), tmp_path / f"{at}", {"rope_parameters": parameters})
        done = convert(folder, folder / "model.gguf", type="F32")
        convert(folder / "model.gguf", folder / "back", to="huggingface")
        assert (logits(folder / "back") - logits(folder)).abs().max() < 1e-4  # its factor goes through a float32
        assert ["--yarn-beta-fast 0.5 --yarn-beta-slow 0.2" in sentence for sentence in done.lost] == (
            [True] if "beta_fast" in change else []
        )


def test_dynamic_scaling_is_named_because_short_texts_do_without(model_of, tmp_path):
    plain = changed(model_of("llama"), tmp_path / "plain", {"rope_parameters": PLAIN | {"rope_type": "default"}})
    for most, alike in ((len(TOKENS) + 8, True), (len(TOKENS) - 8, False)):
        change = {"rope_parameters": KINDS["dynamic"] | {"rope_type": "dynamic"}, "max_position_embeddings": most}
        folder = changed(model_of("llama"), tmp_path / f"{most}", change)
        assert ((logits(folder) - logits(plain)).abs().max() < CLOSE) == alike
        (sentence,) = convert(folder, folder / "model.gguf", type="F32").lost
        assert f"no dynamic scaling of positions, by which this model reads texts of more than {most} tok" in sentence
    assert agrees(tmp_path / f"{len(TOKENS) + 8}" / "model" / "model.gguf", logits(plain))


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "truncate": False}, NotConvertible, "with truncate true only"),
        ({"rope_type": "llama3", "factor": 4.0}, FileBroken, "low_freq_factor is None"),
        ({"rope_type": "longrope"}, NotConvertible, "cannot write the position scaling longrope"),
    ],
)
def test_what_llama_cpp_cannot_turn_is_refused(change, error, word, model_of, tmp_path):
    folder = changed(model_of("llama"), tmp_path / "a", {"rope_parameters": change})
    with pytest.raises(error, match=word):
        convert(folder, tmp_path / "a.gguf")


@pytest.mark.parametrize("name", ["qwen2", "llava"])
def test_an_output_layer_of_its_own_is_kept_beside_tied_embeddings_and_a_copy_is_not(name, model_of, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = changed(model_of(name), tmp_path / "own", {"tie_word_embeddings": True})
    convert(folder, tmp_path / "own.gguf", type="F32")
    assert "output.weight" in {tensor.name for tensor in inspected(tmp_path / "own.gguf").tensors}
    assert agrees(tmp_path / "own.gguf", logits(folder))
    folder = changed(model_of(name), tmp_path / "copy", {"tie_word_embeddings": True})
    weights = load_file(folder / "model.safetensors")
    head, table = (next(key for key in weights if word in key) for word in ("lm_head", "embed_tokens"))
    (folder / "model.safetensors").unlink()
    save_file(weights | {head: weights[table].clone()}, folder / "model.safetensors", {"format": "pt"})
    convert(folder, tmp_path / "copy.gguf", type="F32")
    assert "output.weight" not in {tensor.name for tensor in inspected(tmp_path / "copy.gguf").tensors}
    assert agrees(tmp_path / "copy.gguf", logits(folder))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head", ["none", "another"])
def test_llama_cpp_opens_tied_embeddings_without_and_with_an_output_layer_or_they_are_refused(
    name, head, model_of, tmp_path
):
    import torch
    from safetensors.torch import load_file, save_file

    folder = changed(model_of(name), tmp_path / "a", {"tie_word_embeddings": True})
    weights = load_file(folder / "model.safetensors")
    other = torch.randn(weights["model.embed_tokens.weight"].shape) * 0.2
    weights = {key: value for key, value in weights.items() if key != "lm_head.weight"}
    (folder / "model.safetensors").unlink()
    save_file(
        weights | ({"lm_head.weight": other} if head == "another" else {}),
        folder / "model.safetensors",
        {"format": "pt"},
    )
    if name == "olmo2" or (name, head) == ("gemma2", "another"):
        with pytest.raises(
            NotConvertible, match="tie_word_embeddings is True|with the table alone; use a model without"
        ):
            convert(folder, tmp_path / "a.gguf")
    else:
        assert honoured(folder, logits(folder))


def head_of_16(name: str, model_of, tmp_path: Path) -> Path:
    """Return the folder of a model whose heads have the size hidden_size / heads, as in no model of its default."""
    if "head_dim" not in named(name).defaults:
        return model_of(name)
    BASE[name] = (own := BASE.get(name, {})) | {"head_dim": 16, "query_pre_attn_scalar": 16}
    try:
        return make(name, tmp_path / "narrow" / "model")
    finally:
        BASE[name] = own


LENGTHS = ("attention.key_length", "attention.value_length")
# The keys that llama.cpp opens a GGUF without; without others, it may end the process.
OPTIONAL = """
    attention.head_count_kv attention.sliding_window attn_logit_softcapping expert_feed_forward_length
    final_logit_softcapping rope.dimension_count rope.freq_base rope.freq_base_swa
    rope.scaling.original_context_length use_parallel_residual vocab_size
""".split()


@pytest.mark.parametrize("name", NAMES)
def test_a_gguf_without_a_key_that_has_a_default_comes_back_as_llama_cpp_takes_it_or_is_refused(
    name, model_of, tmp_path
):
    """Where llama.cpp opens a GGUF without a key, the folder computes the same."""
    convert(head_of_16(name, model_of, tmp_path), tmp_path / "a.gguf", type="F32")
    start = f"{named(name).gguf}."
    keys = [key.removeprefix(start) for key in gguf.entries(tmp_path / "a.gguf") if key.startswith(start)]
    missing = [(key,) for key in OPTIONAL if key in keys] + [LENGTHS] * ("attention.key_length" in keys)
    back = [drop for drop in missing if not back_again(tmp_path, start, dict.fromkeys(drop), refused="folder")]
    assert len(back) >= 1 and back.count(LENGTHS) == ("attention.key_length" in keys)


def back_again(tmp_path: Path, start: str, changes: dict, refused: str) -> bool:
    """Convert a GGUF with some keys changed, or left out where the new value is None, to a folder.

    Return whether llama.cpp or llmnotes refuses it; where neither does, both must compute the same. A refusal that asks
    to download a file again would be wrong where llama.cpp opens it.
    """
    place = tmp_path / f"{len(list(tmp_path.iterdir()))}"

    def change(entries: dict) -> None:
        for key, value in changes.items():
            entries.pop(start + key, None)
            entries.update({} if value is None else {start + key: value})

    path = rewritten(tmp_path / "a.gguf", place.with_suffix(".gguf"), change)
    try:
        with opened(path) as llama:
            llama.next_tokens(TOKENS, 20)
    except Exception:
        return True
    try:
        convert(path, place, to="huggingface")
    except LLMNotesError as error:
        assert re.search(refused, str(error)) and "again" not in str(error), error
        return True
    assert agrees(path, logits(place)), changes
    return False


STRETCH = {"rope.scaling.attn_factor": Typed("F32", 1.5)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [None, "none", "linear", "yarn"])
def test_stretched_attention_comes_back_as_llama_cpp_takes_it_or_is_refused(name, kind, model_of, tmp_path):
    convert(model_of(name), tmp_path / "a.gguf", type="F32")
    scaled = {"rope.scaling.type": kind} | ({"rope.scaling.factor": Typed("F32", 2.0)} if kind else {})
    start = f"{named(name).gguf}."
    refused = back_again(tmp_path, start, scaled | STRETCH, "stretch attention by 1.5, |the position scaling")
    assert refused == (kind != "yarn" or "yarn" not in named(name).positions)


def test_the_settings_of_a_llama3_that_do_not_come_back_are_named(model_of, tmp_path):
    published = dict(zip(rope.LLAMA3_SETTINGS, rope.LLAMA3[0], strict=True)) | {"rope_type": "llama3"}
    for factor, back in ((8.0, True), (5.0, False)):
        change = {"rope_parameters": PLAIN | published | {"factor": factor}}
        folder = changed(model_of("llama"), tmp_path / f"{factor}", change)
        lost = convert(folder, folder / "a.gguf").lost
        assert [s for s in lost if "rotations of a Llama 3 without their settings" in s] == list(lost)
        assert (not lost) == back
        if back:
            convert(folder / "a.gguf", tmp_path / "back", to="huggingface")
        else:
            with pytest.raises(NotConvertible, match="matches no published Llama 3"):
                convert(folder / "a.gguf", tmp_path / "none", to="huggingface")


def test_the_window_in_a_phi3s_keys_is_named_because_only_transformers_keeps_to_it(model_of, tmp_path):
    convert(model_of("phi3"), tmp_path / "a.gguf", type="F32")
    for at, window in enumerate((9, 0)):
        keys = {"phi3.attention.sliding_window": Typed("U32", window)}
        path = rewritten(tmp_path / "a.gguf", tmp_path / f"{at}.gguf", lambda entries, keys=keys: entries.update(keys))
        done = convert(path, tmp_path / f"{at}", to="huggingface")
        assert len([sentence for sentence in done.lost if "only attends to the sliding window" in sentence]) == bool(
            window
        )
        assert agrees(path, logits(tmp_path / f"{at}")) == (not window)


def test_what_a_gguf_says_beyond_what_is_understood_is_named_or_refused_on_the_way_back(model_of, tmp_path):
    convert(model_of("qwen2"), tmp_path / "a.gguf", type="F32")

    def back(name: str, **keys):
        changes = {f"qwen2.{key.replace('__', '.')}": value for key, value in keys.items()}
        gguf = rewritten(tmp_path / "a.gguf", tmp_path / f"{name}.gguf", lambda entries: entries.update(changes))
        return convert(gguf, tmp_path / name, to="huggingface")

    assert not any("does not know" in sentence for sentence in back("same", expert_count=0).lost)
    assert any(
        "attention.scale, which llmnotes does not" in sentence for sentence in back("b", attention__scale=2.0).lost
    )
    assert any("has attention.causal, which" in sentence for sentence in back("c", attention__causal=False).lost)
    with pytest.raises(NotConvertible, match="Its keys turn 8 of the 16 numbers of a head"):
        back("d", rope__dimension_count=8)
    # A factor without a kind is linear, as llama.cpp takes it.
    back("e", rope__scaling__factor=4.0)
    linear = changed(
        model_of("qwen2"),
        tmp_path / "f",
        {"rope_parameters": KINDS["linear"] | {"rope_theta": 10000.0, "rope_type": "linear"}},
    )
    assert (logits(tmp_path / "e") - logits(linear)).abs().max() < CLOSE
    assert agrees(tmp_path / "e.gguf", logits(linear))


def test_a_model_of_two_kinds_is_refused_because_transformers_goes_by_the_other(model_of, tmp_path):
    folder = changed(model_of("llama"), tmp_path / "a", {"model_type": "mistral", "sliding_window": 8})
    with pytest.raises(NotConvertible, match="LlamaForCausalLM and its model_type mistral, by which transformers goes"):
        convert(folder, tmp_path / "a.gguf")
