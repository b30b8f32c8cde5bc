"""A second look at a model that was converted: do transformers and llama.cpp compute the same from both forms?"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from llmnotes import formats
from llmnotes.errors import DoesNotFit, LLMNotesError, ModelBroken, reason
from llmnotes.formats.gguf.differences import LONG, WINDOW, WINDOW_BACK
from llmnotes.formats.results import Conversion
from llmnotes.hardware import memory
from llmnotes.models.parity import TEXT

TOKENS = 16
# Nats a token that rounding explains, the least exact type first: ten times what any sound file has had here and more
# (0.00046 in BF16, 0.0000056 in F16).
LIMITS = {"BF16": 5e-3, "F16": 5e-4, "F32": 1e-4, "F64": 1e-4}
FOLDER = "Hugging Face folder"


@dataclass(frozen=True)
class SecondLook:
    """What a second look found. `kl` is the mean KL(transformers ‖ llama.cpp) in nats per token on the same tokens.

    It is None where nobody could be asked, and `why` says why; infinite where only llama.cpp gives numbers that are not
    finite. `same` is False where rounding does not explain `kl`: a `quantized` file and one whose other function was
    named in the conversion's `lost` are never accused.
    """

    kl: float | None
    same: bool
    quantized: bool = False
    why: str = ""

    def __str__(self) -> str:
        if self.kl is None:
            return f"not run    {self.why}"
        rounding = "; the bits that were saved cost this much here" if self.quantized else ""
        return f"run twice  transformers and llama.cpp differ by a KL of {self.kl:.2g} nats per token{rounding}"

    @property
    def warning(self) -> str:
        """A sentence for the reader where the two forms are not the same function, or ""."""
        if self.same:
            return ""
        return (
            f"transformers and llama.cpp compute different functions from these two forms: on the same {TOKENS} tokens "
            f"the KL is {self.kl:.2g} nats per token, more than rounding explains; do not use the new one "
            "before `llmnotes.parity` has shown where they part."
        )

    def as_dict(self) -> dict:
        """Return the findings as plain data."""
        return asdict(self) | ({} if self.kl is None or math.isfinite(self.kl) else {"kl": str(self.kl)})


def second_look(done: Conversion) -> SecondLook | None:
    """Give the same 16 tokens to a folder and to the GGUF that it became, or was made of, and compare the logits.

    transformers runs the folder in float32, and llama.cpp the GGUF in a child process. Returns None for other
    conversions. Raises nothing of its own: where one side cannot be run, the result says why.

    Does not compare tokens (the conversion does), nor what depends on a long text, such as windows and the scaling of
    positions beyond the first 16.

    >>> import tempfile
    >>> from llmnotes.models.files import convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = second_look(convert("pebble", Path(folder, "pebble.gguf")))
    >>> found.same, found.kl < 1e-3
    (True, True)
    """
    if (done.identity.format, done.to) == (FOLDER, "gguf"):
        folder, gguf = done.source, done.files[0]
    elif (done.identity.format, done.to) == ("GGUF", "huggingface"):
        folder, gguf = done.target, done.source
    else:
        return None
    try:
        found = formats.inspect(gguf)
        types = {tensor.dtype for tensor in found.tensors}
        quantized = not types <= LIMITS.keys()
        kl = _kl(folder, gguf, 4 * found.parameters + found.nbytes)
    except Exception as error:  # of the look and the libraries that it asks, and no fault of the file
        why = str(error) if isinstance(error, LLMNotesError) else reason(error)
        return SecondLook(None, True, why=why)
    named = bool({WINDOW, WINDOW_BACK, LONG} & set(done.lost))
    limit = next((limit for kind, limit in LIMITS.items() if kind in types), 0.0)
    return SecondLook(kl, quantized or named or kl < limit, quantized)


def _kl(folder: Path, gguf: Path, needed: int) -> float:
    """Return the mean KL of what llama.cpp computes from what transformers does, in nats per token."""
    import torch

    from llmnotes.llama_cpp.logits import logits_of
    from llmnotes.models.opening import open_model

    free = memory()[1]
    if needed > free:
        raise DoesNotFit(
            f"The model and its GGUF together take {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; "
            "compare them with llmnotes.parity where there is more."
        )
    lm = open_model(folder, say=lambda line: None, dtype=torch.float32)
    rows = lm.model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportIndexIssue]
    ids = [token for token in lm.tokenizer(TEXT)["input_ids"] if token < rows][:TOKENS]
    with torch.no_grad():
        ours = lm.model(torch.tensor([ids], device=lm.model.device)).logits[0].double().cpu()
    if not ours.isfinite().all():
        raise ModelBroken("The source itself gives numbers that are not finite; nothing can be compared with those.")
    theirs = torch.from_numpy(logits_of(gguf, ids)).double()
    both = min(ours.shape[1], theirs.shape[1])  # one of them may have rows for no token behind the others
    if not theirs.isfinite().all():
        return math.inf
    p, q = (scores[:, :both].log_softmax(-1) for scores in (ours, theirs))
    return (p.exp() * (p - q)).sum(-1).mean().item()
