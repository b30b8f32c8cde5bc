"""One YAML file says how a model is fine-tuned; a wrong key or value is one sentence that names the right one.

model: pebble            # pebble, pebble-chat, smollm2, a folder, or a name on the hub
data: lessons.jsonl      # JSON, CSV or Parquet: messages (with tools), prompt and completion, text, Alpaca, ShareGPT
held_out: 0.1            # a share of the data (by its field "fact"), or another file
output: taught           # a new folder; an unfinished training in it goes on
method: lora             # lora, qlora or full
lora: {r: 8, alpha: 16}  # and dropout, target_modules, rank_stabilized, tokens
epochs: 3                # or steps: 200
learning_rate: 1e-3
"""

from __future__ import annotations

import difflib
import reprlib
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, InstanceOf, Strict, ValidationError
from pydantic.dataclasses import dataclass

from llmnotes.errors import AdapterUnfit, BadSettings
from llmnotes.finetuning.lora import LoRA
from llmnotes.finetuning.token_rows import UNTRAINED
from llmnotes.finetuning.train import SCHEDULES, Schedule
from llmnotes.fit.training_run import Optimizer

SIZE_LIMIT, DEPTH_LIMIT = 20_000, 200  # bytes of YAML, and brackets in it: nested ones cost the parser dearly
Method = Literal["lora", "qlora", "full"]
Tracker = Literal["none", "tensorboard", "wandb"]
STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # strict: "1" is no number, and 1 is not true

# What each setting may be. A `description` finishes the sentence "batch_size must be ..." where it is something else.


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("no file's name has a NUL in it")
    return text


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) else value  # YAML reads 2e-4 as a text, since it wants 2.0e-4


Text = Annotated[str, Field(min_length=1), AfterValidator(_without_nul)]
PathOrName = Annotated[Text, Field(description="a path or a name")]
YesOrNo = Annotated[bool, Field(description="true or false")]
Count = Annotated[int, Field(ge=1, lt=1 << 31, description="a whole number of at least 1")]
CountOrZero = Annotated[int, Field(ge=0, lt=1 << 31, description="a whole number of at least 0")]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Number, Field(gt=0, description="a number above 0")]


@dataclass(frozen=True, config=STRICT)
class Settings:
    """Everything that a fine-tuning needs to know. Paths are relative to the folder that the command runs in.

    `held_out` is a file, or the share of the data that is held out (see `data.split`), or None. Give `steps` or
    `epochs`. One step takes batch_size · gradient_accumulation rows of at most `max_length` tokens on each process;
    with `packing` a row holds as many documents as fit, which the models in `packable` keep apart. A checkpoint is
    written after every `checkpoint_every` steps; held-out loss and exam are measured before, after, and after every
    `evaluate_every` steps. With `early_stopping` a training ends after so many measurements in a row without a lower
    held-out loss, and the weights of the best measurement are written, whether it ended early or not. Each measurement
    comes with the greedy answers to the first `samples` held-out questions. The `exam` is that of Pebble's world; other
    models have none. The `optimizer` "adamw_8bit" keeps AdamW's averages in a quarter of the memory, and
    "paged_adamw_8bit" moves them out of a full GPU as well.

    Raises pydantic's `ValidationError` for values of another kind; `from_dict` turns it into a sentence.
    """

    model: PathOrName
    data: PathOrName
    output: PathOrName
    held_out: Annotated[
        Text | Annotated[float, Field(gt=0, lt=1)] | None,
        Field(description="the path of a file, or a share above 0 and below 1"),
    ] = None
    method: Annotated[Method, Field(description=f"one of {', '.join(get_args(Method))}")] = "lora"
    lora: InstanceOf[LoRA] = field(default_factory=LoRA)
    steps: Annotated[Count | None, Field(description="a whole number of at least 1")] = None
    epochs: Annotated[Positive | None, Field(description="a number above 0")] = None
    optimizer: Annotated[Optimizer, Field(description=f"one of {', '.join(get_args(Optimizer))}")] = "adamw"
    learning_rate: Positive = 2e-4
    batch_size: Count = 8
    gradient_accumulation: Count = 1
    max_length: Annotated[int, Field(ge=2, lt=1 << 31, description="a whole number of at least 2")] = 512
    packing: YesOrNo = False
    warmup_steps: CountOrZero = 0
    schedule: Annotated[Schedule, Field(description=f"one of {', '.join(SCHEDULES)}")] = "linear"
    weight_decay: Annotated[Number, Field(ge=0, description="a number of at least 0")] = 0.0
    max_grad_norm: Positive = 1.0
    seed: CountOrZero = 0
    checkpoint_every: Count = 100
    evaluate_every: Annotated[Count | None, Field(description="a whole number of at least 1")] = None
    early_stopping: Annotated[Count | None, Field(description="a whole number of at least 1")] = None
    samples: CountOrZero = 0
    exam: YesOrNo = True
    report_to: Annotated[Tracker, Field(description=f"one of {', '.join(get_args(Tracker))}")] = "none"
    gradient_checkpointing: YesOrNo = False

    def as_dict(self) -> dict:
        """Return the settings as plain types, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, config=STRICT)
class LoRASettings:
    """The settings below `lora`, as YAML has them; `lora.LoRA` explains them, and has the defaults."""

    r: Count = LoRA.r
    alpha: Annotated[Number, Field(description="a number")] = LoRA.alpha
    dropout: Annotated[Number, Field(ge=0, lt=1, description="a share of at least 0 and below 1")] = LoRA.dropout
    target_modules: Annotated[
        Text | Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)],  # not strict: YAML has lists
        Field(description="all-linear, a list of endings of names, or a regular expression"),
    ] = LoRA.target_modules
    rank_stabilized: YesOrNo = LoRA.rank_stabilized
    tokens: Annotated[
        Literal["untrained"] | Annotated[tuple[int, ...], Strict(False)],
        Field(description=f"a list of token ids, or {UNTRAINED}"),
    ] = LoRA.tokens


def read(path: str | Path) -> Settings:
    """Return the settings in a YAML file.

    Raises `BadSettings` for what is no YAML, a key that does not exist (the sentence names the nearest), one that is
    missing, and a value of the wrong kind or out of its range.
    """
    import yaml

    try:
        with open(path, "rb") as file:
            text = file.read(SIZE_LIMIT + 1)
        if len(text) > SIZE_LIMIT or text.count(b"[") + text.count(b"{") > DEPTH_LIMIT:
            raise BadSettings(f"{path} is too long or too deep to be settings; write one “key: value” on each line.")
        found = yaml.load(text.decode("utf-8-sig"), _loader())
    except OSError as error:
        raise BadSettings(f"{path} cannot be read ({error.strerror}); give the path of a YAML file.") from None
    except UnicodeDecodeError:
        raise BadSettings(f"{path} is not UTF-8; save it in that encoding.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise BadSettings(f"{path}{where}: this is no YAML ({reason}); write one “key: value” on each line.") from None
    if not isinstance(found, dict):
        raise BadSettings(f"{path} is no list of settings; write one “key: value” on each line.")
    return from_dict(found, str(path))


def settings_of(given: Settings | dict | str | Path) -> Settings:
    """Return the settings that are given as a YAML file, as a dictionary, or as they are.

    >>> settings_of({"model": "pebble", "data": "lessons.jsonl", "output": "taught", "steps": 200}).method
    'lora'
    """
    if isinstance(given, Settings):
        return given
    return from_dict(given) if isinstance(given, dict) else read(given)


def from_dict(found: dict, where: str = "The settings") -> Settings:
    """Return the settings that a dictionary gives; null is the same as leaving a key out.

    Raises `BadSettings`, naming `where`.

    >>> from_dict({"model": "pebble", "data": "d.jsonl", "output": "o", "steps": 3, "lora": {"r": 4}}).lora.r
    4
    """
    found = dict(found)
    given = found.get("lora") is not None
    if given:
        lora = _validated(LoRASettings, found["lora"], f"{where}, lora")
        try:
            found["lora"] = LoRA(**vars(lora))
        except AdapterUnfit as error:
            raise BadSettings(f"{where}: {error}") from None
    settings = _validated(Settings, found, where)
    if (settings.steps is None) == (settings.epochs is None):
        raise BadSettings(f"{where}: give either steps or epochs, such as “epochs: 3”.")
    if settings.steps is not None and settings.warmup_steps >= settings.steps:
        raise BadSettings(f"{where}: warmup_steps must be less than steps ({settings.steps}); lower it.")
    if settings.early_stopping and not (settings.held_out and settings.evaluate_every):
        raise BadSettings(f"{where}: early_stopping needs held_out and evaluate_every; give both, or leave it out.")
    if settings.samples and not settings.held_out:
        raise BadSettings(f"{where}: samples are answers to held-out questions; give held_out, or leave samples out.")
    if given and settings.method == "full":
        raise BadSettings(f"{where}: full fine-tuning has no adapter; remove lora, or set method to lora.")
    return settings


Kind = TypeVar("Kind", Settings, LoRASettings)


def _validated(kind: type[Kind], found: object, where: str) -> Kind:
    """Return the settings of a kind that `found` holds; raise `BadSettings`, a sentence about the first error."""
    if not isinstance(found, dict):
        raise BadSettings(f"{where} is no list of settings; write it as {{key: value, key: value}}.")
    keys = [each.name for each in fields(kind)]
    for key in found:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}."
            raise BadSettings(f"{where}: there is no setting {str(key)[:80]}; {hint}")
    try:
        return kind(**{key: value for key, value in found.items() if value is not None})
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
    key = str(error["loc"][0])
    if error["type"] == "missing":
        raise BadSettings(f"{where}: {key} is missing; add a line “{key}: ...”.")
    words = kind.__pydantic_fields__[key].description  # pyright: ignore[reportAttributeAccessIssue]
    raise BadSettings(f"{where}: {key} must be {words}, and is {reprlib.repr(found[key])}; change it.")


def _loader():
    """Return YAML's safe loader, which here refuses a key that stands twice instead of taking the second."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{twice} stands twice", node.start_mark)
            return super().construct_mapping(node, deep)

    return Loader
