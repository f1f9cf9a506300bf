"""What fixes the shape of the model.

B: batch, T: feature frames, S = T / 4: memory frames, U: tokens, H: heads, D: d_model,
V: vocabulary, N: longest text on the device.
"""

import dataclasses

TIME_REDUCTION = 4  # feature frames for one memory frame


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Everything that fixes the shape of the model; defaults are the paper's proposed model."""

    vocabulary: int
    feature_channels: int = 80
    conv_channels: tuple[int, int] = (64, 128)  # of the first and the second VGG block
    strided: bool = False  # the first convolution of a block strides by 2 instead of a max-pooling
    d_model: int = 512
    heads: int = 8
    d_ff: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_positions: bool = False  # sinusoidal, added to the front-end's output
    decoder_positions: bool = False  # the same, added to the embeddings
    # Channels of causal convolutions over the embeddings, one after the other, as Mohamed et al.
    # (arXiv 1904.11660) have them, and the size of these embeddings.
    decoder_convolutions: tuple[int, ...] = ()
    d_embedding: int = 512
    ctc: bool = True  # a CTC head on the encoder, which the paper does not have
    phones: bool = False  # a second one, over `text.phones`
    # Added to the variance in the front-end's LayerNorms. If it is large enough, silence stays
    # small, and so does the noise that 8 bits make in it.
    front_end_epsilon: float = 0.05
    rotated: bool = False  # the residual streams are, see `rotation`
    dropout: float = 0.15
    dropout_seed: int = 0

    @property
    def d_head(self) -> int:
        return self.d_model // self.heads

    @property
    def window_channels(self) -> tuple[int, ...]:
        """Of the rows that each convolution of the decoder reads."""
        if not self.decoder_convolutions:
            return ()
        return (self.d_embedding, *self.decoder_convolutions[:-1])
