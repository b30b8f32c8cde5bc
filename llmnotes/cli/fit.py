"""The command `llmnotes fit`."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from llmnotes.errors import UnknownName


def fit(arguments: Namespace) -> int:
    """Print what a model needs and where it goes; 1 if it does not fit."""
    from llmnotes.fit import fit as count
    from llmnotes.fit import machines, models, report

    if arguments.list:
        known = {"models": models(), "machines": machines()}
        print(json.dumps(known, indent=1) if arguments.json else report.catalogue_text(known))
        return 0
    if arguments.model is None:
        raise UnknownName("Say which model: a folder, a GGUF, a config.json, or a name of `llmnotes fit --list`.")
    found = count(
        arguments.model,
        arguments.vram.split(",") if arguments.vram else 0,
        arguments.ram,
        arguments.context,
        train=arguments.train,
        machine=arguments.machine,
        precision=arguments.precision,
        cache=arguments.cache,
    )
    print(json.dumps(found.as_dict(), indent=1) if arguments.json else report.fit_text(found))
    return int(not found.fits)


def add(add_command: Callable[..., ArgumentParser]) -> None:
    """Add the command to `llmnotes`."""
    subparser = add_command(
        fit,
        "Say what a model needs and whether it fits, in every precision, for llama.cpp and for transformers, from its "
        "config or header alone. 8GB (or 8G) are 8,000,000,000 bytes; a graphics card sold with 8 GB has 8GiB. Exit "
        "status: 0 if there is a way that fits, on the GPU, in part on it or in main memory; 1 if there is none.",
        "llmnotes fit llava-1.5-7b --vram 8GB --ram 16GB --context 4096",
    )
    subparser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a folder, a GGUF, a config.json, or a built-in name, short or as on the hub",
    )
    subparser.add_argument("--vram", metavar="SIZE", help="memory of the GPU; of several with commas: 16GiB,16GiB")
    subparser.add_argument("--ram", metavar="SIZE", help="main memory; by default that of this computer")
    subparser.add_argument("--machine", metavar="NAME", help="a built-in machine instead of the two")
    subparser.add_argument("--context", metavar="TOKENS", type=int, default=4096, help="tokens of context (4096)")
    subparser.add_argument("--train", choices=("lora", "qlora", "full"), help="training, on rows of so many tokens")
    subparser.add_argument("--precision", metavar="NAME", help="one precision alone, such as NF4 or Q4_K_M")
    subparser.add_argument(
        "--cache", metavar="TYPE", default="F16", help="llama.cpp's cache: F16 (default), Q8_0, Q4_0"
    )
    subparser.add_argument("--list", action="store_true", help="show the built-in models and machines")
