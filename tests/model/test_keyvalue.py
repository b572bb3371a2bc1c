"""uWSGI's lists of ``key=value``."""

from __future__ import annotations

from typing import Annotated

import pytest
from msgspec import Meta

from alarm_mw.model import keyvalue
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import SECRET, PluginOptions


class Options(PluginOptions, frozen=True, kw_only=True):
    address: str
    password: Annotated[str, SECRET] = ""
    timeout: Annotated[float, Meta(ge=0)] = 4.0
    secure: bool = False
    people: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.address == "nowhere":
            raise ValueError("address must be somewhere")


def test_a_value_may_hold_an_equals_sign() -> None:
    """Only the first `=` of a part separates."""
    assert keyvalue.split("a=b=c;d=") == [("a", "b=c"), ("d", "")]


def test_a_part_without_equals_sign_has_no_key() -> None:
    """Empty parts are skipped, others without a key are kept as they are."""
    assert keyvalue.split("x;;y z;a=b;") == [("", "x"), ("", "y z"), ("a", "b")]


def test_texts_become_what_the_fields_want() -> None:
    """Numbers, truth values and comma lists are read as such."""
    values = {"address": "here", "timeout": "2", "secure": "Yes", "people": "a, b,,c"}
    assert keyvalue.build(Options, values) == Options(address="here", timeout=2.0, secure=True, people=("a", "b", "c"))


@pytest.mark.parametrize("word", ["false", "no", "off", "0", "FALSE"])
def test_false_means_false(word: str) -> None:
    """A no is a no, though uWSGI takes any text for a yes."""
    assert keyvalue.build(Options, {"address": "here", "secure": word}).secure is False


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """One error lists each mistake, with the key that was probably meant."""
    with pytest.raises(OptionError) as caught:
        keyvalue.build(Options, {"adress": "here", "timeout": "soon", "secure": "perhaps"})
    assert caught.value.texts == (
        "unknown key 'adress' (did you mean 'address'?)",
        "'address' is missing",
        "timeout: Expected `float`, got `str`",
        "secure: expected true or false",
    )


def test_a_secret_is_not_in_the_error() -> None:
    """What stands behind a key is never quoted."""
    with pytest.raises(OptionError) as caught:
        keyvalue.build(Options, {"pasword": "hunter2", "timeout": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_options_that_do_not_fit_together_are_an_option_error() -> None:
    """The sentence of the options' own check reaches the user."""
    with pytest.raises(OptionError, match="address must be somewhere"):
        keyvalue.build(Options, {"address": "nowhere"})


def test_a_part_without_a_key_is_no_option() -> None:
    """It is told without its text, which may be a secret."""
    with pytest.raises(OptionError, match=r"^a part without '=', expected key=value$"):
        keyvalue.build(Options, {"address": "here", "": "hunter2"})
