"""What a recogniser gives: the text and commands of a recording, the events of a stream."""

import dataclasses
import enum
from typing import Any


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a bundle with a grammar.

    `confidence` is the geometric mean of the probabilities of the command's tokens, the end counted
    as one.  They are the joint probabilities of attention and CTC, given the commands before it.  A
    slot's confidence is that times the share of its value among all texts of the beam, each
    weighted by its score.

    If the product of the confidences of a window's commands is below the grammar's `reject_below`,
    all of them are rejected: other speech often looks like several commands.
    """

    text: str
    intent: str
    slots: dict[str, str]
    confidence: float  # 0 to 1
    slot_confidence: dict[str, float]  # by slot
    start: float  # seconds from the beginning of the audio
    end: float
    # By slot, how it was said, if its value is not in these words: "seventy five" for "75".
    said: dict[str, str] = dataclasses.field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """All fields, rounded, as the tools print them in JSON."""
        fields = {
            "text": self.text,
            "intent": self.intent,
            "slots": self.slots,
            "confidence": round(self.confidence, 4),
            "slot_confidence": {k: round(v, 4) for k, v in self.slot_confidence.items()},
            "start": round(self.start, 2),
            "end": round(self.end, 2),
        }
        return {**fields, "said": self.said} if self.said else fields


@dataclasses.dataclass(frozen=True)
class Segment:
    """The result for one piece of the audio."""

    start: int  # samples from the beginning of the audio
    end: int
    text: str  # empty if there is no speech, or no command
    tokens: tuple[int, ...]  # phones, if the grammar is over them
    score: float  # log probability, see search.beam.Hypothesis
    ended: bool  # False if the limit on tokens cut the text off
    frontend_seconds: float
    encoder_seconds: float
    step_seconds: tuple[float, ...]  # of each decoder step
    commands: tuple[Command, ...] = ()  # of a bundle with a grammar
    free_text: str | None = None  # CTC's own text, or its phones, if held to a grammar
    confidence: float | None = None  # of the whole text, a rejected one too
    speech: tuple[float, float] | None = None  # seconds, from CTC's first token to its last

    @property
    def command_confidence(self) -> float:
        """Confidence of the commands; 0 without one."""
        return (self.confidence or 0.0) if self.commands else 0.0


@dataclasses.dataclass(frozen=True)
class Transcription:
    """The result for a whole recording."""

    text: str
    tokens: tuple[int, ...]  # of all segments
    score: float  # sum over the segments
    audio_seconds: float
    seconds: float  # of computing, in total
    segments: tuple[Segment, ...]  # none for silence
    warning: str | None = None  # a sentence on what is suspicious about the sound

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(command for segment in self.segments for command in segment.commands)


class EventKind(str, enum.Enum):
    """Kinds of `Event`."""

    SPEECH_BEGAN = "speech_began"
    EARLY_TEXT = "early_text"  # the text so far, at a pause in which speech may have ended
    SPEECH_ENDED = "speech_ended"
    TEXT = "text"  # final; of a bundle without a grammar
    COMMAND = "command"
    REJECTED = "rejected"  # speech that is no command; of a bundle with a grammar


@dataclasses.dataclass(frozen=True)
class Event:
    """What happened in a stream."""

    kind: EventKind
    start: int  # samples into the stream at 16 kHz, of the speech
    end: int  # likewise; of SPEECH_BEGAN equal to `start`
    text: str = ""  # of REJECTED, CTC's own text
    confidence: float | None = None  # 0 to 1; None if there is no text
    command: Command | None = None  # of COMMAND; its seconds count from the stream's beginning
