"""The programs that speak: which one this system has, and how it is told to."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from alarm_mw.model.printable import printable

#: What begins a command to the voice inside of the text: phonemes for espeak-ng, commands for say.
_COMMAND = "[["

#: What a voice would spell out, or obey (espeak-ng takes commands behind a control character).
_UNSPOKEN = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\s+")

#: Reads the text from its input; what else it is told stands in its environment, so that nothing has to be quoted.
_SAPI = """\
$ErrorActionPreference = 'Stop'
Add-Type -AssemblyName System.Speech
$speech = New-Object System.Speech.Synthesis.SpeechSynthesizer
if ($env:SPEECH_VOICE) { $speech.SelectVoice($env:SPEECH_VOICE) }
if ($env:SPEECH_RATE) { $speech.Rate = [int]$env:SPEECH_RATE }
if ($env:SPEECH_FILE) { $speech.SetOutputToWaveFile($env:SPEECH_FILE) }
$stdin = [Console]::OpenStandardInput()
$reader = New-Object System.IO.StreamReader -ArgumentList $stdin, ([System.Text.Encoding]::UTF8)
$speech.Speak($reader.ReadToEnd())
$speech.Dispose()
"""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to speak: an empty voice or file and a rate of 0 leave it to the program."""

    voice: str = ""
    #: Words a minute.
    rate: int = 0
    #: A WAV file to be written instead of sound.
    file: str = ""


@dataclass(frozen=True, slots=True)
class Speech:
    """A program with its arguments and what is added to its environment; the text is for its standard input."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A program that speaks."""

    program: str
    #: The sentence that says how to get it.
    remedy: str
    speech: Callable[[Manner], Speech]


def speaker_of(platform: str) -> Speaker:
    """Return the program that speaks on a system: `platform` is Python's ``sys.platform``."""
    return {"darwin": SAY, "win32": SAPI}.get(platform, ESPEAK)


def _espeak(manner: Manner) -> Speech:
    # `-b 1` is UTF-8, whatever the locale.
    return Speech(("espeak-ng", "--stdin", "-b", "1", *_flags(manner, voice="-v", rate="-s", file="-w")))


def _say(manner: Manner) -> Speech:
    wav = ("--file-format=WAVE", "--data-format=LEI16@22050") if manner.file else ()
    return Speech(("say", *_flags(manner, voice="-v", rate="-r", file="-o"), *wav, "-f", "-"))


def _sapi(manner: Manner) -> Speech:
    rate = str(sapi_rate(manner.rate)) if manner.rate else ""
    facts = {"SPEECH_VOICE": manner.voice, "SPEECH_RATE": rate, "SPEECH_FILE": manner.file}
    return Speech(("powershell", "-NoProfile", "-NonInteractive", "-Command", _SAPI), facts)


def _flags(manner: Manner, *, voice: str, rate: str, file: str) -> tuple[str, ...]:
    pairs = ((voice, manner.voice), (rate, str(manner.rate or "")), (file, manner.file))
    return tuple(word for flag, value in pairs if value for word in (flag, value))


def sapi_rate(words: int) -> int:
    """Return SAPI's rate, -10 to 10, for words a minute: it speaks 3 times as fast at 10 as at 0, about 200 words."""
    return max(-10, min(10, round(10 * math.log(words / 200, 3))))


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
SAPI = Speaker("powershell", "it is part of Windows", _sapi)
