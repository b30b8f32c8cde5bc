"""What notebook 15 shows of gptqmodel, made again where gptqmodel is."""

import json
import subprocess
import sys
from importlib import resources

import pytest

from .conftest import ROOT

PEER = ROOT / "build" / "peers" / "gptq"
SAMPLE = json.loads((resources.files("llmnotes") / "gptqmodel_sample.json").read_text("utf-8"))


def test_the_kept_sample_says_what_the_notebook_says():
    assert SAMPLE["largest difference of logits"] < 0.01 and SAMPLE["class of a layer"] == "TorchLinear"
    assert SAMPLE["KL of ours"] < SAMPLE["KL of GPTQConfig's"] < 0.8 * SAMPLE["KL of plain rounding"]


@pytest.mark.slow
def test_transformers_and_gptqmodel_say_it_again():
    python = PEER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (PEER / "installed").exists():
        pytest.skip("gptqmodel's environment is not here; make peers brings it")
    made = subprocess.run(
        [python, ROOT / "tests" / "peers" / "gptqmodel_sample.py"], capture_output=True, check=True, timeout=600
    )
    found = json.loads(made.stdout)
    assert found["class of a layer"] == "TorchLinear" and found["largest difference of logits"] < 0.01
    for name in (name for name in SAMPLE if name.startswith("KL")):
        assert found[name] == pytest.approx(SAMPLE[name], rel=0.15), name
