"""Augmentation of speech: rate, room, microphone, noise, telephone, level.

A `Channel` is one random draw of them. It may process several pieces of audio, so that all units of
a joined string share a room and a microphone. Audio is float32 at 16 kHz, about -1 to 1.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import soxr

from tf_speech_transformer.corpora.features import SAMPLE_RATE, FrontendParameters

WARP_FRAMES = 40  # between two knots of the tempo


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Probabilities and strengths. A pair is a range (lowest, highest) of a uniform draw."""

    speed: tuple[float, float] = (
        0.84,
        1.2,
    )  # resampling: changes rate, pitch and formants
    tempo: float = 0.3  # probability of another rate with the same pitch
    tempo_factor: tuple[float, float] = (0.8, 1.3)
    equalizer: float = 0.7  # probability
    equalizer_db: float = 10.0  # largest gain or loss of a band
    room: float = 0.45  # probability, as are the other single numbers below
    decay: tuple[float, float] = (0.06, 0.6)  # seconds to -60 dB
    direct_db: tuple[float, float] = (-3.0, 15.0)  # of the direct sound over the reverberation
    noise: float = 0.75
    snr_db: tuple[float, float] = (4.0, 40.0)
    noise_slope: tuple[float, float] = (0.0, 2.0)  # 0 white, 1 pink, 2 brown
    hum: float = 0.1
    narrow_band: float = 0.5  # sampled at 8 kHz
    telephone: float = 0.3  # of narrow-band audio: only 300 to 3400 Hz
    companding: float = 0.15  # 8-bit mu-law
    eight_bits: float = 0.05  # plain 8-bit samples
    offset: float = 0.1  # a constant added to every sample
    clipping: float = 0.1
    peak_db: tuple[float, float] = (-26.0, -0.5)
    close_cut: float = 0.6  # clips begin and end at a level below their peak
    cut_db: tuple[float, float] = (14.0, 35.0)  # that level, below the peak
    silence: tuple[float, float] = (0.0, 0.6)  # seconds, before and after
    clips: float = 0.5  # pieces are recorded one by one, then joined
    waiting: float = 0.0  # a longer silence before and after
    waiting_seconds: tuple[float, float] = (0.5, 4.0)  # length of each of the two
    surroundings: float = 0.0  # noise is that of a place: clatter, motors, people
    recorded_noise: float = 0.0  # noise is a recording, if there are any
    recorded_room: float = 0.0  # a room is a recorded response, if there are any


@dataclasses.dataclass(frozen=True)
class Places:
    """Recorded noises and impulse responses of rooms: float32 [samples] each, 16 kHz."""

    noises: tuple[np.ndarray, ...] = ()
    responses: tuple[np.ndarray, ...] = ()


NOWHERE = Places()


def read_pieces(file: Path) -> tuple[np.ndarray, ...]:
    """Reads sounds, float32 [samples] each, from an .npz file.

    Its `samples` are all sounds in a row; `lengths` are those of the sounds.
    """
    with np.load(file) as archive:
        samples, ends = archive["samples"].astype(np.float32), np.cumsum(archive["lengths"])
    return tuple(np.split(samples, ends[:-1]))


class Channel:
    """One draw of the augmentation."""

    def __init__(
        self,
        augmentation: Augmentation,
        rng: np.random.Generator,
        babble: list[np.ndarray] | None = None,
        places: Places = NOWHERE,
    ):
        """`babble`: speech of other people for `surroundings`, float32 [samples] each."""
        a, self.rng = augmentation, rng
        self.speed = float(np.exp(rng.uniform(*np.log(a.speed))))
        self.tempo = 1.0
        if rng.random() < a.tempo:
            self.tempo = float(np.exp(rng.uniform(*np.log(a.tempo_factor))))
        self.points = None
        if rng.random() < a.equalizer:
            bands = rng.integers(3, 8)
            self.points = rng.uniform(-a.equalizer_db, a.equalizer_db, bands)
        self.impulse = room_response(a, rng) if rng.random() < a.room else None
        self.snr_db = rng.uniform(*a.snr_db) if rng.random() < a.noise else None
        self.noise_slope = rng.uniform(*a.noise_slope)
        self.modulated = rng.random() < 0.3
        self.hum = rng.choice([50.0, 60.0]) if rng.random() < a.hum else None
        self.narrow_band = rng.random() < a.narrow_band
        self.telephone = self.narrow_band and rng.random() < a.telephone
        self.companding = rng.random() < a.companding
        self.eight_bits = rng.random() < a.eight_bits
        self.offset = rng.uniform(-0.02, 0.02) if rng.random() < a.offset else 0.0
        self.clipping = rng.uniform(1.2, 4.0) if rng.random() < a.clipping else None
        self.peak = 10 ** (rng.uniform(*a.peak_db) / 20)
        self.babble = babble or []
        # A feature that is off draws nothing, so that presets without it keep their other draws.
        self.surroundings = a.surroundings > 0 and rng.random() < a.surroundings
        self.noise = None
        if places.noises and rng.random() < a.recorded_noise:
            self.noise = places.noises[rng.integers(len(places.noises))]
        if places.responses and self.impulse is not None and rng.random() < a.recorded_room:
            self.impulse = places.responses[rng.integers(len(places.responses))]

    def change_speed(self, audio: np.ndarray) -> np.ndarray:
        """Changes rate, pitch and vocal tract: by the speed of the channel, give or take 4 %."""
        speed = self.speed * self.rng.uniform(0.96, 1.04)
        audio = soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE, quality="LQ")
        return audio if self.tempo == 1.0 else change_tempo(audio, self.tempo)

    def transmit(self, audio: np.ndarray, waiting: int = 0) -> np.ndarray:
        """Applies equalizer, room, noise, band limits and companding: float32 [samples].

        `waiting`: samples of silence in `audio`, which the level of the speech leaves out.
        """
        audio = self._filter(audio.astype(np.float32))
        spoken = max(1, len(audio) - waiting)
        level = float(np.sqrt(np.sum(audio**2, dtype=np.float64) / spoken)) + 1e-5
        if self.snr_db is not None:
            if self.noise is not None:
                noise = part_of_noise(self.noise, len(audio), self.rng)
            elif self.surroundings:
                noise = surroundings(len(audio), self.babble, self.rng)
            else:
                noise = coloured_noise(len(audio), self.noise_slope, self.rng)
            if self.modulated and not self.surroundings:
                knots = self.rng.uniform(0.1, 1.0, 3 + len(audio) // 4000)
                noise *= envelope(knots, len(audio)).astype(np.float32)
            audio = audio + noise * (level * 10 ** (-self.snr_db / 20))
        if self.hum is not None:
            time = np.arange(len(audio), dtype=np.float32) / SAMPLE_RATE
            audio = audio + 0.1 * level * np.sin(2 * np.pi * self.hum * time).astype(np.float32)
        if self.narrow_band:
            length = len(audio)
            low = soxr.resample(audio, SAMPLE_RATE, SAMPLE_RATE // 2, quality="MQ")
            if self.companding:
                low = compand(low)
            audio = soxr.resample(low, SAMPLE_RATE // 2, SAMPLE_RATE, quality="MQ")
            audio = np.pad(audio[:length], (0, max(0, length - len(audio))))
        return audio.astype(np.float32)

    def _filter(self, audio: np.ndarray) -> np.ndarray:
        if self.points is None and self.impulse is None and not self.telephone:
            return audio
        tail = 0 if self.impulse is None else len(self.impulse)
        size = scipy.fft.next_fast_len(len(audio) + tail, real=True)
        spectrum = scipy.fft.rfft(audio, size)
        frequency = np.linspace(0, SAMPLE_RATE / 2, len(spectrum), dtype=np.float32)
        if self.points is not None:
            octaves = np.log2(1 + frequency / 200)
            gains = np.interp(octaves, np.linspace(0, octaves[-1], len(self.points)), self.points)
            spectrum *= (10 ** (gains / 20)).astype(np.float32)
        if self.impulse is not None:
            spectrum *= scipy.fft.rfft(self.impulse, size)
        if self.telephone:
            spectrum *= 1 / (1 + (280 / np.maximum(frequency, 1)) ** 8)
            spectrum *= 1 / (1 + (frequency / 3450) ** 16)
        return scipy.fft.irfft(spectrum, size)[: len(audio)].astype(np.float32)

    def record(self, audio: np.ndarray) -> np.ndarray:
        """Applies level, clipping and offset: float [samples] to int16 [samples]."""
        peak = float(np.max(np.abs(audio))) if len(audio) else 0.0
        audio = audio * (self.peak / max(peak, 1e-4))
        if self.clipping is not None:
            audio = np.clip(audio * self.clipping, -self.peak, self.peak)
        if self.eight_bits:
            audio = np.rint(audio * 127) / 127
        audio = audio + self.offset
        return np.clip(np.rint(audio * 32767), -32768, 32767).astype(np.int16)


def change_tempo(audio: np.ndarray, factor: float) -> np.ndarray:
    """Speaks `factor` times as fast at the same pitch: WSOLA (Verhelst and Roelands 1993).

    Frames of 30 ms overlap by half. Each comes from within 6 ms of its due place: from the place
    that continues the last frame best.
    """
    frame, hop, reach = 480, 240, 96  # samples
    if len(audio) < 2 * frame + 2 * reach:
        return audio
    window = np.hanning(frame + 1)[:-1].astype(np.float32)
    count = int((len(audio) - frame - 2 * reach) / (hop * factor))
    out = np.zeros(count * hop + frame, np.float32)
    start = 0
    for k in range(count):
        if k:
            low = int(k * hop * factor)
            wanted = audio[start + hop : start + hop + frame : 2]
            around = audio[low : low + frame + 2 * reach : 2]
            if len(wanted) < frame // 2:
                break
            start = low + 2 * int(np.argmax(np.correlate(around, wanted, "valid")))
        out[k * hop : k * hop + frame] += window * audio[start : start + frame]
    return out


def room_response(a: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """An impulse response: direct sound, early reflections, exponential tail; float32 [samples]."""
    decay = rng.uniform(*a.decay)
    length = int(decay * SAMPLE_RATE)
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(length).astype(np.float32) * np.exp(-6.9 * time / decay)
    tail[: int(rng.uniform(0.002, 0.01) * SAMPLE_RATE)] = 0
    for _ in range(rng.integers(2, 7)):
        tail[rng.integers(16, max(17, min(length, 800)))] += rng.uniform(-3, 3)
    energy = float(np.sum(tail**2)) + 1e-9
    tail *= 10 ** (-rng.uniform(*a.direct_db) / 20) / np.sqrt(energy)
    tail[0] = 1.0
    return tail


def part_of_noise(noise: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of a recording, scaled to power 1: float32 [length]."""
    start = int(rng.integers(len(noise)))
    part = np.take(noise, np.arange(start, start + length), mode="wrap").astype(np.float32)
    return part / np.float32(np.sqrt(np.mean(part**2)) + 1e-9)


def coloured_noise(length: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of power 1 with a spectrum of 1 / frequency^slope: float32 [length]."""
    size = scipy.fft.next_fast_len(max(length, 16), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    frequency = np.maximum(np.arange(len(spectrum), dtype=np.float32), 20 * size / SAMPLE_RATE)
    noise = scipy.fft.irfft(spectrum * frequency ** (-slope / 2), size)[:length]
    return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


def surroundings(length: int, babble: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Noise of a place with people, scaled to power 1: float32 [length].

    Coloured noise, to which chance adds:
    - clatter: knocks of a few decaying resonances each;
    - a motor: harmonics of a slowly changing pitch;
    - water or steam: a band of noise that comes and goes;
    - talk of one to four voices.
    """
    noise = coloured_noise(length, rng.uniform(0.5, 2.2), rng)

    def add(sound: np.ndarray) -> None:
        nonlocal noise
        power = float(np.mean(sound**2)) + 1e-9
        noise = noise + sound * np.float32(10 ** (rng.uniform(-10, 12) / 20) / np.sqrt(power))

    if rng.random() < 0.5:
        add(clatter(length, rng))
    if rng.random() < 0.3:
        add(motor(length, rng))
    if rng.random() < 0.35:
        low = rng.uniform(200, 3000)
        band = band_noise(length, low, low * rng.uniform(1.5, 4.0), rng)
        knots = rng.uniform(0.0, 1.0, 3 + length // SAMPLE_RATE) ** 2
        add(band * envelope(knots, length))
    if babble and rng.random() < 0.4:
        talk = np.zeros(length, np.float32)
        for _ in range(rng.integers(1, 5)):
            voice = babble[rng.integers(len(babble))]
            talk += np.resize(np.roll(voice, rng.integers(len(voice))), length)
        add(talk)
    return (noise / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


def envelope(knots: np.ndarray, length: int) -> np.ndarray:
    """Straight lines between evenly spaced knots: float64 [length]."""
    return np.interp(np.linspace(0, len(knots) - 1, length), np.arange(len(knots)), knots)


def clatter(length: int, rng: np.random.Generator) -> np.ndarray:
    """Cups, cutlery, drawers: random knocks of a few resonances each; float32 [length]."""
    sound = np.zeros(length, np.float32)
    for _ in range(rng.poisson(rng.uniform(0.5, 5.0) * length / SAMPLE_RATE) + 1):
        decay = np.exp(rng.uniform(np.log(0.005), np.log(0.15)))
        time = np.arange(int(6 * decay * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
        knock = 0.3 * rng.standard_normal(len(time)).astype(np.float32) * np.exp(-time / 0.003)
        for _ in range(rng.integers(2, 7)):
            frequency = np.exp(rng.uniform(np.log(200), np.log(7500)))
            fade = np.exp(-time / (decay * rng.uniform(0.2, 1.0)))
            knock += rng.uniform(0.1, 1.0) * fade * np.sin(2 * np.pi * frequency * time)
        start = int(rng.integers(length))
        knock = knock[: length - start] * np.float32(np.exp(rng.normal(0, 1.0)))
        sound[start : start + len(knock)] += knock
    return sound


def motor(length: int, rng: np.random.Generator) -> np.ndarray:
    """A fan or a grinder: harmonics of a drifting pitch, and noise; float32 [length]."""
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    pitch = np.exp(rng.uniform(np.log(45), np.log(400)))
    drift = 1 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(0.05, 0.6) * time)
    phase = 2 * np.pi * np.cumsum(pitch * drift) / SAMPLE_RATE
    slope = rng.uniform(0.5, 2.0)
    harmonics = range(1, int(min(12, 7000 / pitch)) + 1)
    sound = sum(
        rng.uniform(0.2, 1.0) * k**-slope * np.sin(k * phase + rng.uniform(0, 6)) for k in harmonics
    )
    return (sound + rng.uniform(0, 1) * coloured_noise(length, 1.0, rng)).astype(np.float32)


def band_noise(length: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Noise between two frequencies in Hz; float32 [length]."""
    size = scipy.fft.next_fast_len(max(length, 16), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    frequency = np.arange(len(spectrum)) * SAMPLE_RATE / size
    spectrum[(frequency < low) | (frequency > high)] *= 0.03
    return scipy.fft.irfft(spectrum, size)[:length].astype(np.float32)


def compand(audio: np.ndarray) -> np.ndarray:
    """Rounds to 8-bit mu-law (the curve of G.711) and expands again: float32 [samples]."""
    peak = float(np.max(np.abs(audio))) + 1e-6
    curve = np.sign(audio) * np.log1p(255 * np.abs(audio) / peak) / np.log(256)
    curve = np.rint(curve * 127) / 127
    return (np.sign(curve) * (256 ** np.abs(curve) - 1) / 255 * peak).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def spec_augment(
    features: np.ndarray,
    frames: int,
    rng: np.random.Generator,
    channels_masked: int = 6,
    frames_masked: int = 16,
    masks: int = 2,
) -> None:
    """SpecAugment (Park et al. 2019): sets bands of channels and of frames to 0, in place.

    tensorflow-io has these masks too, but draws them from TensorFlow's global generator. A run that
    resumes within an epoch would then draw other masks than one that never stopped.

    Args:
        features: float32 [T, channels] of an utterance.
        frames: number of frames with speech; the rest of T is padding.
        channels_masked, frames_masked: widest masks. A mask hides at most a fifth of the frames.
        masks: number of masks of either kind.
    """
    for _ in range(masks):
        width = int(rng.integers(0, channels_masked + 1))
        low = int(rng.integers(0, features.shape[1] - width + 1))
        features[:, low : low + width] = 0
        width = int(rng.integers(0, min(frames_masked, frames // 5) + 1))
        first = int(rng.integers(0, frames - width + 1))
        features[first : first + width] = 0


def warp(
    features: np.ndarray,
    parameters: FrontendParameters,
    rng: np.random.Generator,
    tract: float = 0.08,
    tempo: float = 0.2,
) -> np.ndarray:
    """Changes the length of the vocal tract, and makes the tempo uneven.

    Another vocal tract moves frequencies (VTLP: Jaitly and Hinton 2013). An uneven tempo moves
    frames in time; their number stays the same.

    Args:
        features: float32 [T, channels] of an utterance.
        parameters: of the frontend that made them. They say where its channels lie.
        tract: largest relative change of a frequency.
        tempo: natural logarithm of the largest change of the local tempo.

    Returns:
        float32 [T, channels].
    """
    frames, channels = features.shape
    if frames > 1:
        knots = rng.uniform(-tempo, tempo, 2 + frames // WARP_FRAMES)
        places = np.cumsum(np.exp(envelope(knots, frames)))
        places = (places - places[0]) / (places[-1] - places[0]) * (frames - 1)
        features = _at(features, places)
    mel = np.linspace(
        _mel(parameters.lower_band_limit), _mel(parameters.upper_band_limit), channels + 2
    )[1:-1]
    hertz = 700 * np.expm1(mel / 1127) * (1 + rng.uniform(-tract, tract))
    places = (_mel(hertz) - mel[0]) / (mel[1] - mel[0])
    return np.ascontiguousarray(_at(features.T, np.clip(places, 0, channels - 1)).T)


def _mel(hertz: Any) -> Any:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def _at(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolates between rows at fractional `places`: float32 [len(places), columns]."""
    low = np.minimum(places.astype(np.int64), len(rows) - 2) if len(rows) > 1 else np.zeros(1, int)
    share = (places - low).astype(np.float32)[:, None]
    return rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share
