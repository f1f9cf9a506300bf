"""Losses of a batch, and one step of training by them."""

from collections.abc import Callable

import ml_collections
import tensorflow as tf
import tf_keras as keras

from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import Outputs, SpeechTransformer
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
    total: dict[str, tf.Tensor] | None = None,
    teacher: SpeechTransformer | None = None,
) -> dict[str, tf.Tensor]:
    """Cross-entropy of the decoder joined with CTC on each of the encoder's heads.

    The token accuracy comes with them. All are means over the tokens, ends of texts included, or
    over the phones. The float model with phones does not run its decoder while `ctc_weight` is 1;
    in 8 bits the decoder has ranges all the same. Utterances that cannot be spelled count only in
    the loss of the phones. In float training, the layers `train.early_layers` have
    `train.early_weight` of that loss, so that layers far from the head learn sooner (Lee & Watanabe
    2021, intermediate CTC).

    Args:
        ctc: called as `sparse_ctc` is, which XLA cannot compile.
        total: of `counts` of the whole batch, if `batch` is a part of one.
        teacher: the losses are instead the divergence of the model's outputs from the teacher's,
            token by token and frame by frame (Hinton et al. 2015).
    """
    waits = model.dims.phones and config.train.ctc_weight == 1 and not model.quantized
    total = counts(batch) if total is None else total
    metrics: dict[str, tf.Tensor] = {}
    between = config.train.get("early_layers", ())
    if not training or model.quantized or teacher:
        between = ()
    if waits:
        outputs = model.hear(batch["features"], batch["frames"], training, between)
        taught = teacher and teacher.hear(batch["features"], batch["frames"], training=False)
    else:
        inputs, targets, weights = decoder_inputs(config, model, tokenizer, batch, training)
        outputs = model(inputs, training=training, between=between)
        taught = teacher and teacher(inputs, training=False)
        weights *= spelled(batch)[:, None]
        metrics |= decoder_losses(config, outputs.logits, taught, targets, weights, total["tokens"])
    if outputs.ctc is None:
        return {"loss": metrics["attention"], "accuracy": metrics["accuracy"]}
    heads, heard = head_losses(config, outputs, taught, batch, total, ctc)
    weight = config.train.ctc_weight
    attention = metrics.get("attention", 0.0)
    return {"loss": (1 - weight) * attention + weight * heads, **metrics, **heard}


def head_losses(
    config: ml_collections.ConfigDict,
    outputs: Outputs,
    taught: Outputs | None,
    batch: dict[str, tf.Tensor],
    total: dict[str, tf.Tensor],
    ctc: Callable[..., tf.Tensor],
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """That of the encoder's heads together, and of each."""
    frames = (batch["frames"] + TIME_REDUCTION - 1) // TIME_REDUCTION

    def head(logits: tf.Tensor, taught_logits: tf.Tensor, labels: str, lengths: str) -> tf.Tensor:
        if not taught:
            return ctc(batch[labels], batch[lengths], logits, frames)
        heard = tf.sequence_mask(frames, tf.shape(logits)[1], tf.float32)
        return tf.reduce_sum(divergence(taught_logits, logits) * heard, 1)

    share = config.train.get("phone_weight", 0.0) if outputs.phones is not None else 0.0
    metrics = {}
    if share < 1:
        by_letters = head(outputs.ctc, taught and taught.ctc, "tokens", "token_lengths")
        metrics["ctc"] = tf.reduce_sum(by_letters * spelled(batch)) / total["tokens"]
    if outputs.phones is None:
        return metrics["ctc"], metrics
    by_phones = head(outputs.phones, taught and taught.phones, "phones", "phone_lengths")
    metrics["phones"] = phones = tf.reduce_sum(by_phones) / total["phones"]
    if outputs.early_phones:
        early = [head(x, None, "phones", "phone_lengths") for x in outputs.early_phones]
        metrics["early"] = tf.reduce_sum(early) / (len(early) * total["phones"])
        phones += config.train.early_weight * (metrics["early"] - phones)
    return share * phones + (1 - share) * metrics.get("ctc", 0.0), metrics


def decoder_losses(
    config: ml_collections.ConfigDict,
    logits: tf.Tensor,
    taught: Outputs | None,
    targets: tf.Tensor,
    weights: tf.Tensor,
    total: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Cross-entropy, or divergence from what is taught, and accuracy: means over the tokens."""
    smoothing = config.train.label_smoothing
    if taught:
        entropy = divergence(taught.logits, logits)
    else:
        log_probabilities = tf.nn.log_softmax(logits)
        picked = tf.gather(log_probabilities, targets, batch_dims=2)
        entropy = -(1 - smoothing) * picked - smoothing * tf.reduce_mean(log_probabilities, -1)
    right = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), targets), tf.float32)
    return {
        "attention": tf.reduce_sum(entropy * weights) / total,
        "accuracy": tf.reduce_sum(right * weights) / total,
    }


def counts(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What the losses of a batch are divided by, float32 []: its tokens, its phones if it has any.

    Ends of texts count.
    """
    tokens = tf.cast(batch["token_lengths"] + 1, tf.float32) * spelled(batch)
    found = {"tokens": tf.maximum(tf.reduce_sum(tokens), 1.0)}
    if "phone_lengths" in batch:
        found["phones"] = tf.cast(tf.reduce_sum(batch["phone_lengths"] + 1), tf.float32)
    return found


def spelled(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Float32 [B]: 0.0 for an utterance whose words do not exist, and so have only phones."""
    lengths = batch["token_lengths"]
    if "phone_lengths" not in batch:
        return tf.ones_like(lengths, tf.float32)
    return tf.cast((lengths > 0) | (batch["phone_lengths"] == 0), tf.float32)


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
    total: dict[str, tf.Tensor] | None = None,
    teacher: SpeechTransformer | None = None,
) -> tuple[list[tf.Tensor | None], dict[str, tf.Tensor]]:
    """Of each trained variable, None for those of a decoder that waits; and the `losses`."""
    with tf.GradientTape() as tape:
        metrics = losses(config, model, tokenizer, batch, True, ctc, total, teacher)
    return tape.gradient(metrics["loss"], model.trained_variables), metrics


def update(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: dict[str, tf.Tensor] | None = None,
    teacher: SpeechTransformer | None = None,
) -> dict[str, tf.Tensor]:
    """One step of training: changes the weights, and returns their `losses` before."""
    changes, metrics = gradients(config, model, tokenizer, batch, ctc, total, teacher)
    pairs = zip(changes, model.trained_variables, strict=True)
    optimizer.apply_gradients([(change, v) for change, v in pairs if change is not None])
    return metrics
