"""What `fit` answers: one `Option` for each engine and precision, and all of them in a `Fit`."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Option:
    """One way to run or train the model: an engine, a precision, its bytes by part, and where they go.

    `verdict` is "GPU" (all of it), "GPU and RAM", "RAM" or "no". `gpus` are the bytes on each GPU, `ram` those in main
    memory; what is set aside is not in them. `checkpointing` is whether the verdict needs gradient checkpointing.
    """

    engine: str
    precision: str
    bits_per_weight: float
    parts: dict[str, int]
    verdict: str
    gpus: tuple[int, ...]
    ram: int
    n_gpu_layers: int | None = None
    device_map: dict[str, int | str] | None = None
    checkpointing: bool = False

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Fit:
    """What a model needs on a machine: `options` from the most bits to the fewest, and `advice` in sentences."""

    model: str
    parameters: int
    layers: int
    context: int
    train: str | None
    vram: tuple[int, ...]
    ram: int
    options: tuple[Option, ...]
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether there is an option that this machine has the memory for."""
        return any(option.verdict != "no" for option in self.options)

    def whole(self, engine: str = "llama.cpp", most: float = 8.5) -> Option | None:
        """Return the option of most bits, at most `most`, that lies wholly on the GPU; None if there is none.

        >>> from llmnotes.fit import fit
        >>> fit("qwen3-8b", context=8192, vram="8GiB", ram="16GiB").whole().precision
        'Q6_K'
        """
        return next(
            (
                option
                for option in self.options
                if option.engine == engine and option.bits_per_weight <= most and option.verdict == "GPU"
            ),
            None,
        )

    def as_dict(self) -> dict:
        """Return the report as plain types, ready for JSON; all amounts are bytes."""
        options = [asdict(option) | {"total": option.total} for option in self.options]
        return asdict(self) | {"fits": self.fits, "options": options}
