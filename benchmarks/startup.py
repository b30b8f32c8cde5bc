"""How long `import llmnotes` and `llmnotes --help` take beside a bare Python.

    .venv/bin/python benchmarks/startup.py      the fastest of nine starts each, results/startup.json

The bar is 0.3 s more than Python itself; the exit status is 1 where one is over it.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROUNDS, BAR = 9, 0.3
WAYS = {
    "python": ["-c", "pass"],
    "import llmnotes": ["-c", "import llmnotes"],
    "llmnotes --help": ["-m", "llmnotes.cli", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Return the seconds that one start of Python takes, from its beginning to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> int:
    fastest = dict.fromkeys(WAYS, float("inf"))
    for _ in range(ROUNDS):  # in turn, so that a busy moment of the machine meets all of them
        for name, arguments in WAYS.items():
            fastest[name] = min(fastest[name], seconds(arguments))
    bare = fastest.pop("python")
    extra = {name: taken - bare for name, taken in fastest.items()}
    for name, more in extra.items():
        print(f"{name}: {more:.3f} s more than Python's {bare:.3f} s; the bar is {BAR} s")
    results = {"python": bare, "bar": BAR} | extra
    (Path(__file__).parent / "results" / "startup.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return int(max(extra.values()) > BAR)


if __name__ == "__main__":
    sys.exit(main())
