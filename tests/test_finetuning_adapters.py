"""An adapter is a model: it is merged into its base, opened, converted, served and trained further."""

import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from llmnotes.cli.main import main
from llmnotes.errors import (
    AdapterUnfit,
    DoesNotFit,
    FileBroken,
    MissingPart,
    ModelBroken,
    ModelNotFound,
    NotConvertible,
)
from llmnotes.finetuning import data
from llmnotes.finetuning.job import refusing, run
from llmnotes.finetuning.train import held_out_loss
from llmnotes.fit import fit
from llmnotes.formats import conversion, inspect
from llmnotes.formats.adapters import Base
from llmnotes.models import files, open_model, paths
from llmnotes.models.adapters import merge
from llmnotes.serving import gguf_of

from .llama_cpp import opened

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks for it
SILENT = {"say": lambda line: None}


@pytest.fixture(scope="module")
def taught(tmp_path_factory, tiny_folder) -> dict[str, Path]:
    """The outputs of three fine-tunings of one model, by method, with what they measured."""
    folder = tmp_path_factory.mktemp("taught")
    lines = [{"prompt": f"Q: {i}?\nA:", "completion": f" {i * i}\n", "fact": i} for i in range(12)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    common = {"model": str(tiny_folder), "data": str(folder / "data.jsonl"), "held_out": 0.25, "steps": 6}
    common |= {"learning_rate": 1e-2, "max_length": 32, "batch_size": 3}
    for method in ("lora", "qlora", "full"):
        run.finetune(common | {"method": method, "output": str(folder / method)}, **SILENT, progress=False)
    return {method: folder / method for method in ("lora", "qlora", "full")}


def logits(model) -> torch.Tensor:
    ids = torch.arange(40)[None] * 5 % 200
    with torch.no_grad():
        return model(ids).logits


def report_of(output: Path) -> dict:
    return json.loads((output / "report.json").read_text(encoding="utf-8"))


def settings_of(output: Path) -> dict:
    return {key: value for key, value in report_of(output)["settings"].items() if key != "lora"}


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_what_was_measured_is_what_opens(taught, method):
    """Also after QLoRA: the adapter is added to what the 4 bits stand for, as in the training."""
    report = report_of(taught[method])
    lm = open_model(taught[method], **SILENT)
    _, held_out = run.examples(run.settings_of(settings_of(taught[method])))
    rows = data.encode(held_out, lm.tokenizer, 32)
    assert held_out_loss(lm.model, rows) == pytest.approx(report["measured"][-1]["eval_loss"], abs=1e-4)


def test_the_output_says_what_it_was_trained_on(taught, tiny_folder):
    adapter = taught["qlora"] / "adapter"
    assert {"tokenizer.json", "tokenizer_config.json", "base.json"} <= {path.name for path in adapter.iterdir()}
    nf4 = {"method": "nf4", "double": True, "dtype": "float32"}
    found = json.loads((adapter / "base.json").read_text(encoding="utf-8"))
    assert found == {"name": str(tiny_folder), "revision": None, "quantization": nf4}
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_folder)
    assert json.loads((taught["lora"] / "adapter" / "base.json").read_text())["quantization"] is None


def test_a_model_of_the_hub_is_recorded_with_its_revision(monkeypatch, tmp_path, tiny_folder):
    cache = tmp_path / "snapshots" / "0123abc"
    shutil.copytree(tiny_folder, cache)
    monkeypatch.setattr(run, "path_of", lambda name: cache)
    settings = run.settings_of({"model": "some/model", "data": "d", "output": "o", "steps": 1})
    base = run.base_of(settings, AutoModelForCausalLM.from_pretrained(cache))
    assert base == Base("some/model", "0123abc", None)
    asked = []
    monkeypatch.setattr(paths, "_download", lambda *arguments: asked.append(arguments) or cache)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter" / "base.json").write_bytes(base.as_json())
    with pytest.raises(Exception):  # noqa: B017 - only who is asked for what counts here
        open_model(tmp_path / "adapter", **SILENT)
    assert {each[:2] for each in asked} == {("some/model", "0123abc")}


def test_a_base_on_the_hub_is_not_brought_before_it_is_refused(taught, tmp_path, tiny_folder, monkeypatch):
    """Its config.json is all that comes where memory will not do, or where the adapter is another model's."""
    cache, asked = tmp_path / "snapshots" / "0123abc", []
    cache.mkdir(parents=True)
    shutil.copy(tiny_folder / "config.json", cache)
    monkeypatch.setattr(paths, "_download", lambda name, revision, parts: asked.append(parts) or cache)
    adapter = tmp_path / "adapter"
    shutil.copytree(taught["lora"] / "adapter", adapter)
    change(adapter / "base.json", name="some/model", revision="0123abc")
    wanted = {"model": str(adapter), "data": settings_of(taught["lora"])["data"]}
    wanted |= {"output": str(tmp_path / "o"), "steps": 1}
    with monkeypatch.context() as patch, pytest.raises(DoesNotFit, match="Fine-tuning .* needs"):
        patch.setattr(refusing.hardware, "memory", lambda: (10**9, 1000))
        run.finetune(wanted, **SILENT)
    assert set(asked) == {paths.CONFIG}
    assert files.convert(adapter, tmp_path / "lora.gguf", to="lora").tensors and set(asked) == {paths.CONFIG}
    change(cache / "config.json", hidden_size=64)
    for use in (lambda path: open_model(path, **SILENT), lambda path: merge(path, tmp_path / "m"), gguf_of):
        with pytest.raises(AdapterUnfit, match="does not fit its base model"):
            use(adapter)
    change(cache / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(AdapterUnfit, match=r"is quantized \(GPTQ, 4 bits\); give the folder of the model"):
        merge(adapter, tmp_path / "m")
    assert set(asked) == {paths.CONFIG}


def test_the_words_of_the_command_line(taught, tmp_path, capsys):
    """`merge` writes a folder that transformers opens; `finetune` names the next two commands, which work."""
    assert main(["merge", str(taught["lora"]), str(tmp_path / "whole")]) == 0
    assert "as huggingface" in capsys.readouterr().out
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert torch.equal(logits(whole), logits(open_model(taught["lora"], **SILENT).model))
    assert (tmp_path / "whole" / "tokenizer.json").exists()
    assert main(["merge", str(taught["lora"]), str(tmp_path / "json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["from"] == "Hugging Face folder"
    assert main(["merge", str(taught["full"]), str(tmp_path / "no")]) == 2
    assert "holds no adapter" in capsys.readouterr().err
    from llmnotes.finetuning.job.report import Report, describe

    for method, word in (("lora", "merge"), ("full", "convert")):
        text = describe(Report(**report_of(taught[method])))
        first, second = (line.partition(": ")[2] for line in text.splitlines()[-2:])
        assert first == f"llmnotes chat {taught[method]}" and second.startswith(f"llmnotes {word} {taught[method]} ")
        assert main(second.replace("Q4_K_M", "Q8_0").split()[1:]) == 0


def test_a_second_training_goes_on_from_the_first(taught, tmp_path):
    """Its model is the first one's output; both adapters count in what opens."""
    again = settings_of(taught["lora"]) | {"model": str(taught["qlora"]), "output": str(tmp_path / "two")}
    report = run.finetune(again, **SILENT, progress=False)
    first = report_of(taught["qlora"])["measured"]
    assert report.measured[0]["eval_loss"] == pytest.approx(first[-1]["eval_loss"], abs=1e-4)
    lm = open_model(tmp_path / "two", **SILENT)
    _, held_out = run.examples(run.settings_of(again))
    rows = data.encode(held_out, lm.tokenizer, 32)
    assert held_out_loss(lm.model, rows) == pytest.approx(report.measured[-1]["eval_loss"], abs=1e-4)


def test_fit_counts_the_base(taught, tiny_folder):
    for method in ("lora", "full"):
        found = fit(str(taught[method]), ram="16GB")
        assert found.parameters == fit(str(tiny_folder), ram="16GB").parameters
    assert fit(str(taught["lora"]), ram="16GB").model == "lora"


def test_serving_makes_a_gguf_of_it_once(taught, tmp_path, monkeypatch, tiny_folder):
    from llmnotes.serving import loading

    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path))
    made = loading.gguf_of(taught["lora"])
    assert made.name.startswith("lora-plain-") and made == loading.gguf_of(taught["lora"] / "adapter")
    monkeypatch.setattr(loading, "convert", lambda *_, **how: pytest.fail("it was made again"))
    assert loading.gguf_of(taught["lora"]) == made


# Adapters made elsewhere


TARGETS = ["q_proj", "v_proj", "down_proj"]
KINDS = {
    "plain": {},
    "DoRA": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {r"layers\.1\..*v_proj": 5}, "use_rslora": True},
    "norms": {"modules_to_save": ["norm"]},
    "biases": {"bias": "all"},
    "bias of the update": {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]},
    "rows": {"trainable_token_indices": [1, 5]},
    "table": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "new head": {"modules_to_save": ["lm_head"]},
}


def elsewhere(folder: Path, tied: bool, more: int = 0, **kind) -> tuple[Path, Path, torch.Tensor]:
    """Return (base, adapter, logits of both) as PEFT makes them; `more` tokens were added before."""
    from peft import LoraConfig
    from transformers import LlamaConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=256, **sizes, num_key_value_heads=2, tie_word_embeddings=tied, attention_bias=True)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    if more:
        model.resize_token_embeddings(256 + more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's about tied weights
        made = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": TARGETS} | kind))
        for parameter in made.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        made.save_pretrained(folder / "adapter")
    return folder / "base", folder / "adapter", logits(made.eval())


TIES = ("rows", "table", "head", "new head")  # what changes a matrix that may be two in one


@pytest.mark.parametrize(("kind", "tied"), [*((kind, True) for kind in KINDS), *((kind, False) for kind in TIES)])
def test_every_kind_of_lora_becomes_what_peft_computes(tmp_path, kind, tied):
    _, adapter, expected = elsewhere(tmp_path, tied, **KINDS[kind])
    merge(adapter, tmp_path / "merged")
    found = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)
    assert torch.equal(found, logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")))


def test_tokens_that_were_added_arrive(tmp_path):
    _, adapter, expected = elsewhere(tmp_path, False, more=3, modules_to_save=["embed_tokens", "lm_head"])
    merge(adapter, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.config.vocab_size == 259
    torch.testing.assert_close(logits(model), expected, atol=2e-4, rtol=2e-4)


def test_weights_keep_their_type_and_one_layer_is_in_memory(tmp_path):
    base, adapter, _ = elsewhere(tmp_path, True)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    merge(adapter, tmp_path / "merged", base=tmp_path / "half")
    assert {tensor.dtype for tensor in inspect(tmp_path / "merged").tensors} == {"BF16"}


# GGUF


@pytest.mark.parametrize("kind", ["plain", "patterns"])
def test_a_lora_in_gguf_is_what_llama_cpp_adds(tmp_path, tiny_folder, kind):
    """The base with --lora says what the merged model says, to rounding."""
    base, adapter, _ = elsewhere(tmp_path, True, **KINDS[kind])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, base / name)
    files.convert(base, tmp_path / "base.gguf", type="F32")
    files.convert(adapter, tmp_path / "merged.gguf", type="F32")
    done = files.convert(adapter, tmp_path / "lora.gguf", to="lora")
    assert done.to == "lora" and done.tensors == 12
    prompt, answers = [5, 10, 60, 33, 7], []
    for model, lora in (("base", None), ("merged", None), ("base", tmp_path / "lora.gguf")):
        with opened(tmp_path / f"{model}.gguf", adapter=lora) as engine:
            answers.append(dict(engine.next_tokens(prompt, 20)))
    plain, merged, added = answers
    assert added.keys() == merged.keys() and added == pytest.approx(merged, abs=1e-3)
    assert plain != pytest.approx(merged, abs=1e-2) or plain.keys() != merged.keys()


def test_what_has_no_place_in_a_lora_of_gguf_is_said(tmp_path, taught, tiny_folder):
    def refused(match, source, error=NotConvertible, **how):
        with pytest.raises(error, match=match):
            files.convert(source, tmp_path / "x.gguf", to="lora", **how)

    for kind, match in (("DoRA", "this adapter is DoRA"), ("norms", "norm.*no place"), ("head", "lm_head.*no place")):
        refused(match, elsewhere(tmp_path / kind, True, **KINDS[kind])[1])
    _, head, _ = elsewhere(tmp_path / "tied", True, **KINDS["head"])
    save({name: each for name, each in load(head).items() if "lora_" in name}, head)
    refused("no tensor of its own for lm_head", head)
    refused("stay F32 in a GGUF, not F16; leave --type out", taught["lora"], type="F16")
    done = files.convert(taught["qlora"], tmp_path / "q.gguf", to="lora")
    assert any("in 4 bits" in sentence for sentence in done.lost)
    with pytest.raises(NotConvertible, match="needs to know its base model"):
        conversion.convert(taught["lora"] / "adapter", tmp_path / "x.gguf", to="lora")
    with pytest.raises(NotConvertible, match="Only an adapter that becomes"):
        conversion.convert(tiny_folder, tmp_path / "x.gguf", base=tiny_folder)
    refused("cannot convert a Hugging Face folder to lora", tiny_folder)
    wide = {"hidden_size": 64, "head_dim": 16}
    shutil.copytree(tiny_folder, tmp_path / "wide")
    change(tmp_path / "wide" / "config.json", **wide)
    shutil.copytree(taught["lora"] / "adapter", tmp_path / "other")
    change(tmp_path / "other" / "base.json", name=str(tmp_path / "wide"))
    refused("has the shapes .* give the base that it was trained on", tmp_path / "other", FileBroken)
    change(tmp_path / "other" / "adapter_config.json", lora_alpha="much")
    refused("an alpha that is no number", tmp_path / "other", FileBroken)
    half = tmp_path / "half"
    shutil.copytree(taught["lora"] / "adapter", half)
    tensors = load(half)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save(tensors, half)
    refused("lacks one of the two matrices", half, FileBroken)


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def load(folder: Path) -> dict:
    return load_file(folder / "adapter_model.safetensors")


def save(tensors: dict, folder: Path) -> None:
    save_file(tensors, folder / "adapter_model.safetensors")


# What cannot be merged


def test_what_cannot_be_merged_is_one_sentence(taught, tmp_path, tiny_folder, monkeypatch):
    count = iter(range(100))

    def refused(error, match, base=None, spoil=None, **config):
        copy = tmp_path / f"copy{next(count)}"
        shutil.copytree(taught["lora"] / "adapter", copy)
        change(copy / "adapter_config.json", **config)
        if spoil:
            spoil(copy)
        with pytest.raises(error, match=match) as caught:
            merge(copy, tmp_path / "merged", base)
        assert "\n" not in str(caught.value) and not (tmp_path / "merged").exists()

    refused(AdapterUnfit, "starts from 'pissa', which changes the base", init_lora_weights="pissa")
    refused(AdapterUnfit, "cannot|does not fit its base model", peft_type="NOTHING")
    refused(AdapterUnfit, "does not fit its base model", r=5)
    refused(AdapterUnfit, "does not fit its base model", target_modules=["no_such_layer"])
    refused(ModelNotFound, r"to a model that is not here: .*merge both: llmnotes merge .* --base MODEL", base="./gone")
    refused(FileBroken, "does not say which model it adapts", spoil=lambda copy: change(copy / "base.json", name=None))
    refused(ModelBroken, "is an adapter to an adapter, and so on 8 times", spoil=lambda copy: named(copy, copy))
    refused(AdapterUnfit, "numbers of .* that are not finite", spoil=not_finite)
    refused(AdapterUnfit, "lacks weights", spoil=lambda copy: save(dict(list(load(copy).items())[1:]), copy))
    packed = tmp_path / "packed"
    shutil.copytree(tiny_folder, packed)
    change(packed / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    refused(AdapterUnfit, "packed is quantized .*GPTQ, 4 bits.*; give the folder", base=packed)
    refused(ModelNotFound, "is a file; give the folder", base=tiny_folder / "model.safetensors")
    shutil.copytree(tiny_folder, tmp_path / "renamed")
    tensors = load_file(tmp_path / "renamed" / "model.safetensors")
    renamed = {name.replace("q_proj", "query"): each for name, each in tensors.items()}
    save_file(renamed, tmp_path / "renamed" / "model.safetensors")
    refused(AdapterUnfit, "q_proj.*, which its base stores under other names", base=tmp_path / "renamed")
    _, biased, _ = elsewhere(tmp_path / "biased", True, lora_bias=True)  # down_proj has no bias to add to
    with pytest.raises(AdapterUnfit, match="cannot be merged into .*down_proj .*has no bias.*; use it with PEFT"):
        merge(biased, tmp_path / "merged")
    with pytest.raises(AdapterUnfit, match="holds no adapter; give the output of"):
        merge(tiny_folder, tmp_path / "merged")

    def pickled(copy):
        (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")

    refused(AdapterUnfit, "has its weights in a pickle, which is not opened", spoil=pickled)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)
        refused(MissingPart, r"peft is missing; bring it with: .*peft>=")
    (tmp_path / "prompts").mkdir()
    prompts = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_folder),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    )
    prompts.save_pretrained(tmp_path / "prompts")
    with pytest.raises(AdapterUnfit, match="adds tokens to the prompt"):
        merge(tmp_path / "prompts", tmp_path / "merged", tiny_folder)


def named(copy: Path, base: Path) -> None:
    change(copy / "base.json", name=str(base))


def not_finite(copy: Path) -> None:
    tensors = load(copy)
    next(iter(tensors.values()))[0, 0] = torch.nan
    save(tensors, copy)
