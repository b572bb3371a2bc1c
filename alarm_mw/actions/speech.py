"""``speech:``: says the message aloud."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

from msgspec import Meta

from alarm_mw import texts
from alarm_mw.model import keyvalue
from alarm_mw.model.errors import ActionError, MissingError
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing

#: The start of a command inside the text: phonemes for espeak-ng, commands for say.
_COMMAND = "[["

#: Characters that a voice would spell out, or obey (espeak-ng accepts commands after a control character).
_UNSPOKEN = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\s+")


@dataclass(frozen=True, slots=True)
class Manner:
    """How to speak: an empty voice or file and a rate of 0 leave it to the program."""

    voice: str = ""
    #: Words a minute.
    rate: int = 0
    #: A WAV file to be written instead of sound.
    file: str = ""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A program that speaks."""

    program: str
    #: How to install it, in a sentence.
    remedy: str
    #: Returns its command line; the text is for its standard input.
    command: Callable[[Manner], tuple[str, ...]]


def speaker_of(platform: str) -> Speaker:
    """Return the program that speaks on a system: `platform` is Python's ``sys.platform``."""
    return SAY if platform == "darwin" else ESPEAK


def _espeak(manner: Manner) -> tuple[str, ...]:
    # `-b 1` is UTF-8, whatever the locale.
    return ("espeak-ng", "--stdin", "-b", "1", *_flags(manner, voice="-v", rate="-s", file="-w"))


def _say(manner: Manner) -> tuple[str, ...]:
    wav = ("--file-format=WAVE", "--data-format=LEI16@22050") if manner.file else ()
    return ("say", *_flags(manner, voice="-v", rate="-r", file="-o"), *wav, "-f", "-")


def _flags(manner: Manner, *, voice: str, rate: str, file: str) -> tuple[str, ...]:
    pairs = ((voice, manner.voice), (rate, str(manner.rate or "")), (file, manner.file))
    return tuple(word for flag, value in pairs if value for word in (flag, value))


def speakable(message: bytes, limit: int) -> str:
    """Return at most `limit` characters of `message` as text that no voice takes for a command, on one line."""
    # espeak-ng passes over some format characters, as a soft hyphen, and would see a command around one.
    heard = (char for char in printable(message) if unicodedata.category(char) != "Cf")
    text = _UNSPOKEN.sub(" ", "".join(heard)).strip()
    while _COMMAND in text:
        text = text.replace(_COMMAND, "[ [")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


ESPEAK = Speaker("espeak-ng", "apt-get install espeak-ng", _espeak)
SAY = Speaker("say", "it is part of macOS", _say)


#: Bytes of the end of the program's errors that an error quotes.
STDERR_TAIL = 1_000

#: Ours, for the application only.
_OWN = "ALARM_MW_"


class SpeechOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `speech`."""

    voice: Annotated[str, Meta(description="the voice, as the program names it; the program's default if empty")] = ""
    rate: Annotated[int, Meta(ge=0, le=1000, description="words per minute; 0 means the program's default")] = 0
    file: Annotated[str, Meta(description="a WAV file to write instead of speaking; the next message replaces it")] = ""
    length: Annotated[int, Meta(ge=1, le=10_000, description="maximum number of characters that are spoken")] = 250
    timeout: Annotated[float, Meta(gt=0, description="time limit of a message in seconds; then it is cut off")] = 25.0

    def __post_init__(self) -> None:
        """Raise an error for what would fail at the first alarm, `MissingError` where no program speaks."""
        if "\0" in self.voice + self.file:
            raise ValueError("voice and file cannot hold NUL characters")
        if self.file and not os.path.isdir(Path(self.file).absolute().parent):
            raise ValueError(f"file {self.file!r} is in no directory that exists")
        speaker = speaker_of(sys.platform)
        if shutil.which(speaker.program) is None:
            raise MissingError(
                f"speech needs the program {speaker.program!r}, which is not installed: {speaker.remedy}"
            )

    @property
    def manner(self) -> Manner:
        """Return the options for the program."""
        return Manner(self.voice, self.rate, self.file)


class SpeechAction:
    """Speaks the message, with `espeak-ng`, or on macOS with `say`.

    The message is passed on the program's standard input, without anything that a voice could read as a command. A
    failed message is not tried again, because hours later it would only confuse.
    """

    Options: ClassVar[type[PluginOptions]] = SpeechOptions
    concurrency: ClassVar[int] = 1

    def __init__(self, options: SpeechOptions, context: ActionContext) -> None:
        self._options = options
        self._context = context
        self._command = speaker_of(sys.platform).command(options.manner)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def from_uwsgi(cls, args: str) -> SpeechOptions:
        """Return the options of ``speech:key=value;…``; uWSGI has none."""
        return keyvalue.build(SpeechOptions, dict(keyvalue.split(args)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop speaking."""
        if (process := self._process) is not None:  # a thread sets it
            process.kill()

    def preview(self, firing: Firing) -> str:
        """Return the spoken text."""
        return speakable(_spoken(firing, self._context), self._options.length) or f"alarm {firing.alarm}"

    def deliver(self, firing: Firing) -> None:
        """Speak; return when everything is spoken."""
        text = self.preview(firing)
        try:
            status, complaint = self._speak(text.encode())
        except OSError as error:
            raise ActionError(f"{self._command[0]} could not be started: {error.strerror}", retry=True) from error
        except subprocess.TimeoutExpired as error:
            raise ActionError(f"not all was said within {self._options.timeout:g} seconds", retry=False) from error
        if status:
            said = f": {complaint}" if complaint else ""
            raise ActionError(f"{self._command[0]} ended with status {status}{said}", retry=False)

    def _speak(self, text: bytes) -> tuple[int, str]:
        with start(self._command) as process:
            self._process = process
            try:
                _, complaint = process.communicate(text, self._options.timeout)
            finally:
                process.kill()
                self._process = None
        return process.returncode, printable(complaint.strip()[-STDERR_TAIL:])


def _spoken(firing: Firing, context: ActionContext) -> bytes:
    """Return the spoken text: the alarm's text, or the title alone, without a traceback."""
    if context.texts is None:
        return texts.said(firing)
    message = texts.message_for(firing, context)
    return (message.own_text() or message.title()).encode()


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the program, without what would make it a source of lines."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=inherited,
        start_new_session=True,
    )
