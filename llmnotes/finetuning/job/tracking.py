"""Curves of a training, through the Trainer's own callbacks: Weights & Biases, TensorBoard, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmnotes.errors import MissingPart
from llmnotes.parts import bring


def tracker(report_to: str, folder: str | Path, settings: dict) -> Any:
    """Return what takes the figures of a training, `log(step, figures)`, inside a `with` that closes it.

    "tensorboard" writes into `folder`/tensorboard; "wandb" into `folder`/wandb, and to the reader's page only if they
    are logged in (WANDB_MODE decides where it is set); "none" does nothing. `settings` is shown beside the curves.
    Names are those of the Trainer: "eval_loss" becomes "eval/loss", and any other "train/...".

    Raises `MissingPart` where the package is not installed.
    """
    if report_to == "none":
        return Nothing()
    try:
        return {"tensorboard": TensorBoard, "wandb": WandB}[report_to](Path(folder), settings)
    except ImportError:
        raise MissingPart(f"{report_to} is missing; bring it with: {bring(report_to)}") from None


class Nothing:
    """Tracks nothing."""

    def log(self, step: int, figures: dict) -> None:
        """Do nothing."""

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Arguments:
    """What the callbacks ask the Trainer's arguments for."""

    run_name = None

    def __init__(self, folder: Path, settings: dict):
        self.output_dir, self.settings = str(folder), settings

    def to_dict(self) -> dict:
        """Return the settings."""
        return dict(self.settings)

    def to_json_string(self) -> str:
        """Return the settings as JSON."""
        import json

        return json.dumps(self.settings, indent=2)


class Tracker:
    """Drives one of transformers' callbacks as the Trainer would."""

    def __init__(self, callback: Any, folder: Path, settings: dict):
        from transformers import TrainerControl, TrainerState

        self.callback = callback
        self.state = TrainerState()
        self.arguments = Arguments(folder, settings), self.state, TrainerControl()  # as the Trainer passes them
        callback.on_train_begin(*self.arguments)

    def log(self, step: int, figures: dict) -> None:
        """Add the figures of a step."""
        self.state.global_step = step
        self.callback.on_log(*self.arguments, logs=dict(figures))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.callback.on_train_end(*self.arguments)


class TensorBoard(Tracker):
    """Event files for `tensorboard --logdir`."""

    def __init__(self, folder: Path, settings: dict):
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        writer = SummaryWriter(str(folder / "tensorboard"))
        super().__init__(TensorBoardCallback(writer), folder, settings)


class WandB(Tracker):
    """A run of Weights & Biases, offline unless the reader is logged in."""

    def __init__(self, folder: Path, settings: dict):
        import wandb
        from transformers.integrations.integration_utils import WandbCallback

        self.own = wandb.run is None  # the reader's own run goes on after the training
        mode = None if os.environ.get("WANDB_MODE") else "online" if logged_in() else "offline"  # None: wandb reads it
        project = os.environ.get("WANDB_PROJECT", "llmnotes")
        self.run = wandb.run or wandb.init(
            project=project, dir=str(folder), mode=mode, settings=wandb.Settings(silent=True)
        )
        super().__init__(WandbCallback(), folder, settings)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.own:
            self.run.finish()


def logged_in() -> bool:
    """Return whether Weights & Biases has a key for this reader; asks no server whether it is valid."""
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0].split(":")[0]
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
