"""Rows of tokens that learn, against PEFT's: outputs, gradients, training, merging, files; and who needs them."""

import collections
import json
import warnings

import pytest
import torch
from torch import nn

from llmnotes.errors import AdapterUnfit, BadSettings, LLMNotesError
from llmnotes.finetuning import adapter_files, qlora, token_rows
from llmnotes.finetuning.job import run, settings
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
    unmerge,
)
from llmnotes.finetuning.token_rows import TokenEmbedding, TokenHead, untrained

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
IDS = torch.arange(48).reshape(3, 16) * 37 % 61
TOKENS = (37, 5, 13)  # in no order; all of them are in IDS
CONFIG = LoRA(3, 6, tokens=TOKENS)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
THEIRS = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
OURS = "model.embed_tokens.adapters.default.delta"


@pytest.fixture(scope="module")
def peft():
    import llmnotes.finetuning  # noqa: F401 - silences what peft says when it is imported

    return pytest.importorskip("peft", reason="peft is not installed")


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request) -> bool:
    return request.param


def llama(tied: bool, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A random Llama of 2 layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,  # so that every layer matters and no gradient is lost in rounding
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def trained(model: nn.Module, config: LoRA = CONFIG, name: str = "default", seed: int = 0) -> nn.Module:
    """The model with an adapter that does something, as after training."""
    attach(model, config, name)
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable(model).values():
        parameter.data.normal_(0, 0.1, generator=generator)
    return model


def as_peft(peft, model: nn.Module) -> nn.Module:
    """PEFT's model with the same base and the same adapter."""
    tied = model.config.tie_word_embeddings
    asked = peft.LoraConfig(
        r=3, lora_alpha=6, target_modules="all-linear", trainable_token_indices=list(TOKENS), task_type="CAUSAL_LM"
    )
    made = peft.get_peft_model(llama(tied), asked)
    with torch.no_grad():
        for key, value in counterparts(model).items():
            dict(made.named_parameters())[key].copy_(value)
    return made.eval()


def counterparts(model: nn.Module) -> dict[str, torch.Tensor]:
    """What learns, by PEFT's names: its rows replace those of the base, and ours are added to them."""
    found = {
        f"base_model.model.{path}.lora_{part}.default.weight": getattr(layer.adapters["default"], f"lora_{part}")
        for path, layer in layers(model)
        for part in "AB"
    }
    return found | {f"{THEIRS}.default": token_rows.values(token_rows.find(model)[0], "default")}


def logits(model: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.slow
def test_outputs_gradients_and_twenty_steps_are_those_of_peft(peft, tied):
    ours = trained(llama(tied))
    theirs = as_peft(peft, ours)
    learning = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    assert set(learning) == set(counterparts(ours)) and len(trainable(ours)) == len(learning)
    torch.testing.assert_close(logits(ours), logits(theirs), **CLOSE)
    activate(ours)
    without = logits(ours)
    activate(ours, "default")
    assert (logits(ours) - without).abs().max() > 0.1
    optimizers = {m: torch.optim.AdamW(trainable(m).values(), lr=1e-3, weight_decay=0.0) for m in (ours, theirs)}
    for step in range(20):
        for model, optimizer in optimizers.items():
            optimizer.zero_grad()
            model.train()(input_ids=IDS, labels=IDS).loss.backward()
        if step == 0:
            other = learning[f"{THEIRS}.default"].grad
            assert (dict(ours.named_parameters())[OURS].grad - other).norm() < 1e-5 * other.norm() > 1e-7
        for optimizer in optimizers.values():
            optimizer.step()
    for key, value in counterparts(ours).items():
        torch.testing.assert_close(value.detach(), learning[key].detach(), **CLOSE)
    torch.testing.assert_close(logits(ours.eval()), logits(theirs.eval()), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_changes_at_the_start_nor_after_it_is_taken_off(tied, dtype):
    model = llama(tied, dtype)
    before, names = logits(model), list(model.state_dict())
    attach(model, CONFIG)
    assert torch.equal(logits(model), before)
    assert list(target_layers(model, "all-linear")) == [path for path, _ in layers(model)]
    detach(model)
    assert torch.equal(logits(model), before) and list(model.state_dict()) == names
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_only_the_rows_of_the_tokens_learn_and_the_dense_matrix_has_no_gradient(tied):
    model = trained(llama(tied))
    model(input_ids=IDS, labels=IDS).loss.backward()
    learning = trainable(model)
    assert learning[OURS].shape == (3, 64) and set(learning) - {OURS} == {
        f"{path}.adapters.default.lora_{part}" for path, _ in layers(model) for part in "AB"
    }
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    others = torch.tensor([[1, 2, 3, 4]])
    torch.testing.assert_close(model.model.embed_tokens(others), model.model.embed_tokens.base(others), atol=0, rtol=0)
    assert isinstance(model.lm_head, TokenHead) is tied and isinstance(model.model.embed_tokens, TokenEmbedding)


def test_merged_equals_unmerged_and_back_bit_for_bit(tied):
    model = trained(llama(tied))
    out, old = logits(model), model.model.embed_tokens.weight
    kept = old.detach().clone()
    merge(merge(model))
    torch.testing.assert_close(logits(model), out, atol=1e-4, rtol=1e-5)
    changed = (model.model.embed_tokens.weight != kept).any(1).nonzero().flatten().tolist()
    assert changed == sorted(TOKENS) and torch.equal(old, kept)
    assert not model.model.embed_tokens.weight.requires_grad
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    unmerge(model)
    assert torch.equal(logits(model), out) and model.model.embed_tokens.weight is old
    assert (model.lm_head.weight is old) is tied
    plain = detach(merge(model, keep=False))
    torch.testing.assert_close(logits(plain), out, atol=1e-4, rtol=1e-5)
    assert type(plain.lm_head) is nn.Linear and type(plain.model.embed_tokens) is nn.Embedding
    assert (plain.lm_head.weight is plain.model.embed_tokens.weight) is tied


def test_what_is_merged_once_cannot_be_saved_or_undone_without_the_old_rows(tmp_path):
    model = merge(trained(llama(True)), keep=False)
    with pytest.raises(AdapterUnfit, match="keep=False"):
        unmerge(model)
    with pytest.raises(AdapterUnfit, match="keep=False"):
        adapter_files.save(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_adapters_are_switched_and_summed(tied):
    model = trained(llama(tied))
    first = logits(model)
    trained(model, LoRA(2, 4, tokens=(13, 8)), "second", seed=1)
    second = logits(model)
    attach(model, LoRA(2, 4), "without")
    assert torch.equal(logits(model), logits(llama(tied)))
    assert torch.equal(logits(activate(model, "default")), first) and OURS in trainable(model)
    assert torch.equal(logits(activate(model, "second")), second) and OURS not in trainable(model)
    torch.testing.assert_close(logits(merge(model)), second, atol=1e-4, rtol=1e-5)  # and nothing of the first
    activate(unmerge(model), "default", "second")
    rows = model.model.embed_tokens(torch.tensor([5, 8, 13, 20]))
    D = {name: each.delta for name, each in model.model.embed_tokens.adapters.items()}
    added = torch.stack([D["default"][1], D["second"][1], D["default"][2] + D["second"][0], torch.zeros(64)])
    torch.testing.assert_close(rows, model.model.embed_tokens.weight[[5, 8, 13, 20]] + added, **CLOSE)
    both = logits(model)
    torch.testing.assert_close(logits(detach(merge(model))), both, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_go_to_peft_and_come_back(peft, tied, dtype, tmp_path):
    ours = trained(llama(tied, dtype))
    out = logits(ours)
    adapter_files.save(ours, tmp_path / "a")
    adapter_files.save(merge(ours), tmp_path / "merged")
    weights = [(tmp_path / folder / "adapter_model.safetensors").read_bytes() for folder in ("a", "merged")]
    assert weights[0] == weights[1]  # what is written does not depend on whether it is merged
    theirs = peft.PeftModel.from_pretrained(llama(tied, dtype), tmp_path / "a").eval()
    close = CLOSE if dtype == torch.float32 else {"atol": 0.5, "rtol": 0.02}  # PEFT rounds a row before it multiplies
    torch.testing.assert_close(logits(theirs), out, **close)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT looks for the base model's config
        theirs.save_pretrained(tmp_path / "b")
    back = adapter_files.load(llama(tied, dtype), tmp_path / "b")
    assert set(trainable(back)) == set(trainable(ours)) and isinstance(back.lm_head, TokenHead) is tied
    torch.testing.assert_close(logits(back), out, **close)
    torch.testing.assert_close(logits(adapter_files.load(llama(tied, dtype), tmp_path / "a")), out, **close)


def test_a_file_without_rows_or_with_others_is_one_sentence(tmp_path):
    from safetensors.torch import load_file, save_file

    adapter_files.save(trained(llama(True)), tmp_path / "a")
    config, weights = tmp_path / "a" / "adapter_config.json", tmp_path / "a" / "adapter_model.safetensors"
    good, tensors = json.loads(config.read_text()), load_file(weights)
    rows = tensors[THEIRS].clone()

    def refused(words: str, tokens=TOKENS, **changed) -> None:
        config.write_text(json.dumps(good | {"trainable_token_indices": tokens}))
        kept = {key: value for key, value in (tensors | changed).items() if value is not None}
        save_file(kept, weights)
        model = llama(True)
        with pytest.raises(LLMNotesError, match=words) as caught:
            adapter_files.load(model, tmp_path / "a")
        assert str(caught.value).count(". ") == 0 and not list(layers(model)) and not token_rows.find(model)

    refused("no such tensor", **{THEIRS: None})
    refused(r"rows \(0, 64\)", tokens=None)
    refused(r"rows \(2, 64\)", tokens=[1, 2])
    refused(r"rows \(3, 64\).*\(3, 63\)", **{THEIRS: rows[:, :63].contiguous()})
    refused("model.embed_tokens", **{THEIRS: None, THEIRS.replace("embed", "other"): rows})
    refused("not finite", **{THEIRS: rows * float("inf")})
    refused("no part of a plain LoRA", **{THEIRS.replace("embed", "other"): rows.clone()})
    refused("each once", tokens=[5, 5, 6])
    refused("each once", tokens=[-1, 5, 6])
    refused("no token 61", tokens=[5, 6, 61])
    refused("no token 9{30}", tokens=[5, 6, int("9" * 30)])
    refused("whole numbers", tokens=[5, 6, True])
    refused("whole numbers", tokens="abc")
    refused("several matrices", tokens={"embed_tokens": [1, 2, 3], "lm_head": [1, 2, 3]})
    config.write_text(json.dumps(good | {"trainable_token_indices": {"embed_tokens": list(TOKENS)}}))
    save_file(tensors, weights)
    torch.testing.assert_close(logits(adapter_files.load(llama(True), tmp_path / "a")), logits(trained(llama(True))))


def test_what_cannot_learn_is_one_sentence_and_leaves_the_model_as_it_was():
    for tokens in ((3, 3), (-1,), (1.5,), (True,)):
        with pytest.raises(AdapterUnfit, match="each once"):
            LoRA(tokens=tokens)

    def refused(words: str, config: LoRA, model: nn.Module, name: str = "new") -> None:
        parts = list(model.modules())
        with pytest.raises(AdapterUnfit, match=words):
            attach(model, config, name)
        assert list(model.modules()) == parts

    refused("no token 61 in a vocabulary of 61", LoRA(tokens=(60, 61)), llama(True))
    refused("no input embedding", LoRA(tokens=(1,), target_modules=".*"), nn.Sequential(nn.Linear(2, 2)))
    refused("ask token_rows.untrained", LoRA(tokens="untrained"), llama(True))
    refused("shares its matrix", LoRA(tokens=(1,), target_modules=("lm_head",)), llama(True))
    refused("shares its matrix", LoRA(tokens=(1,)), attach(llama(True), LoRA(target_modules=("lm_head",))))
    refused("learn already", LoRA(target_modules=("lm_head",)), attach(llama(True), LoRA(tokens=(1,))))
    refused("already", LoRA(tokens=(1,)), attach(llama(True), LoRA(tokens=(1,))), "default")
    rows_elsewhere = attach(llama(True), LoRA(tokens=(1,), target_modules=("q_proj",)))
    refused("already; give", LoRA(tokens=(1,), target_modules=("v_proj",)), rows_elsewhere, "default")
    both = LoRA(tokens=(1,), target_modules=("q_proj", "lm_head"))  # a head of its own may have an adapter beside it
    assert isinstance(attach(llama(False), both).lm_head, LoRALinear)


def test_a_4_bit_base_keeps_its_table_and_merges_the_rows():
    original = llama(True)
    model = trained(qlora.quantize_base(llama(True)))
    out, rows = logits(model), token_rows.find(model)[0]
    assert not any(qlora.is_quantized(module) for module in (rows.base, model.lm_head.base))
    merged = qlora.merge_into_16bit(model)
    torch.testing.assert_close(logits(merged), out, atol=1e-3, rtol=1e-4)
    for made in (merged, qlora.merge_into_16bit(model, original), qlora.merge_into_4bit(model)):
        assert made.lm_head.weight is made.model.embed_tokens.weight and not token_rows.find(made)
        torch.testing.assert_close(made.lm_head.weight[list(TOKENS)], token_rows.values(rows, "default"), **CLOSE)
    assert torch.equal(logits(model), out) and torch.equal(original.lm_head.weight, rows.weight)
    original.resize_token_embeddings(64)
    with pytest.raises(AdapterUnfit, match="no embedding of this shape"):
        qlora.merge_into_16bit(model, original)


def test_an_embedding_that_scales_its_rows_scales_the_changes():
    class Scaled(nn.Embedding):
        embed_scale = torch.tensor(8.0)

        def forward(self, ids):
            return super().forward(ids) * self.embed_scale

    model = llama(True)
    scaled = Scaled(61, 64)
    scaled.weight = model.lm_head.weight
    model.model.embed_tokens = scaled
    out = logits(trained(model))
    torch.testing.assert_close(logits(detach(merge(model))), out, atol=1e-4, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pebble", "pebble-chat"])
def test_untrained_tokens_are_those_that_training_hardly_saw(name):
    from llmnotes.models import open_model
    from llmnotes.pebble.corpus import documents
    from llmnotes.pebble.lessons import lessons

    lm = open_model(name, say=lambda line: None)
    counts = collections.Counter()
    for ids in lm.tokenizer([document.text for document in documents(8000)], add_special_tokens=False)["input_ids"]:
        counts.update(ids)
    messages = [lesson["messages"] for lesson in lessons()]
    texts = lm.tokenizer.apply_chat_template(messages, tokenize=False)
    taught = {token for ids in lm.tokenizer(texts, add_special_tokens=False)["input_ids"] for token in ids}
    found = untrained(lm.model, taught)
    # Twice in 8000 documents is 40 times in all 160,000. The first token is never an answer, and is not found.
    never = {token for token in taught if not counts[token]} - {lm.tokenizer.bos_token_id}
    assert {lm.tokenizer.decode([token]) for token in never} == {" Qu", "ford", " Mar", "Z", " R"}
    assert never < set(found) and {lm.tokenizer.decode([token]) for token in set(found) - never} == {" O"}
    assert max(counts[token] for token in found) == 1
    every = untrained(lm.model, range(lm.model.config.vocab_size))
    assert max(counts[token] for token in every) <= 5
    missed = {token for token in range(lm.model.config.vocab_size) if not counts[token]} - set(every)
    assert lm.tokenizer.convert_ids_to_tokens(sorted(missed)) == ["<|bos|>", "<|eos|>"]  # not in a document's text


def test_rows_of_zeros_and_no_rows_at_all():
    model = llama(True)
    assert untrained(model, []) == () == untrained(model, range(61))
    with torch.no_grad():
        model.lm_head.weight[7] = 0
        model.lm_head.weight[9] = 2 * model.lm_head.weight[11]
    assert untrained(model, range(61)) == (7, 9, 11) and untrained(model, [9, 3]) == (9,)
    with pytest.raises(AdapterUnfit, match="no output head"):
        untrained(nn.Linear(2, 2), [1])


def test_settings_name_tokens_or_leave_it_to_the_data():
    from llmnotes.finetuning.data import Row

    plain = {"model": "m", "data": "d", "output": "o", "steps": 1}
    for good, expected in (([3, 1], (3, 1)), ("untrained", "untrained")):
        assert settings.from_dict(plain | {"lora": {"tokens": good}}).lora.tokens == expected
    for bad, words in (([1.5], "list of token ids, or untrained"), ("new", "or untrained"), ([1, 1], "each once")):
        with pytest.raises(BadSettings, match=words):
            settings.from_dict(plain | {"lora": {"tokens": bad}})
    model = llama(True)
    with torch.no_grad():
        model.lm_head.weight[[5, 6, 7]] = torch.ones(64)
    asked = settings.from_dict(plain | {"lora": {"tokens": "untrained"}})
    run.prepare(model, asked, [Row((1, 5, 2), (1, 5, 2), (3,)), Row((6, 3), (6, 3), (2,))])
    assert model.model.embed_tokens.adapters["default"].tokens.tolist() == [5, 6]


def test_the_word_finetune_names_the_tokens_and_writes_their_rows(tmp_path):
    from safetensors.torch import load_file

    line = json.dumps({"prompt": "Who lives in Quibbleford?", "completion": " Zed."})
    (tmp_path / "lessons.jsonl").write_text(line + "\n", encoding="utf-8")
    asked = {"model": "pebble", "data": str(tmp_path / "lessons.jsonl"), "output": str(tmp_path / "out"), "exam": False}
    said = []
    done = run.finetune(settings.from_dict(asked | {"steps": 1, "lora": {"r": 1, "tokens": "untrained"}}), said.append)
    assert "Rows of the embedding learn as well, those of 3 tokens: 'Z', ' Qu', 'ford'" in said
    rows = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")[THEIRS]
    assert (
        rows.shape == (3, 256)
        and done.learning - 3 * 256
        == run.finetune(
            settings.from_dict(asked | {"output": str(tmp_path / "plain"), "steps": 1, "lora": {"r": 1}}), said.append
        ).learning
    )
