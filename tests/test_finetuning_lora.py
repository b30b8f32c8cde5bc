"""LoRA against PEFT with the same weights: outputs, gradients, training, merging, and files in both directions."""

import copy
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from llmnotes.errors import AdapterUnfit, CannotWrite, FileBroken, FileUnreadable, LLMNotesError, NotQuantizable
from llmnotes.finetuning import adapter_files
from llmnotes.finetuning.lora import (
    LoRA,
    LoRALinear,
    activate,
    attach,
    detach,
    layers,
    merge,
    target_layers,
    trainable,
    unadapted,
    unmerge,
    update,
)
from llmnotes.finetuning.qlora import quantize_base

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
IDS = torch.arange(48).reshape(3, 16) * 37 % 61
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
CONFIGS = {
    "all linear": LoRA(4, 8),
    "strong": LoRA(3, 24),
    "rank-stabilized": LoRA(16, 8, rank_stabilized=True),
    "endings": LoRA(2, 4, target_modules=("q_proj", "v_proj")),
    "longer endings": LoRA(
        2, 4, target_modules=("self_attn.o_proj", "layers.1.mlp.up_proj", "model.layers.0.mlp.down_proj")
    ),
    "pattern": LoRA(2, 4, target_modules=r".*\.1\.(self_attn\.[qk]_proj|mlp\.down_proj)"),
    "head": LoRA(2, 4, target_modules=("lm_head", "q_proj")),
    "dropout": LoRA(4, 8, dropout=0.3),
}


@pytest.fixture(scope="module")
def peft():
    import llmnotes.finetuning  # noqa: F401 - silences what peft says when it is imported

    return pytest.importorskip("peft", reason="peft is not installed")


def llama(hidden: int = 32, inner: int = 48) -> nn.Module:
    """A random Llama of 2 layers, with biases in its attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        initializer_range=0.2,  # so that every layer matters and no gradient is lost in rounding
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.3) if name.endswith("bias") else None
    return model.eval()


def trained(config: LoRA, seed: int = 0, name: str = "default", model: nn.Module | None = None) -> nn.Module:
    """A Llama with an adapter that does something, as after training."""
    model = attach(model or llama(), config, name, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for _, layer in layers(model):
        if name in layer.adapters:
            layer.adapters[name].lora_B.data.normal_(0, 0.1, generator=generator)
    return model


def as_peft(peft, model: nn.Module, names: tuple[str, ...] = ("default",)) -> nn.Module:
    """PEFT's model with the same base and the same adapters."""
    made = None
    for name in names:
        config = next(layer.adapters[name].config for _, layer in layers(model) if name in layer.adapters)
        wanted = config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules)
        theirs = peft.LoraConfig(
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=wanted,
            use_rslora=config.rank_stabilized,
            task_type="CAUSAL_LM",
        )
        made = peft.get_peft_model(llama(), theirs, name) if made is None else made
        if name not in made.peft_config:
            made.add_adapter(name, theirs)
    with torch.no_grad():
        for key, value in counterparts(model).items():
            dict(made.named_parameters())[key].copy_(value)
    return made.eval()


def counterparts(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of our adapters by the names that PEFT has for them."""
    return {
        f"base_model.model.{path}.lora_{part}.{name}.weight": getattr(adapter, f"lora_{part}")
        for path, layer in layers(model)
        for name, adapter in layer.adapters.items()
        for part in "AB"
    }


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def loss(model: nn.Module) -> torch.Tensor:
    return model(input_ids=IDS, labels=IDS).loss


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_outputs_gradients_and_twenty_steps_are_those_of_peft(peft, config):
    ours = trained(config)
    theirs = as_peft(peft, ours)
    same = {name for name, p in theirs.named_parameters() if p.requires_grad}
    assert same == set(counterparts(ours)) and len(trainable(ours)) == len(same)
    torch.testing.assert_close(logits(ours), logits(theirs), **CLOSE)
    assert (logits(ours) - logits(llama())).abs().max() > 1e-3
    optimizers = {}
    for model in (ours, theirs):
        model.train()
        wanted = [p for p in model.parameters() if p.requires_grad]
        optimizers[model] = torch.optim.AdamW(wanted, lr=1e-3)
    for step in range(20):
        for model, optimizer in optimizers.items():
            optimizer.zero_grad()
            torch.manual_seed(step)  # dropout drops the same
            loss(model).backward()
        if step == 0:
            for key, value in counterparts(ours).items():
                other = dict(theirs.named_parameters())[key].grad
                assert (value.grad - other).norm() < 1e-5 * other.norm() > 1e-7
        for optimizer in optimizers.values():
            optimizer.step()
    for key, value in counterparts(ours).items():
        mine, other = optimizers[ours].state[value], dict(theirs.named_parameters())[key]
        torch.testing.assert_close(value, other, **CLOSE)
        for part in ("exp_avg", "exp_avg_sq"):
            peer = optimizers[theirs].state[other][part]
            torch.testing.assert_close(mine[part] / peer.abs().max(), peer / peer.abs().max(), **CLOSE)
    base = dict(llama().named_parameters())
    for name, parameter in detach(ours).named_parameters():
        assert torch.equal(parameter, base[name])  # frozen is frozen


@pytest.mark.slow
def test_the_package_is_light_and_peft_says_nothing(peft):
    light = "import sys, llmnotes.finetuning; assert not {'torch', 'numpy', 'peft'} & set(sys.modules)"
    loud = "; import peft; from transformers import LlamaConfig, LlamaForCausalLM; peft.get_peft_model("
    small = "hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=1, vocab_size=8"
    loud += f"LlamaForCausalLM(LlamaConfig({small})), peft.LoraConfig(target_modules='all-linear'))"
    done = subprocess.run([sys.executable, "-c", light + loud], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_two_adapters_are_switched_and_summed_as_in_peft(peft):
    ours = trained(LoRA(4, 8, target_modules=("q_proj", "up_proj")), 0, "one")
    trained(LoRA(2, 6, target_modules=("v_proj", "up_proj"), rank_stabilized=True), 5, "two", ours)
    theirs = as_peft(peft, ours, ("one", "two"))
    seen = [logits(activate(ours))]
    assert torch.equal(seen[0], logits(llama())) and not trainable(ours)
    for names in (["one"], ["two"], ["one", "two"], ["one"]):
        theirs.base_model.set_adapter(names)
        seen.append(logits(activate(ours, *names)))
        torch.testing.assert_close(seen[-1], logits(theirs), **CLOSE)
        learns = {name for name, p in theirs.named_parameters() if p.requires_grad}
        assert learns == {key for key, p in counterparts(ours).items() if p.requires_grad}
    assert torch.equal(seen[1], seen[4]) and not torch.equal(seen[1], seen[3])
    activate(ours, "one", "two")
    both = logits(ours)
    torch.testing.assert_close(logits(merge(ours)), both, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_new_adapter_changes_no_bit_of_the_output(dtype):
    model = llama().to(dtype)
    before = logits(model)
    attach(model, LoRA(8, 16))
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(merge(model)), before)
    assert {p.dtype for p in trainable(model).values()} == {torch.float32}


@pytest.mark.parametrize("autocast", [False, True])
def test_sixteen_bits_lose_no_more_than_in_peft(peft, autocast):
    exact, ours = trained(LoRA(4, 8)), trained(LoRA(4, 8))
    theirs = as_peft(peft, ours)
    loss(exact).backward()
    for model in (ours, theirs):
        for parameter in model.parameters():
            if not autocast and not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss(model).backward()
    off, peer = 0, 0
    for key, value in counterparts(ours).items():
        right = counterparts(exact)[key].grad
        assert value.grad.dtype == torch.float32
        off += ((value.grad - right) ** 2).sum()
        peer += ((dict(theirs.named_parameters())[key].grad - right) ** 2).sum()
    assert 0 < off < 1.5 * peer


def test_merged_equals_unmerged_and_unmerging_restores_every_bit():
    model = trained(LoRA(4, 8))
    before, base = logits(model), {path: layer.base.weight.clone() for path, layer in layers(model)}
    torch.testing.assert_close(logits(merge(model)), before, **CLOSE)
    assert all(not torch.equal(layer.base.weight, base[path]) for path, layer in layers(model))
    merge(model)  # a second time changes nothing
    torch.testing.assert_close(logits(model), before, **CLOSE)
    for change in (lambda: attach(model, LoRA(), "more"), lambda: activate(model)):
        with pytest.raises(AdapterUnfit, match="unmerge or detach"):
            change()
    unmerge(model)
    assert all(torch.equal(layer.base.weight, base[path]) for path, layer in layers(model))
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(unmerge(model)), before)


def test_merging_for_good_keeps_no_second_copy_and_leaves_a_plain_model(tmp_path):
    model = trained(LoRA(4, 8))
    before = logits(model)
    merge(model, keep=False)
    assert all(layer.kept is None for _, layer in layers(model))
    with pytest.raises(AdapterUnfit, match="keep=False"):
        unmerge(model)
    detach(model)
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in llama().named_parameters()]
    torch.testing.assert_close(logits(model), before, **CLOSE)
    model.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(type(model).from_pretrained(tmp_path / "merged")), before, **CLOSE)


def test_merging_in_sixteen_bits_rounds_once():
    model = trained(LoRA(4, 8)).bfloat16()
    exact = {path: layer.base.weight.float() + update(layer).float() for path, layer in layers(model)}
    merge(model)
    for path, layer in layers(model):
        assert torch.equal(layer.base.weight, exact[path].bfloat16())


@pytest.mark.parametrize("r", [1, 3, 8])
def test_the_rank_of_an_update_is_at_most_r(r):
    for _, layer in layers(trained(LoRA(r, 16))):
        found = update(layer)
        assert found.shape == layer.base.weight.shape
        assert torch.linalg.matrix_rank(found) == r
        torch.testing.assert_close(found, 16 / r * layer.adapters["default"].lora_B @ layer.adapters["default"].lora_A)


def test_the_start_is_that_of_peft_and_follows_the_seed(peft):
    ours, again, other = attach(llama(), LoRA(8)), attach(llama(), LoRA(8)), attach(llama(), LoRA(8), seed=1)
    theirs = peft.get_peft_model(llama(), peft.LoraConfig(target_modules="all-linear"))
    for key, value in counterparts(ours).items():
        assert torch.equal(value, counterparts(again)[key])
        peer = dict(theirs.named_parameters())[key]
        if "lora_A" in key:
            assert not torch.equal(value, counterparts(other)[key])
            assert 0.9 < value.abs().max() * value.shape[1] ** 0.5 <= 1
            assert 0.8 < value.std() / peer.std() < 1.25
        else:
            assert not value.any() and not peer.any()


def test_a_layer_of_any_input_shape():
    layer = trained(LoRA(2, target_modules=("0",)), model=nn.Sequential(nn.Linear(6, 4)))
    weight = layer[0].base.weight + update(layer[0])
    for shape in ((6,), (3, 6), (2, 0, 6), (2, 3, 5, 6)):
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, weight, layer[0].base.bias), **CLOSE)


def test_shared_weights_are_not_merged(tiny_folder):
    from transformers import AutoModelForCausalLM

    model = trained(
        LoRA(2, target_modules=("lm_head", "q_proj")), model=AutoModelForCausalLM.from_pretrained(tiny_folder)
    )
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(AdapterUnfit, match="shares its weight"):
        merge(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda m: attach(m, LoRA(target_modules=("q", "proj"))), "No linear layer fits"),
        (lambda m: attach(m, LoRA(target_modules=("embed_tokens",))), "No linear layer fits"),
        (lambda m: attach(m, LoRA(target_modules="q_proj")), "No linear layer fits"),
        (lambda m: attach(m, LoRA(target_modules="(")), "no regular expression"),
        (lambda m: attach(m, LoRA(), "a.b"), "no name for an adapter"),
        (lambda m: attach(m, LoRA(), "train"), "no name for an adapter"),
        (lambda m: attach(attach(m, LoRA()), LoRA()), "already"),
        (lambda m: activate(attach(m, LoRA()), "other"), "There is no adapter 'other'; the model has default"),
        (lambda m: LoRA(r=0), "r of at least 1"),
        (lambda m: LoRA(dropout=1.0), "dropout from 0"),
        (lambda m: LoRA(alpha=float("nan")), "finite alpha"),
    ],
)
def test_what_cannot_be_is_one_sentence(change, said):
    with pytest.raises(AdapterUnfit, match=re.escape(said)) as caught:
        change(llama())
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_files_written_here_load_in_peft(peft, tmp_path, config):
    model = trained(config)
    adapter_files.save(model, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(llama(), tmp_path / "adapter").eval()
    assert not hasattr(theirs, "missing_keys") or not theirs.missing_keys
    torch.testing.assert_close(logits(theirs), logits(model), **CLOSE)
    assert theirs.peft_config["default"].lora_dropout == config.dropout
    back = adapter_files.load(llama(), tmp_path / "adapter")
    assert torch.equal(logits(back), logits(model))
    with pytest.raises(CannotWrite, match="exists already"):
        adapter_files.save(model, tmp_path / "adapter")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_files_of_peft_load_here_and_come_back(peft, tmp_path, config):
    theirs = as_peft(peft, trained(config))
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    ours = adapter_files.load(llama(), tmp_path / "theirs", "again")
    torch.testing.assert_close(logits(ours), logits(theirs), **CLOSE)
    found = next(layer.adapters["again"].config for _, layer in layers(ours))
    assert (found.r, found.alpha, found.dropout, found.rank_stabilized) == (
        config.r,
        config.alpha,
        config.dropout,
        config.rank_stabilized,
    )
    adapter_files.save(ours, tmp_path / "ours", "again")
    names = ["theirs/adapter_model.safetensors", "ours/adapter_model.safetensors"]
    assert len({(tmp_path / name).read_bytes() for name in names}) == 1


def test_the_settings_name_endings_where_those_say_the_same(tmp_path):
    for name, expected in (("endings", ["q_proj", "v_proj"]), ("pattern", None)):
        adapter_files.save(trained(CONFIGS[name]), tmp_path / name)
        found = json.loads((tmp_path / name / "adapter_config.json").read_text())["target_modules"]
        assert found == (expected or list(target_layers(llama(), CONFIGS[name].target_modules)))
    with pytest.raises(AdapterUnfit, match="no adapter 'other'"):
        adapter_files.save(trained(LoRA()), tmp_path / "other", "other")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "adapter"
    return adapter_files.save(trained(LoRA(4, 8, target_modules=("q_proj", "up_proj"))), path)


def rewritten(folder, target, change):
    """Copy an adapter with its tensors changed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    tensors = change(load_file(folder / "adapter_model.safetensors"))
    save_file({name: value.contiguous() for name, value in tensors.items()}, target / "adapter_model.safetensors")
    return target


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda t: t | {Q: torch.zeros(4, 33)}, "in the shape (4, 33), and this model with r=4 needs (4, 32)"),
        (lambda t: t | {Q: torch.zeros(5, 32)}, "in the shape (5, 32)"),
        (lambda t: {k: v for k, v in t.items() if k != Q}, "lacks one of the two matrices"),
        (lambda t: {}, "lacks one of the two matrices of any layer"),
        (lambda t: {k.replace("layers.1", "layers.7"): v for k, v in t.items()}, "the model does not have"),
        (lambda t: {k.replace("base_model.", ""): v for k, v in t.items()}, "no part of a plain LoRA"),
        (lambda t: t | {"base_model.model.lm_head.weight": torch.zeros(61, 32)}, "no part of a plain LoRA"),
        (lambda t: t | {Q.replace("lora_A", "lora_magnitude_vector"): torch.zeros(32)}, "no part of a plain LoRA"),
        (lambda t: t | {Q: t[Q].to(torch.int32)}, "no part of a plain LoRA"),
        (lambda t: t | {Q: t[Q] * float("nan")}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_one_sentence_and_change_nothing(folder, tmp_path, change, said):
    model = llama()
    with pytest.raises(AdapterUnfit, match=re.escape(said)) as caught:
        adapter_files.load(model, rewritten(folder, tmp_path / "a", change))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not list(layers(model)) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"peft_type": None}, "'None'"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "'pissa'"),
        ({"invented_tomorrow": [1]}, "invented_tomorrow"),
        ({"r": "4"}, "no numbers"),
        ({"r": True}, "no numbers"),
        ({"r": 10**30}, "needs"),
        ({"r": -1}, "at least 1"),
        ({"lora_alpha": 10**400}, "no numbers"),
        ({"lora_alpha": None}, "no numbers"),
        ({"lora_dropout": 1.5}, "dropout"),
    ],
)
def test_other_kinds_of_adapters_are_one_sentence(folder, tmp_path, entry, said):
    shutil.copytree(folder, tmp_path / "a")
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | entry))
    with pytest.raises(AdapterUnfit, match=re.escape(said)) as caught:
        adapter_files.load(llama(), tmp_path / "a")
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_pattern_from_a_file_is_not_run(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "a")
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": "(([a-z_.]+)+)+#"}))
    model = adapter_files.load(llama(), tmp_path / "a")
    assert {path.rpartition(".")[2] for path, _ in layers(model)} == {"q_proj", "up_proj"}


def test_missing_and_pickled_files(folder, tmp_path):
    with pytest.raises(FileUnreadable, match="There is no folder"):
        adapter_files.load(llama(), tmp_path / "nowhere")
    shutil.copytree(folder, tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    with open(weights, "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(AdapterUnfit, match="has an adapter_model.safetensors that is .*; copy it again"):
        adapter_files.load(llama(), tmp_path / "a")
    weights.unlink()
    with pytest.raises(FileUnreadable):
        adapter_files.load(llama(), tmp_path / "a")
    (tmp_path / "a" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(AdapterUnfit, match="pickle"):
        adapter_files.load(llama(), tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text("{")
    with pytest.raises(FileBroken):
        adapter_files.load(llama(), tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").unlink()
    with pytest.raises(FileUnreadable):
        adapter_files.load(llama(), tmp_path / "a")


def test_no_damage_gives_a_traceback(folder, tmp_path):
    generator = torch.Generator().manual_seed(0)
    base, outcomes = llama(), []
    for turn in range(150):
        target = tmp_path / str(turn)
        shutil.copytree(folder, target)
        path = target / ("adapter_config.json" if turn % 3 == 0 else "adapter_model.safetensors")
        data = bytearray(path.read_bytes())
        reach = min(len(data), 1500)  # the header, and a little of the numbers
        for place in torch.randint(reach, (1 + turn % 4,), generator=generator).tolist():
            data[place] = int(torch.randint(256, (), generator=generator))
        path.write_bytes(data[: len(data) - turn % 7 * 3])
        try:
            adapter_files.load(copy.deepcopy(base), target)
            outcomes.append(True)
        except LLMNotesError as error:
            assert "\n" not in str(error)
            outcomes.append(False)
    assert 0 < outcomes.count(True) < 75  # most damage is seen, and not all of it matters


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning")
def test_the_linear_layers_of_gpt_2_are_adapted_merged_and_written_as_peft_does(peft, tmp_path):
    ours = attach(gpt2(), LoRA(2, 4))
    names = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert [path for path, _ in layers(ours)] == [f"transformer.h.{i}.{name}" for i in (0, 1) for name in names]
    theirs = peft.get_peft_model(
        gpt2(), peft.LoraConfig(r=2, lora_alpha=4, target_modules=["c_attn", "c_proj", "c_fc"])
    )
    assert {tuple(p.shape) for p in trainable(ours).values()} == {tuple(p.shape) for p in trainable(theirs).values()}
    with torch.no_grad():
        for layer in (layer for _, layer in layers(ours)):
            layer.adapter().lora_B.normal_(0, 0.1)
    out = ours(IDS).logits
    assert (out - gpt2()(IDS).logits).abs().max() > 0.01
    adapter_files.save(ours, tmp_path / "a")
    opened = peft.PeftModel.from_pretrained(gpt2(), tmp_path / "a").eval()
    torch.testing.assert_close(opened(IDS).logits, out, **CLOSE)
    torch.testing.assert_close(adapter_files.load(gpt2(), tmp_path / "a")(IDS).logits, out, **CLOSE)
    opened.save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "adapter_config.json").read_text())["fan_in_fan_out"] is True
    torch.testing.assert_close(adapter_files.load(gpt2(), tmp_path / "b")(IDS).logits, out, **CLOSE)
    merged = detach(merge(ours))
    torch.testing.assert_close(merged(IDS).logits, out, **CLOSE)
    assert merged.transformer.h[0].mlp.c_fc.weight.shape == (32, 128)
    with pytest.raises(NotQuantizable, match=r"transformer.h.0.attn.c_attn is a Conv1D.*take the method lora"):
        quantize_base(gpt2())


@pytest.mark.parametrize(
    ("kind", "names"),
    [("mixtral", "gate_up_proj"), ("qwen3_moe", "gate_up_proj"), ("llama", "")],
)
def test_the_experts_that_no_adapter_reaches_are_named_with_their_share(kind, names):
    from tests.test_finetuning_packable import tiny

    model = attach(tiny(kind), LoRA(2, 4))
    line = unadapted(model)
    assert bool(line) == bool(names)
    if names:
        experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
        share = experts / sum(p.numel() for p in model.parameters())
        assert line.startswith("No adapter stands beside model.layers.*.mlp.experts.down_proj, model.layers.*.mlp.expe")
        assert f" ({share:.0%} of the model), which hold many" in line and names in line
        assert all("experts" not in path for path, _ in layers(model))
