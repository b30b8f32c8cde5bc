"""Draw the pictures beside this file: `python images/draw.py`."""

from pathlib import Path

INK, PAPER, BLUE, ORANGE, GREEN, RED, SKY = "#1b1b1b", "#ffffff", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
STEPS = [
    ("words", "“Once upon a time”", SKY),
    ("tokens", "18 402 7 96", BLUE),
    ("vectors", ".31 −.08 .54 …", GREEN),
    ("dot products", "who looks at whom", ORANGE),
    ("bytes", "3f 9a 00 be …", RED),
]


def overview() -> str:
    """Return the README's picture as SVG: a sentence on its way through Pebble."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 250" role="img" font-family="sans-serif" '
        'aria-label="Words become tokens, tokens vectors, vectors meet in dot products, and all of it is bytes; '
        'Pebble, a small stone with a face, says what comes next">',
        f'<rect width="880" height="250" rx="14" fill="{PAPER}" stroke="#d8d8d2"/>',
    ]
    for i, (name, example, colour) in enumerate(STEPS):
        x = 20 + 172 * i
        parts += [
            f'<rect x="{x}" y="24" width="152" height="76" rx="10" fill="{colour}" fill-opacity="0.16" stroke="{colour}"/>',
            f'<text x="{x + 76}" y="55" text-anchor="middle" font-size="19" font-weight="600" fill="{INK}">{name}</text>',
            f'<text x="{x + 76}" y="82" text-anchor="middle" font-size="14" fill="#444">{example}</text>',
        ]
        if i + 1 < len(STEPS):
            parts.append(f'<path d="M{x + 154} 62h14m-6 -5l6 5l-6 5" fill="none" stroke="{INK}" stroke-width="1.6"/>')
    parts += [
        '<path d="M120 232c-52 0-74-26-70-56c4-32 40-52 84-50c46 2 78 26 78 58c0 30-36 48-92 48z" fill="#b9bcb8" stroke="#6f736f"/>',
        f'<circle cx="112" cy="172" r="5" fill="{INK}"/><circle cx="152" cy="172" r="5" fill="{INK}"/>',
        f'<path d="M118 194q14 12 28 0" fill="none" stroke="{INK}" stroke-width="2.4" stroke-linecap="round"/>',
        '<path d="M236 176l-18 10l18 6z" fill="#f5f5f2" stroke="#d8d8d2"/>',
        '<rect x="234" y="134" width="620" height="90" rx="12" fill="#f5f5f2" stroke="#d8d8d2"/>',
        f'<text x="256" y="168" font-size="19" fill="{INK}">One language model, taken apart and put back together,</text>',
        f'<text x="256" y="198" font-size="19" fill="{INK}">on your own machine. No GPU, no network, no hand-waving.</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def badge(word: str, colour: str):
    """Return the small picture that a launch link wears, as a matplotlib figure of 1.3 by 0.25 inches."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, FancyBboxPatch

    figure = Figure(figsize=(1.3, 0.25))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 130), ylim=(0, 25))
    axes.axis("off")
    axes.add_patch(FancyBboxPatch((6, 6), 118, 13, boxstyle="round,pad=5", facecolor="#333333", linewidth=0))
    axes.add_patch(Circle((14, 12.5), 5.5, color=colour))
    axes.text(26, 12.5, word, color=PAPER, fontsize=8.5, verticalalignment="center_baseline")
    return figure


def main(folder: Path) -> None:
    """Write every picture into `folder`."""
    (folder / "overview.svg").write_text(overview(), encoding="utf-8")
    for name, word, colour in [("colab", "Open in Colab", ORANGE), ("kaggle", "Open in Kaggle", SKY)]:
        badge(word, colour).savefig(folder / f"{name}.png", dpi=100, transparent=True, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(__file__).parent)
