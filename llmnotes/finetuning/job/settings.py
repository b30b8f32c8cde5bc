"""One YAML file says how a model is fine-tuned; a wrong key or value is one sentence that names the right one.

model: pebble            # pebble, pebble-chat, a folder, or a name on the hub
data: lessons.jsonl      # JSON lines: messages; prompt and completion; or text
held_out: 0.1            # a share of the data (by its field "fact"), or another file
output: taught           # a new folder; an unfinished training in it goes on
method: lora             # lora, qlora or full
lora: {r: 8, alpha: 16}  # and dropout, targets, rank_stabilized, tokens
epochs: 3                # or steps: 200
learning_rate: 1e-3
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from llmnotes.errors import AdapterUnfit, BadSettings
from llmnotes.finetuning.lora import LoRA
from llmnotes.finetuning.token_rows import UNTRAINED
from llmnotes.finetuning.train import SCHEDULES

SIZE_LIMIT, DEPTH_LIMIT = 20_000, 200  # bytes of YAML, and brackets in it: nested ones cost the parser dearly
METHODS = ("lora", "qlora", "full")
TRACKERS = ("none", "tensorboard", "wandb")


@dataclass(frozen=True)
class Settings:
    """Everything that a fine-tuning needs to know. Paths are relative to the folder that the command runs in.

    `held_out` is a file, or the share of the data that is held out (see `data.split`), or None. Give `steps` or
    `epochs`. One step takes batch_size · gradient_accumulation rows of at most `max_length` tokens on each process;
    with `packing` a row holds as many documents as fit. A checkpoint is written after every `checkpoint_every` steps;
    held-out loss and exam are measured before, after, and after every `evaluate_every` steps. The `exam` is that of
    Pebble's world; other models have none.
    """

    model: str
    data: str
    output: str
    held_out: str | float | None = None
    method: str = "lora"
    lora: LoRA = field(default_factory=LoRA)
    steps: int | None = None
    epochs: float | None = None
    learning_rate: float = 2e-4
    batch_size: int = 8
    gradient_accumulation: int = 1
    max_length: int = 512
    packing: bool = False
    warmup_steps: int = 0
    schedule: str = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    checkpoint_every: int = 100
    evaluate_every: int | None = None
    exam: bool = True
    report_to: str = "none"
    gradient_checkpointing: bool = False

    def as_dict(self) -> dict:
        """Return the settings as plain types, ready for JSON."""
        return asdict(self)


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
    """Return the settings that a dictionary gives. Raises `BadSettings`, naming `where`.

    >>> from_dict({"model": "pebble", "data": "d.jsonl", "output": "o", "steps": 3, "lora": {"r": 4}}).lora.r
    4
    """
    values = _checked(found, CHECKS, where)
    if "lora" in values:
        lora = _checked(values["lora"], LORA_CHECKS, f"{where}, lora")
        try:
            values["lora"] = LoRA(**lora)
        except AdapterUnfit as error:
            raise BadSettings(f"{where}: {error}") from None
    missing = [key for key in ("model", "data", "output") if key not in values]
    if missing:
        raise BadSettings(f"{where}: {missing[0]} is missing; add a line “{missing[0]}: ...”.")
    if ("steps" in values) == ("epochs" in values):
        raise BadSettings(f"{where}: give either steps or epochs, such as “epochs: 3”.")
    if values.get("warmup_steps", 0) >= values.get("steps", math.inf):
        raise BadSettings(f"{where}: warmup_steps must be less than steps ({values['steps']}); lower it.")
    if "lora" in values and values.get("method") == "full":
        raise BadSettings(f"{where}: full fine-tuning has no adapter; remove lora, or set method to lora.")
    return Settings(**values)


def _checked(found, checks: dict[str, tuple[Callable, str]], where: str) -> dict:
    """Return the values of `found`, each as its check returns it; null is the same as leaving a key out."""
    if not isinstance(found, dict):
        raise BadSettings(f"{where} is no list of settings; write it as {{key: value, key: value}}.")
    values = {}
    for key, value in found.items():
        if key not in checks:
            near = difflib.get_close_matches(str(key), checks, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(checks)}."
            raise BadSettings(f"{where}: there is no setting {str(key)[:80]}; {hint}")
        if value is None:
            continue
        check, words = checks[key]
        try:
            values[key] = check(value)
        except (TypeError, ValueError, OverflowError):
            said = repr(value) if len(repr(value)) < 80 else f"a {type(value).__name__}"
            raise BadSettings(f"{where}: {key} must be {words}, and is {said}; change it.") from None
    return values


def _whole(least: int) -> tuple[Callable, str]:
    def check(value) -> int:
        if type(value) is not int or not least <= value < 1 << 31:
            raise ValueError
        return value

    return check, f"a whole number of at least {least}"


def _number(words: str, allowed: Callable[[float], bool]) -> tuple[Callable, str]:
    def check(value) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)  # YAML reads 2e-4 as a text, since it wants 2.0e-4
        if not math.isfinite(number) or not allowed(number):
            raise ValueError
        return number

    return check, words


def _one_of(*names: str) -> tuple[Callable, str]:
    def check(value) -> str:
        if value not in names:
            raise ValueError
        return value

    return check, f"one of {', '.join(names)}"


def _text(value) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError
    return value


def _yes_or_no(value) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _held_out(value) -> str | float:
    return _text(value) if isinstance(value, str) else SHARE[0](value)


def _tokens(value) -> str | tuple[int, ...]:
    if value != UNTRAINED and (not isinstance(value, list) or any(type(each) is not int for each in value)):
        raise ValueError
    return value if value == UNTRAINED else tuple(value)


def _targets(value) -> str | tuple[str, ...]:
    return tuple(_text(name) for name in value) if isinstance(value, list) and value else _text(value)


PATH, BOOL = (_text, "a path or a name"), (_yes_or_no, "true or false")
SHARE = _number("a share above 0 and below 1", lambda share: 0 < share < 1)
POSITIVE = _number("a number above 0", lambda number: number > 0)
CHECKS = {
    "model": PATH,
    "data": PATH,
    "output": PATH,
    "held_out": (_held_out, "the path of a file, or a share above 0 and below 1"),
    "method": _one_of(*METHODS),
    "lora": (lambda value: value, "a list of settings"),
    "steps": _whole(1),
    "epochs": POSITIVE,
    "learning_rate": POSITIVE,
    "batch_size": _whole(1),
    "gradient_accumulation": _whole(1),
    "max_length": _whole(2),
    "packing": BOOL,
    "warmup_steps": _whole(0),
    "schedule": _one_of(*SCHEDULES),
    "weight_decay": _number("a number of at least 0", lambda number: number >= 0),
    "max_grad_norm": POSITIVE,
    "seed": _whole(0),
    "checkpoint_every": _whole(1),
    "evaluate_every": _whole(1),
    "exam": BOOL,
    "report_to": _one_of(*TRACKERS),
    "gradient_checkpointing": BOOL,
}
LORA_CHECKS = {
    "r": _whole(1),
    "alpha": _number("a number", lambda number: True),
    "dropout": _number("a share of at least 0 and below 1", lambda share: 0 <= share < 1),
    "targets": (_targets, "all-linear, a list of endings of names, or a regular expression"),
    "rank_stabilized": BOOL,
    "tokens": (_tokens, f"a list of token ids, or {UNTRAINED}"),
}
assert list(CHECKS) == [each.name for each in fields(Settings)]


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
