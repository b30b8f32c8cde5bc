"""The figure of notebook 15: what must not overlap does not."""

import itertools

import numpy as np
import pytest
from matplotlib.transforms import Bbox

from llmnotes.evaluation import Noise, Row
from llmnotes.plots.quantization import pareto

# methods that lie within half a bit of each other
CROWD = {
    "GGUF types": {
        "Q4_K_M": (5.07, 0.0584, 0.00165),
        "Q4_0": (4.81, 0.0777, 0.00289),
        "Q3_K_M": (4.26, 0.1115, 0.00467),
    },
    "NF4, FP4": {"NF4": (4.5, 0.0949, 0.0069), "NF4 double": (4.13, 0.095, 0.00807), "FP4": (4.5, 0.129, 0.01339)},
    "absmax": {
        "int2 by 64": (2.5, 0.7253, 4.81261),
        "int8 rows": (8.11, 0.0081, 0.00005),
        "int4 rows": (4.11, 0.1482, 0.01639),
        "int4 by 64": (4.5, 0.1158, 0.00965),
    },
}


def rows(family):
    return [
        Row(name, bits, error, error, kl, 2.0, 1.0, (0.9, 1.0), Noise(kl / 5, 0, 0))
        for name, (bits, error, kl) in family.items()
    ]


@pytest.mark.slow
def test_no_name_lies_on_another_name_or_on_a_point():
    families = {name: rows(family) for name, family in CROWD.items()}
    figure = pareto(families, {"a bound": (np.array([4.0, 5.0]), np.array([0.06, 0.03]))})
    figure.draw_without_rendering()
    values = [row for family in families.values() for row in family]
    for panel, heights in zip(figure.axes, ([r.weight_error for r in values], [r.kl for r in values]), strict=True):
        boxes = {text.get_text(): text.get_window_extent() for text in panel.texts}
        assert set(boxes) == {row.name for row in values}
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes.values(), 2))
        for row, height in zip(values, heights, strict=True):
            x, y = panel.transData.transform((row.bits, height))
            point = Bbox.from_bounds(x - 2, y - 2, 4, 4)
            assert not any(box.overlaps(point) for box in boxes.values()), row.name
