"""Messages of one shape, and each error also the built-in one that a caller would catch."""

import pickle

import pytest

from wsi_maxmin import errors

CHILDREN = {
    errors.InputError: ValueError,
    errors.SlideError: OSError,
    errors.OutputExistsError: FileExistsError,
    errors.DivergedError: ArithmeticError,
    errors.WorkerDiedError: RuntimeError,
    errors.MissingExtraError: ImportError,
}


@pytest.mark.parametrize(("error", "builtin"), CHILDREN.items())
def test_each_error_is_caught_as_its_builtin_and_as_the_root(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)
    assert issubclass(error, errors.WsiMaxminError)


def test_no_error_is_left_out_of_this_table() -> None:
    assert set(errors.WsiMaxminError.__subclasses__()) == set(CHILDREN)


@pytest.mark.parametrize("error", [errors.WsiMaxminError, *CHILDREN])
def test_a_message_says_what_got_expected_and_remedy_on_one_line(error: type) -> None:
    raised = error("no such\nthing", got=0, expected="1 to\n  2", remedy="try 1")
    assert str(raised) == "no such thing; got 0; expected 1 to 2; try 1"


@pytest.mark.parametrize("error", CHILDREN)
def test_a_message_omits_what_was_not_said(error: type) -> None:
    assert str(error("it is broken")) == "it is broken"


@pytest.mark.parametrize("error", CHILDREN)
def test_an_error_survives_the_way_back_from_another_process(error: type) -> None:
    raised = error("what", got="this", remedy="do that")
    assert str(pickle.loads(pickle.dumps(raised))) == str(raised)
