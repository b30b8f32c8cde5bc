"""Where a model lies: "pebble", "pebble-chat", "smollm2", a path, or a name on the hub."""

import difflib
import os
from importlib import import_module
from pathlib import Path

from llmnotes.errors import ModelGated, ModelNotFound
from llmnotes.formats.adapters import result_of
from llmnotes.models.packaged import PACKAGES, converted
from llmnotes.pebble import VARIANTS, weights_dir

PEBBLE_LLAVA = "pebble-llava"  # made by llmnotes.vision, which needs what stands here
NAMES = (*VARIANTS, *PACKAGES, PEBBLE_LLAVA)
ENDINGS = (".gguf", ".onnx", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pb", ".h5", ".keras", ".npz", ".json")

WHOLE = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")  # of a model on the hub
CONFIG = ("config.json", "adapter_config.json")  # what says how large a model is, and of an adapter, what it is for


def path_of(name: str, revision: str | None = None, parts: tuple[str, ...] = WHOLE) -> Path:
    """Return the file or folder of a model: a name of `NAMES`, a path, or a name on the hub.

    A model on the hub is downloaded, in its newest `revision` unless one is given, and with all its files unless
    `parts` are named; "smollm2" is converted the first time (`packaged.converted`), and "pebble-llava" put together
    (`llmnotes.vision.opening.folder`). The output of a fine-tuning means the folder in it that holds the adapter or the
    model.

    Raises `ModelNotFound`, `ModelGated`, and for "smollm2" `MissingPart` and `CannotWrite`. Does not look into what
    it finds.

    >>> path_of("pebble-chat").name
    'pebble-chat'
    """
    if not name:
        raise ModelNotFound("The name of the model is empty; give pebble, a folder, or a name on the hub.")
    if name in VARIANTS:
        return weights_dir(name)
    if name in PACKAGES:
        return converted(name)
    if name == PEBBLE_LLAVA:
        return import_module("llmnotes.vision.opening").folder()
    path = Path(name).expanduser()
    if os.path.lexists(path) or os.path.isfile(f"{path}.index"):  # a TensorFlow checkpoint has no file of its name
        return result_of(path)
    if path.suffix.lower() in ENDINGS:
        raise ModelNotFound(
            f"There is no file {name}; check the path (a relative one starts at the folder you are in)."
        )
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name:
        raise ModelNotFound(
            f"There is no folder {name}; check the path (a relative one starts at the folder you are in)."
        )
    near = difflib.get_close_matches(name, NAMES, n=1)
    if near:
        raise ModelNotFound(f"There is no model named {name}; did you mean {near[0]}?")
    return _download(name, revision, parts)


def _download(name: str, revision: str | None, parts: tuple[str, ...]) -> Path:
    """Return the local copy of a model on the hub. No message repeats what the hub said: it may hold a token."""
    from huggingface_hub import errors, snapshot_download

    wanted, here = {"revision": revision, "allow_patterns": list(parts)}, None
    try:
        try:
            here = Path(snapshot_download(name, local_files_only=True, **wanted))
        except errors.LocalEntryNotFoundError:
            pass
        if here and (parts == CONFIG or any(here.glob("*.safetensors"))):  # there may be a config.json alone
            return here
        return Path(snapshot_download(name, **wanted))
    except errors.GatedRepoError:
        raise ModelGated(
            f"{name} is gated: accept its terms on its page on the hub, then log in (on a laptop with the command "
            "“hf auth login”; in Colab with a secret named HF_TOKEN, the key in the left margin; in Kaggle with "
            "Add-ons, Secrets, HF_TOKEN)."
        ) from None
    except errors.HFValidationError:
        raise ModelNotFound(
            f"{name} is neither a folder nor a name that the hub allows; give {', '.join(NAMES)}, a "
            "folder, or owner/name."
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFound(
            f"There is no folder {name}, and the hub shows no such model; check the spelling, or log "
            "in with “hf auth login” if the model is private."
        ) from None
    except OSError:  # every other answer of the hub, none at all, or offline mode and an empty cache
        if here:
            return here
        raise ModelNotFound(
            f"There is no folder {name}, and the hub cannot be reached; use pebble, which needs no "
            "network, or download the model first and give its folder."
        ) from None
