"""Any lesson may open smollm2."""

import pytest


@pytest.fixture(autouse=True)
def _smollm2(smollm2_ready):
    pass
