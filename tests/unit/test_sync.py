"""What child and parent say to each other: errors cross the socket unchanged, anything unexpected is an error."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer import errors
from pycontainer.runtime import sync

CROSSING = [errors.UsageError, errors.NotFound, errors.HostError, errors.CommandNotFound, errors.CommandNotExecutable]


def cross(error: BaseException) -> errors.PycontainerError:
    message = sync.pack_failure(error)
    assert len(message) < 65536, "the parent's receive buffer"
    with pytest.raises(errors.PycontainerError) as caught:
        sync.unpack(message, sync.READY)
    return caught.value


_PARTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(st.sampled_from(CROSSING), _PARTS, _PARTS, _PARTS, _PARTS)
def test_an_error_crosses_unchanged(
    kind: type[errors.PycontainerError], step: str, path: str, cause: str, hint: str
) -> None:
    error = cross(kind(step, path, cause, hint))
    assert type(error) is kind
    assert (error.step, error.path, error.cause, error.hint) == (step, path, cause, hint)
    assert error.exit_status == kind.exit_status


@given(_PARTS, _PARTS, st.sampled_from([errno.EPERM, errno.ENOENT, errno.EINVAL]), _PARTS)
def test_a_failed_step_crosses_with_its_number(step: str, path: str, number: int, hint: str) -> None:
    error = cross(errors.StepFailed(step, path, number, hint=hint))
    assert isinstance(error, errors.StepFailed)
    assert (error.step, error.path, error.errno, error.hint) == (step, path, number, hint)


def test_a_path_that_is_no_text_crosses() -> None:
    assert cross(errors.CommandNotFound("exec", "/bin/\udcff\udcfe")).path == "/bin/\udcff\udcfe"


def test_what_nobody_foresaw_becomes_one_line() -> None:
    error = cross(ZeroDivisionError("division by zero"))
    assert isinstance(error, errors.HostError)
    assert str(error) == "set up the container: ZeroDivisionError: division by zero"


def test_an_error_of_a_kind_that_does_not_cross_is_still_an_error() -> None:
    error = cross(errors.Conflict("step", "path", "cause"))
    assert (error.step, error.path, error.cause) == ("step", "path", "cause")


@pytest.mark.parametrize("message", [sync.MAPPED, sync.READY, sync.START, b""])
def test_the_expected_message_is_quiet(message: bytes) -> None:
    sync.unpack(message, message)


@pytest.mark.parametrize(
    ("message", "expected", "text"),
    [
        (b"", sync.READY, "ended without a word"),
        (sync.START, sync.READY, "unexpected message b'START'"),
        (sync.READY, b"", "unexpected message b'READY'"),
        (b"READY!", sync.READY, "unexpected message"),
        (sync.FAILED, sync.READY, "unexpected message"),
        (sync.FAILED + b"\0".join([b"x"] * 5), sync.READY, "unexpected message"),
        (b"x" * 1000, sync.READY, "unexpected message"),
    ],
)
def test_any_other_message_is_an_error(message: bytes, expected: bytes, text: str) -> None:
    with pytest.raises(errors.HostError) as caught:
        sync.unpack(message, expected)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 200
