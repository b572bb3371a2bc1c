"""``speech:``, with the real espeak-ng writing a file, and with a program in its place that tells how it was called."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import struct
import sys
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.actions.speech import Manner, SpeechAction, SpeechOptions, speakable, speaker_of
from alarm_mw.model.errors import ActionError, MissingError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing

Make = Callable[..., Firing]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the other systems have no espeak-ng")


@pytest.fixture
def espeak() -> None:
    """Ask for the real espeak-ng."""
    if shutil.which("espeak-ng") is None:
        missing = "espeak-ng is not installed (apt-get install espeak-ng)"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Provide a function that puts a shell script in the place of espeak-ng, and returns its directory."""

    def install(script: str) -> Path:
        program = tmp_path / "espeak-ng"
        program.write_text(f'#!/bin/sh\ncd "{tmp_path}"\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path

    return install


RECORD = 'printf "%s\\n" "$@" >> arguments; cat > text; env > environment'


def say(args: str, context: ActionContext, *firings: Firing) -> None:
    async def scene() -> None:
        async with SpeechAction(SpeechAction.from_uwsgi(args), context) as action:
            for firing in firings:
                await asyncio.to_thread(action.deliver, firing)

    asyncio.run(scene())


def samples(file: Path) -> list[int]:
    with wave.open(str(file)) as sound:
        assert sound.getsampwidth() == 2
        data = sound.readframes(sound.getnframes())
    # A program that writes to a pipe leaves the count open; what is there counts.
    return list(struct.unpack(f"<{len(data) // 2}h", data))


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize(
    "message", [b"The disk is full.\n", b"--version\n", b"-x [[D'eIndZ@]] \x01\x1b <speak>\n", b"\n"]
)
def test_the_message_is_heard(message: bytes, tmp_path: Path, context: ActionContext, make_firing: Make) -> None:
    """The file holds sound, whatever the line begins with."""
    file = tmp_path / "said.wav"
    say(f"file={file}", context, make_firing(message))
    sound = samples(file)
    assert len(sound) > 5_000
    assert max(map(abs, sound)) > 1_000


@pytest.mark.usefixtures("espeak")
def test_more_words_take_longer_and_a_higher_rate_less(
    tmp_path: Path, context: ActionContext, make_firing: Make
) -> None:
    """It is the message that is spoken, in the manner asked for."""
    lengths = []
    for options, message in [
        ("rate=150", b"one\n"),
        ("rate=150", b"one two three four five six\n"),
        ("rate=400;voice=en", b"one two three four five six\n"),
    ]:
        say(f"{options};file={tmp_path}/said.wav", context, make_firing(message))
        lengths.append(len(samples(tmp_path / "said.wav")))
    assert lengths[0] < lengths[1] > lengths[2]


@pytest.mark.usefixtures("espeak")
def test_an_unknown_voice_is_a_failure(context: ActionContext, make_firing: Make) -> None:
    """What the program says of it is in the error, and it is not tried again."""
    with pytest.raises(ActionError, match=r"espeak-ng ended with status 1: .*voice") as caught:
        say("voice=no such voice", context, make_firing())
    assert not caught.value.retry


def test_the_text_is_on_stdin_and_nowhere_else(
    fake: Callable[[str], Path], context: ActionContext, make_firing: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No argument and no variable holds any of it; options that look like options stay values."""
    monkeypatch.setenv("ALARM_MW_SOCKET", "/nowhere")
    place = fake(RECORD)
    say("voice=-w $(touch x);rate=200", context, make_firing(b"-w SECRET; $(touch y)\n"))
    assert (place / "arguments").read_text().splitlines() == [
        "--stdin",
        "-b",
        "1",
        "-v",
        "-w $(touch x)",
        "-s",
        "200",
    ]
    assert (place / "text").read_text() == "-w SECRET; $(touch y)"
    assert "SECRET" not in (place / "environment").read_text()
    assert "ALARM_MW_" not in (place / "environment").read_text()
    assert not (place / "x").exists()
    assert not (place / "y").exists()


def test_nothing_to_say_is_the_alarms_name(
    fake: Callable[[str], Path], context: ActionContext, make_firing: Make
) -> None:
    """A line of control characters only is announced all the same."""
    place = fake(RECORD)
    say("", context, make_firing(b"\x07\x1b\n"))
    assert (place / "text").read_text() == "alarm test"


def test_who_speaks_for_too_long_is_cut_off(
    fake: Callable[[str], Path], context: ActionContext, make_firing: Make
) -> None:
    """The program is ended, and the message is not said again."""
    fake("exec sleep 60")
    with pytest.raises(ActionError, match=r"not all was said within 0\.05 seconds") as caught:
        say("timeout=0.05", context, make_firing())
    assert not caught.value.retry


def test_a_voice_that_ends_without_listening(
    fake: Callable[[str], Path], context: ActionContext, make_firing: Make
) -> None:
    """Its exit status counts; what it did not read does no harm."""
    fake("exit 0")
    say("length=10000", context, make_firing(b"word " * 10_000))
    fake("exit 3")
    with pytest.raises(ActionError, match=r"espeak-ng ended with status 3$"):
        say("", context, make_firing())


def test_a_program_that_has_gone_may_come_back(
    fake: Callable[[str], Path], context: ActionContext, make_firing: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be started is tried again."""
    place = fake("exit 0")
    action = SpeechAction(SpeechOptions(), context)
    (place / "espeak-ng").unlink()
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(ActionError, match="espeak-ng could not be started") as caught:
        action.deliver(make_firing())
    assert caught.value.retry


def test_it_falls_silent_at_the_end(fake: Callable[[str], Path], context: ActionContext, make_firing: Make) -> None:
    """Leaving the action ends what is still being said."""
    place = fake("cat > text; touch begun; exec sleep 60")

    async def scene() -> None:
        async with SpeechAction(SpeechOptions(), context) as action:
            saying = asyncio.create_task(asyncio.to_thread(action.deliver, make_firing()))
            await asyncio.to_thread(wait_for, place / "begun")
        with pytest.raises(ActionError, match="status -9"):
            await saying

    asyncio.run(scene())


def wait_for(file: Path) -> None:
    deadline, pause = time.monotonic() + 20, threading.Event()
    while not file.exists():
        assert time.monotonic() < deadline
        pause.wait(0.005)


def test_without_a_program_it_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="'espeak-ng', which is not installed: apt-get install espeak-ng"):
        SpeechAction.from_uwsgi("")


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ("voise=x", "did you mean 'voice'"),
        ("rate=-1", "rate"),
        ("file=no/such/place/x.wav", "in no directory"),
        ("voice=a\0b", "NUL"),
        ("timeout=0", "timeout"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_mistakes_are_told_at_the_start(args: str, problem: str) -> None:
    """Not at the first alarm."""
    with pytest.raises(OptionError, match=problem):
        SpeechAction.from_uwsgi(args)


def test_the_program_is_chosen_by_the_system() -> None:
    """Say on macOS, espeak-ng elsewhere."""
    programs = {system: speaker_of(system).program for system in ("darwin", "linux", "freebsd14")}
    assert programs == {"darwin": "say", "linux": "espeak-ng", "freebsd14": "espeak-ng"}


def test_says_command_line() -> None:
    """The text comes from standard input; a file is a WAV file."""
    command = speaker_of("darwin").command
    assert command(Manner()) == ("say", "-f", "-")
    assert command(Manner("Alex", 180, "-x.wav")) == (
        *("say", "-v", "Alex", "-r", "180", "-o", "-x.wav"),
        *("--file-format=WAVE", "--data-format=LEI16@22050", "-f", "-"),
    )


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"ERR  x\n", "ERR x"),
        (b"a\x01+10sb\x1b[31m\r\n", "a +10sb [31m"),
        (b"[[slnc 9999]] [[[x", "[ [slnc 9999]] [ [ [x"),
        ("a [\u00ad[h@l'oU]] [\u200c[x".encode(), "a [ [h@l'oU]] [ [x"),
        (b"caf\xc3\xa9 \xff\xe2\x80\xae\n", "café"),
        (b"first\nsecond\n", "first second"),
        (b"0123456789abc", "012345678…"),
    ],
)
def test_what_is_spoken_of_a_message(message: bytes, text: str) -> None:
    """One line, bounded, of which nothing is a command to a voice."""
    assert speakable(message, 10 if message[:1] == b"0" else 100) == text


@given(st.binary(max_size=60) | st.text("[\x01 a", max_size=20).map(str.encode), st.integers(1, 40))
def test_no_message_commands_a_voice(message: bytes, limit: int) -> None:
    """For every message."""
    text = speakable(message, limit)
    assert len(text) <= limit
    assert "[[" not in text
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
