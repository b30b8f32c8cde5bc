"""The small LLaVA: its parts against transformers, the weights in the box against their card, and what is refused."""

import json
import random
import shutil

import pytest
import torch

from llmnotes.errors import AdapterUnfit, ModelBroken, ModelNotFound, TrainingFailed, UnknownName
from llmnotes.finetuning.train import Plan
from llmnotes.models import open_model
from llmnotes.pebble import exam, score
from llmnotes.vision import accuracy, ask, encoder, load, opening, parts
from llmnotes.vision.pictures import DESCRIBE, KINDS, Scene, describe, draw, questions, scenes
from recipes.vision import training
from recipes.vision.card import in_nf4

CARD = json.loads((opening.WEIGHTS / "card.json").read_text(encoding="utf-8"))
UNSEEN = scenes(60, seed=7, seen=False)
SCENE = UNSEEN[0]
PICTURE = draw(SCENE, random.Random(0))


@pytest.fixture(scope="module")
def llava():
    return load()


@pytest.fixture(scope="module")
def tiny():
    """A LLaVA that has learned nothing: a random encoder and projector before pebble-chat."""
    return opening.join(parts.new_encoder(width=32, layers=3, text_layers=1))


@pytest.fixture(scope="module")
def folder(llava, tmp_path_factory):
    path = tmp_path_factory.mktemp("llava") / "pebble-llava"
    opening.save(*llava, path)
    return path


def read(processor, talk, image=None):
    from llmnotes.vision.asking import messages

    return processor.apply_chat_template(
        messages(talk, image), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


# The parts, against transformers.


def test_the_hand_splice_gives_the_logits_of_transformers(tiny):
    model, processor = tiny
    inputs = read(processor, [("Where is it?", "top left."), ("What colour do you see?", None)], PICTURE)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == parts.TOKENS
    with torch.no_grad():
        expected = model(**inputs).logits
        seen = training.features(model, inputs["pixel_values"])
        assert seen.shape == (1, parts.TOKENS, 32)
        torch.testing.assert_close(training.logits(model, inputs["input_ids"], seen), expected, atol=1e-5, rtol=0)
        other = training.logits(model, inputs["input_ids"], seen.flip(1))
    assert (other - expected).abs().max() > 1e-3  # the order of the patches counts


def test_the_features_are_those_of_the_last_layer_but_one(tiny):
    """They are computed again with all layers but the last."""
    model, processor = tiny
    images = processor.image_processor([PICTURE], return_tensors="pt")["pixel_values"]
    tower = model.model.vision_tower
    with torch.no_grad():
        hidden = tower.pre_layrnorm(tower.embeddings(images))
        for layer in tower.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        torch.testing.assert_close(training.features(model, images), hidden[:, 1:], atol=1e-5, rtol=0)


def test_the_image_processor_and_the_bytes_of_training_agree():
    drawn = parts.pixels([SCENE], random.Random("agree"))
    image = draw(SCENE, random.Random("agree"))
    found = parts.image_processor()(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(parts.scaled(drawn), found, atol=1e-6, rtol=0)
    assert found.min() >= -1 and found.max() <= 1
    larger = parts.image_processor()(image.resize((200, 130)), return_tensors="pt")["pixel_values"]
    assert larger.shape == found.shape


def test_training_reads_the_tokens_that_the_chat_template_writes(tiny):
    _, processor = tiny
    talk = [(DESCRIBE, describe(SCENE)), ("Where is it?", "top left."), ("How many are there?", "two.")]
    for image in (PICTURE, None):
        ids, labels = training.encode(talk, processor.tokenizer, picture=image is not None)
        asked = read(processor, [*talk[:-1], (talk[-1][0], None)], image)["input_ids"][0].tolist()
        assert ids[: len(asked)] == asked
        learned = processor.tokenizer.decode([label for label in labels if label >= 0])
        assert learned == "".join(f" {answer}<|end|>" for _, answer in talk)


def test_without_a_picture_the_template_is_pebbles_own(tiny):
    _, processor = tiny
    pebble = open_model("pebble-chat", say=lambda line: None)
    talk = [("Hello!", "Good day."), ("What is the opposite of hot?", None)]
    flat = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day."}]
    flat.append({"role": "user", "content": "What is the opposite of hot?"})
    wanted = pebble.tokenizer.apply_chat_template(flat, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert read(processor, talk)["input_ids"][0].tolist() == wanted["input_ids"]


def test_before_any_training_the_text_mode_is_pebble_chat_to_the_bit(tiny):
    model, processor = tiny
    pebble = open_model("pebble-chat", say=lambda line: None)
    ids = read(processor, [("What is the opposite of hot?", None)])["input_ids"]
    with torch.no_grad():
        mine, own = model(input_ids=ids).logits, pebble.model(ids).logits
    assert torch.equal(mine[..., : own.shape[-1]], own)
    padding = processor.tokenizer.pad_token_id  # the picture's own token is as unlikely as padding
    torch.testing.assert_close(mine[..., -1], mine[..., padding])


def test_captions_end_where_clip_looks(tiny):
    tokenizer = parts.tokenizer(image=False)
    found = parts.read_captions(["One red ball at the top left.", "Four."], tokenizer)
    assert [int(row.sum()) for row in found["attention_mask"]] == [int((ids != 2).sum()) for ids in found["input_ids"]]
    assert all(int((ids == 1).sum()) == 1 for ids in found["input_ids"])
    clip = parts.new_encoder(width=32, layers=1, text_layers=1)
    alone = parts.read_captions(["Four."], tokenizer)
    with torch.no_grad():
        both, one = clip.get_text_features(**found), clip.get_text_features(**alone)
    both, one = (getattr(out, "pooler_output", out) for out in (both, one))
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=0)  # padding changes nothing


# The weights in the box.


def test_the_card_is_generated_from_its_figures():
    from recipes.vision import card

    assert (opening.WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8") == card.text(CARD)


def test_the_card_holds_the_bar():
    marks = CARD["stages"]["2"]
    assert all(marks[kind] >= 0.9 for kind in KINDS), marks
    assert CARD["pictures"] == 300 and marks["exam"] >= 0.9
    assert all(seconds < 600 for seconds in CARD["seconds"].values())
    assert set(CARD["stages"]["1"]) == {*KINDS, "exam"}
    files = list(opening.WEIGHTS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) < 6e6


@pytest.mark.slow
def test_unseen_pictures_are_answered(llava):
    marks = accuracy(*llava, UNSEEN, seed=3)
    assert all(of == 60 for _, of in marks.values())
    assert all(right / of >= 0.9 for right, of in marks.values()), marks


def test_the_picture_is_what_is_answered_about(llava):
    """Pictures that are exchanged get the other picture's answers."""
    red, blue = Scene(1, "red", "ball", "top left"), Scene(4, "blue", "star", "bottom right")
    for scene in (red, blue):
        image = draw(scene, random.Random(1))
        for _, question, answer in questions(scene):
            assert ask(*llava, image, question) == f"{answer}."


@pytest.mark.slow
def test_a_chat_about_one_picture(llava):
    right = 0
    for place, scene in enumerate(UNSEEN[:10]):
        image, history = draw(scene, random.Random(place)), []
        for _, question, answer in [("", DESCRIBE, describe(scene)[:-1]), *questions(scene, random.Random(place))]:
            said = ask(*llava, image, question, history)
            history.append((question, said))
            right += said == f"{answer}."
    assert right >= 45  # of 50


@pytest.mark.slow
def test_text_mode_keeps_what_pebble_knew(llava):
    asked = exam()[::5]
    answers = [ask(*llava, None, question.text) for question in asked]
    assert score(lambda _: answers, asked, chat=True).accuracy >= 0.9


def test_stage_1_is_another_model_and_its_language_model_is_untouched():
    first = load(stage=1)[0]
    pebble = open_model("pebble-chat", say=lambda line: None).model
    for name, value in pebble.model.state_dict().items():
        own = first.model.language_model.state_dict()[name]
        assert torch.equal(own[: len(value)], value), name
    second = load(stage=2)[0]
    assert not torch.equal(
        first.model.multi_modal_projector.linear_1.weight, second.model.multi_modal_projector.linear_1.weight
    )
    tower = first.model.vision_tower.state_dict()
    assert all(torch.equal(tower[name], value) for name, value in second.model.vision_tower.state_dict().items())
    assert all(torch.equal(tower[name], value) for name, value in encoder()[0].vision_model.state_dict().items())


def test_clip_finds_the_true_sentence():
    from recipes.vision.card import retrieval

    clip, _, tokenizer = encoder()
    assert retrieval(clip, tokenizer, UNSEEN) > 0.5  # of 576 sentences


# Folders.


@pytest.mark.slow
def test_a_saved_folder_gives_the_same_answers_through_auto_classes(llava, folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    for place, scene in enumerate(UNSEEN[:4]):
        image = draw(scene, random.Random(place))
        for _, question, _ in questions(scene):
            assert ask(model, processor, image, question) == ask(*llava, image, question)
    inputs = read(processor, [("Where is it?", None)], PICTURE)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, llava[0](**inputs).logits)
    opened = load(folder)
    assert ask(*opened, PICTURE, DESCRIBE) == ask(*llava, PICTURE, DESCRIBE)


@pytest.mark.slow
def test_in_nf4_it_answers_nearly_as_well():
    model, processor = in_nf4(opening.NAME)
    assert sum(type(module).__name__ == "Linear4bit" for module in model.modules()) > 28
    marks = accuracy(model, processor, UNSEEN[:30], seed=3)
    assert sum(right for right, _ in marks.values()) / 120 >= 0.8, marks


@pytest.mark.parametrize("name", ["pebble", "pebble-chat"])
def test_a_model_without_eyes_is_refused(name):
    with pytest.raises(ModelNotFound, match="has no encoder for pictures; take pebble-llava"):
        load(name)


def test_a_folder_without_a_llava_is_refused(tiny_folder, tmp_path):
    with pytest.raises(ModelNotFound, match="holds no LLaVA but another model"):
        load(tiny_folder)
    with pytest.raises(ModelNotFound):
        load(tmp_path / "nothing")
    with pytest.raises(ModelBroken, match="has no config.json"):
        load(tmp_path)
    for text in ("[]", "{", "[" * 100_000, '{"architectures": ["LlavaForConditionalGeneration"]}'):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises((ModelBroken, ModelNotFound)) as caught:
            load(tmp_path)
        assert str(caught.value).count(".\n") == 0 and str(caught.value).endswith(".")


def test_an_unknown_stage_is_refused():
    with pytest.raises(UnknownName, match="There is no stage 3"):
        load(stage=3)


def test_damaged_weights_are_refused(tmp_path):
    copy = tmp_path / "weights"
    shutil.copytree(opening.WEIGHTS, copy)
    whole = (copy / "projector_2.safetensors").read_bytes()
    for broken in (whole[:-10], b"", b"\xff" * 200, (copy / "encoder.safetensors").read_bytes()):
        (copy / "projector_2.safetensors").write_bytes(broken)
        with pytest.raises(ModelBroken, match="python -m recipes.vision"):
            opening.assemble(2, copy)
    (copy / "projector_2.safetensors").write_bytes(whole)
    (copy / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 3}', encoding="utf-8")
    with pytest.raises(AdapterUnfit):
        opening.assemble(2, copy)
    (copy / opening.ENCODER).unlink()
    with pytest.raises(ModelBroken, match="There is no encoder.safetensors"):
        encoder(copy)


# Training.

STEP = Plan(steps=2, batch_size=6)
SMALL = training.Recipe(encoder=STEP, projector=STEP, language=STEP, rehearsed=2)


@pytest.mark.slow
def test_stages_are_resumed_and_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    training.run(SMALL, tmp_path / "a")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("*.safetensors")}
    assert set(whole) == {
        "encoder.safetensors",
        "projector_1.safetensors",
        "projector_2.safetensors",
        "adapter_model.safetensors",
    }
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_projector", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            training.run(SMALL, tmp_path / "b")
    assert not (tmp_path / "b" / "projector_1.safetensors").exists()
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_encoder", None)  # it is not trained again
        training.run(SMALL, tmp_path / "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").rglob("*.safetensors")} == whole
    model, _ = opening.assemble(2, tmp_path / "b")
    assert not any("adapters" in name for name, _ in model.named_parameters())


@pytest.mark.slow
def test_each_stage_trains_what_it_says_and_nothing_else(tmp_path, monkeypatch):
    learned = {}

    def record(model, plan, losses, name):
        learned[name] = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        next(losses).backward()

    monkeypatch.setattr(training, "fit", record)
    training.run(SMALL, tmp_path / "c")
    assert {key.split(".")[0] for key in learned["encoder"]} >= {"vision_model", "text_model", "logit_scale"}
    assert {key.rpartition(".")[0] for key in learned["projector"]} == {
        "model.multi_modal_projector.linear_1",
        "model.multi_modal_projector.linear_2",
    }
    beside = learned["language model"] - learned["projector"]
    assert learned["language model"] > learned["projector"]
    assert all(".adapters.default." in key and key.startswith("model.language_model.layers.") for key in beside)
    assert len(beside) == 4 * 7 * 2


def test_a_loss_that_is_no_number_ends_the_training(tiny):
    model = torch.nn.Linear(1, 1)
    bad = (model(torch.ones(1, 1)).sum() * float("nan") for _ in range(3))
    with pytest.raises(TrainingFailed, match="lower learning_rate"):
        training.fit(model, STEP, bad, "encoder")
