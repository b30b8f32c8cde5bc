import numpy as np
import pytest

from llmnotes.claims import claim, ledger
from llmnotes.errors import ClaimFailed


def test_a_claim_that_holds_is_printed_and_kept(capsys):
    claim("water is wet", lambda: True)
    assert capsys.readouterr().out == "✓ water is wet\n"
    assert ledger()[-1].statement == "water is wet" and ledger()[-1].held is True


def test_a_claim_that_fails_raises_with_its_statement_and_is_not_kept():
    before = len(ledger())
    with pytest.raises(ClaimFailed, match="two is three"):
        claim("two is three", 2 == 3)
    with pytest.raises(AssertionError):
        claim("numpy's False counts, too", np.bool_(False))
    assert len(ledger()) == before


def test_a_claim_that_does_not_apply_is_not_evaluated(capsys):
    claim("only elsewhere", lambda: 1 / 0, when=False)
    assert capsys.readouterr().out == "– only elsewhere (not checked here)\n"
    assert ledger()[-1].held is None


def test_an_array_is_no_truth_value():
    with pytest.raises(TypeError, match=r"\.all\(\)"):
        claim("all at once", np.array([True, True]))


def test_the_ledger_cannot_be_edited_from_outside():
    ledger().append("forged")
    assert "forged" not in ledger()
