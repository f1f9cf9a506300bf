"""Losses of a batch, and one step of training by them."""

from collections.abc import Callable

import ml_collections
import tensorflow as tf
import tf_keras as keras

from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer


def sparse_ctc(
    tokens: tf.Tensor, lengths: tf.Tensor, logits: tf.Tensor, frames: tf.Tensor
) -> tf.Tensor:
    """CTC loss [B] (Graves et al. 2006) by TensorFlow's C++ kernel, fast on a CPU.

    tokens int32 [B, U] of `lengths`, logits [B, S, V] (blank last) of `frames`. Speech too fast
    for its letters has loss 0 and no gradient.
    """
    # The kernel refuses empty texts, which are only blanks; it gets one token instead.
    empty = tf.equal(lengths, 0)
    tokens = tf.pad(tokens, [[0, 0], [0, 1]])
    present = tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(tokens)[1])
    heard = tf.sequence_mask(frames, tf.shape(logits)[1], logits.dtype)
    blanks = -tf.reduce_sum(tf.nn.log_softmax(logits)[:, :, -1] * heard, 1)
    labels = tf.sparse.SparseTensor(
        tf.where(present),
        tf.boolean_mask(tokens, present),
        tf.cast(tf.shape(tokens), tf.int64),
    )
    each = tf.compat.v1.nn.ctc_loss(
        labels, logits, frames, time_major=False, ignore_longer_outputs_than_inputs=True
    )
    return tf.where(empty, blanks, tf.where(tf.math.is_finite(each), each, 0.0))


def losses(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    training: bool,
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
    teacher: SpeechTransformer | None = None,
) -> dict[str, tf.Tensor]:
    """Cross-entropy of the decoder joined with CTC on the encoder, if the model has that head.

    The token accuracy comes with them. All are means over the tokens, ends of texts included.

    Args:
        ctc: called as `sparse_ctc` is, which XLA cannot compile.
        total: float32 [], the tokens of the whole batch, if `batch` is a part of one.
        teacher: both losses are instead the divergence of the model's outputs from the teacher's,
            token by token and frame by frame (Hinton et al. 2015).
    """
    if model.dims.phones and config.train.ctc_weight == 1:
        return ctc_losses(config, model, batch, training, ctc, total)
    inputs, targets, weights = decoder_inputs(config, model, tokenizer, batch, training)
    logits, ctc_logits = model(inputs, training=training)

    if teacher is None:
        smoothing = config.train.label_smoothing
        log_probabilities = tf.nn.log_softmax(logits)
        picked = tf.gather(log_probabilities, targets, batch_dims=2)
        entropy = -(1 - smoothing) * picked - smoothing * tf.reduce_mean(log_probabilities, -1)
    else:
        taught, taught_ctc = teacher(inputs, training=False)
        entropy = divergence(taught, logits)
    if total is None:
        total = tf.reduce_sum(weights)
    attention = tf.reduce_sum(entropy * weights) / total

    right = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), targets), tf.float32)
    accuracy = tf.reduce_sum(right * weights) / total
    if ctc_logits is None:
        return {"loss": attention, "accuracy": accuracy}
    memory_frames = (batch["frames"] + TIME_REDUCTION - 1) // TIME_REDUCTION
    if teacher is None:
        ctc_each = ctc(batch["tokens"], batch["token_lengths"], ctc_logits, memory_frames)
    else:
        heard = tf.sequence_mask(memory_frames, tf.shape(ctc_logits)[1], tf.float32)
        ctc_each = divergence(taught_ctc, ctc_logits) * heard
    ctc_mean = tf.reduce_sum(ctc_each) / total
    weight = config.train.ctc_weight
    return {
        "loss": (1 - weight) * attention + weight * ctc_mean,
        "attention": attention,
        "ctc": ctc_mean,
        "accuracy": accuracy,
    }


def decoder_inputs(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    training: bool,
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """The model's inputs, the tokens [B, U + 1] that its decoder must predict, and their weights.

    The float model in training gets some random tokens: `config.train.token_noise`.
    """
    tokens, lengths = batch["tokens"], batch["token_lengths"]
    start = tf.fill([tf.shape(tokens)[0], 1], tokenizer.start)
    end = tf.fill([tf.shape(tokens)[0], 1], tokenizer.end)
    targets = tf.concat([tokens, end], 1)  # padded with </s> already
    weights = tf.sequence_mask(lengths + 1, tf.shape(targets)[1], tf.float32)
    noise = config.train.get("token_noise", 0.0)
    given = tokens
    if noise and training and not model.quantized:
        given = replace_some(tokens, noise, tokenizer.size, tf.reduce_sum(batch["frames"]))
    inputs = {
        "features": batch["features"],
        "frames": batch["frames"],
        "tokens": tf.concat([start, given], 1),
        "token_lengths": lengths + 1,
    }
    return inputs, targets, weights


def ctc_losses(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    batch: dict[str, tf.Tensor],
    training: bool,
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The CTC losses of an encoder with a head over phones, by phone; no decoder is run.

    Utterances without a spelling do not count in the loss of the letters.
    """
    frames, lengths = batch["frames"], batch["phone_lengths"]
    if total is None:
        total = tf.cast(tf.reduce_sum(lengths + 1), tf.float32)
    mask = model.memory_mask(frames, tf.shape(batch["features"])[1] // TIME_REDUCTION)
    memory, letter_logits = model.encode(batch["features"], mask, training=training)
    assert model.phones is not None
    phone_logits = model.phones(memory, training=training)
    memory_frames = (frames + TIME_REDUCTION - 1) // TIME_REDUCTION
    by_phones = ctc(batch["phones"], lengths, phone_logits, memory_frames)
    by_letters = ctc(batch["tokens"], batch["token_lengths"], letter_logits, memory_frames)
    spelled = tf.cast((batch["token_lengths"] > 0) | (lengths == 0), tf.float32)
    phone_mean = tf.reduce_sum(by_phones) / total
    letter_mean = tf.reduce_sum(by_letters * spelled) / total
    weight = config.train.phone_weight
    return {
        "loss": weight * phone_mean + (1 - weight) * letter_mean,
        "phones": phone_mean,
        "ctc": letter_mean,
    }


def replace_some(tokens: tf.Tensor, share: float, vocabulary: int, number: tf.Tensor) -> tf.Tensor:
    """Tokens int32 [B, U] with a `share` of them random.

    The same tokens and `number`, int32 [], give the same again.
    """
    seed = tf.stack([tf.reduce_sum(tokens), number])
    chances = tf.random.stateless_uniform(tf.shape(tokens), seed)
    others = tf.random.stateless_uniform(tf.shape(tokens), seed + 1, 0, vocabulary, tf.int32)
    return tf.where(chances < share, others, tokens)


def divergence(taught: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Kullback-Leibler divergence of the distribution of `logits` from that of `taught`, nats.

    [..., V] both -> [...]
    """
    teachers, models = tf.nn.log_softmax(taught), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(teachers) * (teachers - models), -1)


def gradients(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
    teacher: SpeechTransformer | None = None,
) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
    """Of each trained variable, and the `losses`."""
    with tf.GradientTape() as tape:
        metrics = losses(config, model, tokenizer, batch, True, ctc, total, teacher)
    changes = tape.gradient(
        metrics["loss"],
        model.trained_variables,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,  # a decoder that waits for its stage
    )
    return changes, metrics


def update(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
    teacher: SpeechTransformer | None = None,
) -> dict[str, tf.Tensor]:
    """One step of training: changes the weights, and returns their `losses` before."""
    changes, metrics = gradients(config, model, tokenizer, batch, ctc, total, teacher)
    optimizer.apply_gradients(zip(changes, model.trained_variables, strict=True))
    return metrics
