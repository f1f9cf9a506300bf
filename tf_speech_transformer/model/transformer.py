"""The Speech-Transformer of Bie et al. (arXiv 1911.03604). For shapes see `dimensions.py`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from firmware_sim.grammar.phones import PHONE_COUNT
from tf_speech_transformer.model import quantization, rotation
from tf_speech_transformer.model.blocks import Block, CausalConvolution, VggBlock
from tf_speech_transformer.model.dimensions import TIME_REDUCTION, Dimensions
from tf_speech_transformer.model.layers import (
    Dropout,
    Elementwise,
    Embedding,
    LayerNorm,
    reshape,
    shape_of,
)
from tf_speech_transformer.model.quantization import LayerFactory

MOST_POSITIONS = 2048  # memory frames or tokens, if the model has sinusoids
FLOAT_MASK_VALUE = -1e4  # what a masked score gets in the float model


def positions_of(dims: Dimensions, length: int) -> np.ndarray:
    """What the model adds to its streams, float32 [length, D]."""
    table = sinusoids(length, dims.d_model)
    return table @ rotation.matrix(dims.d_model) if dims.rotated else table


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Sinusoidal positional encoding, float32 [length, channels] (Vaswani et al., 3.5)."""
    rates = np.exp(-math.log(10000.0) * np.arange(channels // 2) / (channels // 2))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class SpeechTransformer(keras.Model):
    """Encoder and decoder.

    `make` is `quantization.in_float` or `quantization.in_eight_bits`; the variables of the float
    model are, by name, a subset of those of the quantization-aware one.
    """

    def __init__(self, dims: Dimensions, make: LayerFactory, **kwargs):
        super().__init__(**kwargs)
        self.dims = dims
        self.quantized = make is quantization.in_eight_bits
        self.mask_value = quantization.MASK_VALUE if self.quantized else FLOAT_MASK_VALUE
        self.generator = tf.random.Generator.from_seed(dims.dropout_seed)
        self._make_encoder(make)
        self._make_decoder(make)

    def _make_encoder(self, make: LayerFactory) -> None:
        dims, generator, identity = self.dims, self.generator, keras.layers.Activation
        self.features = make(identity("linear", name="features"), output=quantization.FEATURES)
        self.mask = make(identity("linear", name="mask"), output=quantization.MASK)
        self.front_end = [
            VggBlock(make, channels, dims.strided, dims.front_end_epsilon, name=f"vgg_{i}")
            for i, channels in enumerate(dims.conv_channels)
        ]
        self.front_end_linear = make(
            keras.layers.Dense(dims.d_model, name="front_end_linear"), weights=("kernel",)
        )
        if dims.encoder_positions:
            self.positions = make(
                identity("linear", name="positions"), output=quantization.positions(dims.rotated)
            )
            self.positions_sum = make(Elementwise(tf.add, name="positions_sum"))
        self.dropout = Dropout(dims.dropout, generator)
        self.encoder = [
            Block(make, dims, generator, decoder=False, name=f"encoder_{i}")
            for i in range(dims.encoder_layers)
        ]
        self.encoder_linear = make(
            keras.layers.Dense(dims.d_model, name="encoder_linear"), weights=("kernel",)
        )
        self.encoder_norm = LayerNorm(make, symmetric=True, name="encoder_norm")
        self.ctc = None
        if dims.ctc:
            self.ctc = make(keras.layers.Dense(dims.vocabulary, name="ctc"), weights=("kernel",))
        self.phones = None
        if dims.phones:
            head = keras.layers.Dense(PHONE_COUNT, name="phones")
            self.phones = make(head, weights=("kernel",))

    def _make_decoder(self, make: LayerFactory) -> None:
        dims, generator, identity = self.dims, self.generator, keras.layers.Activation
        self.embedding = make(
            Embedding(
                dims.vocabulary,
                dims.d_embedding if dims.decoder_convolutions else dims.d_model,
                embeddings_initializer=keras.initializers.RandomNormal(0, 0.5),
                name="embedding",
            ),
            weights=("embeddings",),
            same_scale=True,
        )
        if dims.decoder_convolutions:
            self.convolutions = [
                CausalConvolution(make, channels, name=f"convolution_{i}")
                for i, channels in enumerate(dims.decoder_convolutions)
            ]
            self.decoder_linear = make(
                keras.layers.Dense(dims.d_model, name="decoder_linear"), weights=("kernel",)
            )
        if dims.decoder_positions:
            self.decoder_positions = make(
                identity("linear", name="decoder_positions"),
                output=quantization.positions(dims.rotated),
            )
            self.decoder_positions_sum = make(Elementwise(tf.add, name="decoder_positions_sum"))
        self.decoder = [
            Block(make, dims, generator, decoder=True, name=f"decoder_{i}")
            for i in range(dims.decoder_layers)
        ]
        self.decoder_norm = LayerNorm(make, name="decoder_norm")
        self.logits = make(keras.layers.Dense(dims.vocabulary, name="logits"), weights=("kernel",))

    @property
    def trained_variables(self) -> list[tf.Variable]:
        """The variables that an optimizer may change: TFMOT's wrapper claims the constants too."""
        return [v for v in self.trainable_variables if "mean_kernel" not in v.name]

    def hidden_matrix(self, variable: tf.Variable) -> bool:
        """Whether a variable is a matrix [M, N] between streams: no embedding, no head."""
        ends = (self.embedding, self.logits, self.ctc, self.phones)
        outside = {v.ref() for layer in ends if layer for v in layer.weights}
        return len(variable.shape) == 2 and variable.ref() not in outside

    def settle(self) -> None:
        """Adjusts the ranges of 8 bits, once estimated, to what every runtime computes alike."""
        for layer in self.submodules:
            if isinstance(layer, LayerNorm):
                layer.settle()

    def memory_mask(self, frames: tf.Tensor, memory_frames: int) -> tf.Tensor:
        """[B, 1, 1, S]: 0 where there is speech, `mask_value` beyond; `frames` int32 [B]."""
        length = (frames + TIME_REDUCTION - 1) // TIME_REDUCTION
        valid = tf.sequence_mask(length, memory_frames)[:, None, None, :]
        return tf.where(valid, 0.0, self.mask_value)

    def encode(self, features, memory_mask, training=False):
        """features [B, T, F], memory_mask [B, 1, 1, S] -> memory [B, S, D], CTC [B, S, V] or None
        without that head."""
        memory = self.remember(self.streams(features, memory_mask, training)[-1], training)
        return memory, self.ctc(memory, training=training) if self.ctc else None

    def streams(self, features, memory_mask, training=False) -> list[tf.Tensor]:
        """What each layer of the encoder gives, [B, S, D]."""
        x = self.features(features, training=training)[..., None]
        for block in self.front_end:
            x = block(x, training=training)
        x = reshape(x, [None, None, x.shape[2] * x.shape[3]])
        x = self.front_end_linear(x, training=training)
        mask = self.mask(memory_mask, training=training)
        if self.dims.encoder_positions:
            table = tf.constant(positions_of(self.dims, MOST_POSITIONS))
            length = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
            positions = self.positions(table[None, :length], training=training)
            x = self.positions_sum([x, positions], training=training)
        streams = [self.dropout(x, training=training)]
        for block in self.encoder:
            streams.append(block(streams[-1], mask, training=training)[0])
        return streams

    def remember(self, x, training=False):
        """A stream [B, S, D] -> what the heads and the decoder read of it."""
        return self.encoder_norm(self.encoder_linear(x, training=training), training=training)

    def decode(self, tokens, memory, memory_mask, lengths=None, training=False):
        """All positions at once: tokens int32 [B, U], beginning with <s> -> logits [B, U, V].

        Positions beyond `lengths` int32 [B], if given, repeat the last one within: what never
        occurs on a device must not widen the ranges of its quantizers.
        """
        everywhere = tf.range(tf.shape(tokens)[1])
        positions = everywhere[None]
        if lengths is not None:
            positions = tf.minimum(positions, lengths[:, None] - 1)  # [B, U]
            tokens = tf.gather(tokens, positions, batch_dims=1)
        table = None
        if self.dims.decoder_positions:
            table = tf.gather(positions_of(self.dims, MOST_POSITIONS), positions)
        x, _ = self.embed(self.embedding(tokens, training=training), table, training=training)
        if lengths is not None and self.dims.decoder_convolutions:
            x = tf.gather(x, positions, batch_dims=1)
        future = tf.cast(everywhere > positions[:, None, :, None], tf.float32)  # [B or 1, 1, U, U]
        mask = self.mask(future * self.mask_value, training=training)
        memory_mask = self.mask(memory_mask, training=training)
        x = self.dropout(x, training=training)
        for block in self.decoder:
            x, _ = block(x, mask, memory, memory_mask, training=training)
        return self.logits(self.decoder_norm(x, training=training), training=training)

    def embed(self, x, positions, windows=None, training=False):
        """Embeddings [B, U, E] -> what goes into the decoder's layers [B, U, D], and the rows that
        each of its convolutions reads, [B, U, C].

        positions [.., U, D] are sinusoids, if the model adds them; `windows` are the two rows
        [B, 2, C] before these of each convolution, 0.0 at the beginning of a text.
        """
        read = []
        if self.dims.decoder_convolutions:
            source = self.embedding
            for i, convolution in enumerate(self.convolutions):
                batch, _, channels = shape_of(x)
                before = tf.zeros([batch, CausalConvolution.WIDTH - 1, channels])
                before = quantization.output_quantized(source, windows[i] if windows else before)
                read.append(x)
                x = convolution(x, before, training=training)
                source = convolution.affine
            x = self.decoder_linear(x, training=training)
        if self.dims.decoder_positions:
            positions = self.decoder_positions(positions, training=training)
            x = self.decoder_positions_sum([x, positions], training=training)
        return x, read

    def decode_step(
        self, token, self_mask, memory_mask, caches, memory, windows=None, position=None
    ):
        """One token -> logits [B, V], a row [B, 1, D] for each layer's cache, and a row [B, 1, C]
        for the window of each convolution.

        token: one-hot float [B, 1, V]; self_mask [B, 1, 1, N + 1]; `caches`: each layer's rows of
        earlier tokens [B, N, D]; `memory` [B, S, D]; `windows`: the two rows [B, 2, C] before, of
        each convolution; `position`: one-hot float [B, 1, N], if the decoder has positions.  A
        device calls it with B = 1.
        """
        mask = self.mask(self_mask)
        memory_mask = self.mask(memory_mask)
        memory = quantization.output_quantized(self.encoder_norm.normalise, memory)
        x = quantization.pick(self.embedding, token)
        if self.dims.decoder_positions:
            table = tf.constant(positions_of(self.dims, position.shape[-1]))
            position = quantization.pick_position(
                position, table, self.quantized, self.dims.rotated
            )
        x, newest = self.embed(x, position, windows)
        rows = []
        for block, cache in zip(self.decoder, caches, strict=True):
            cache = quantization.output_quantized(block.attention_norm.normalise, cache)
            x, row = block(x, mask, memory, memory_mask, cache)
            rows.append(row)
        logits = self.logits(self.decoder_norm(x))
        return reshape(logits, [None, self.dims.vocabulary]), rows, newest

    def hear(self, features, frames, training=False, between=()) -> "Outputs":
        """features [B, T, F], frames [B] -> the outputs of the encoder's heads, without logits.

        `between`: numbers of layers whose streams the head of phones reads as well.
        """
        mask = self.memory_mask(frames, tf.shape(features)[1] // TIME_REDUCTION)
        streams = self.streams(features, mask, training)
        memory = self.remember(streams[-1], training)
        ctc = self.ctc(memory, training=training) if self.ctc else None
        if not self.phones:
            return Outputs(None, ctc, None, memory)
        phones = self.phones(memory, training=training)
        early = [self.phones(self.remember(streams[i], training)) for i in between]
        return Outputs(None, ctc, phones, memory, early)

    def call(self, inputs, training=False, between=()) -> "Outputs":
        """inputs: features [B, T, F], frames [B], tokens [B, U]; where texts are padded, also how
        many tokens they have: token_lengths [B]. `between`: as in `hear`."""
        features, frames = inputs["features"], inputs["frames"]
        heard = self.hear(features, frames, training=training, between=between)
        mask = self.memory_mask(frames, tf.shape(features)[1] // TIME_REDUCTION)
        lengths = inputs.get("token_lengths")
        logits = self.decode(inputs["tokens"], heard.memory, mask, lengths, training=training)
        return heard._replace(logits=logits)


class Outputs(NamedTuple):
    """What the model makes of a batch; None for what it does not have, or was not asked for."""

    logits: tf.Tensor | None  # [B, U, V]
    ctc: tf.Tensor | None  # [B, S, V]
    phones: tf.Tensor | None  # [B, S, phones and blank]
    memory: tf.Tensor  # [B, S, D]
    early_phones: Sequence[tf.Tensor] = ()  # as `phones`, of layers between


def build(dims: Dimensions, quantized: bool, bfloat16: bool = False) -> SpeechTransformer:
    """A model with its variables made (a first call on two tokens and a few frames).

    `bfloat16`: the float model multiplies in it, in training and elsewhere.
    """
    make: LayerFactory = quantization.in_float
    if quantized:
        make = quantization.in_eight_bits
    elif bfloat16:
        make = quantization.in_bfloat16
    model = SpeechTransformer(dims, make)
    model(
        {
            "features": tf.zeros([2, 16, dims.feature_channels]),
            "frames": tf.constant([16, 12]),
            "tokens": tf.zeros([2, 3], tf.int32),
        }
    )
    return model
