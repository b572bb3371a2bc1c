"""The action `speech`: says the message aloud."""

from alarm_mw.actions.speech.action import SpeechAction, SpeechOptions

__all__ = ["SpeechAction", "SpeechOptions"]
