"""The inventory of phones."""

import pytest

from firmware_sim.grammar import phones


def test_ids_do_not_see_stress_and_refuse_what_is_no_phone() -> None:
    assert phones.ids(["AH0", "L"]) == phones.ids(["AH1", "L"])
    with pytest.raises(ValueError, match="'XX' is no phone"):
        phones.ids(["XX"])


def test_blank_is_the_last_of_the_units() -> None:
    assert phones.BLANK == phones.PHONE_COUNT - 1 == 39
