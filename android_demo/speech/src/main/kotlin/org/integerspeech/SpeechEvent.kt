package org.integerspeech

/** What happened in a stream. `start` and `end` are samples of the stream at 16 kHz. */
sealed interface SpeechEvent {
    /** How loud a block was: root mean square in decibels of full scale, -96 to 0. */
    data class Level(val decibels: Float) : SpeechEvent

    data class SpeechBegan(val start: Long) : SpeechEvent

    /** The text so far, at a pause in which speech may have ended. The next text replaces it. */
    data class EarlyText(val text: String, val start: Long, val end: Long) : SpeechEvent

    /** The result follows, when the models have run. */
    data class SpeechEnded(val start: Long, val end: Long) : SpeechEvent

    /** What an utterance gave. */
    sealed interface Result : SpeechEvent {
        val text: String

        /** 0 to 1; null if nothing was heard. */
        val confidence: Float?
        val start: Long
        val end: Long
        val timing: Timing
    }

    /** The text of an utterance; of a bundle without a grammar. */
    data class Text(
        override val text: String,
        override val confidence: Float?,
        override val start: Long,
        override val end: Long,
        override val timing: Timing,
    ) : Result

    /** A command; of a bundle with a grammar. An utterance may hold several. */
    data class Command(
        override val text: String,
        val intent: String,
        /** By name, in the order of the grammar. */
        val slots: Map<String, Slot>,
        override val confidence: Float,
        override val start: Long,
        override val end: Long,
        override val timing: Timing,
    ) : Result

    /** Speech that is no command; [text] is what was heard without the grammar. */
    data class Rejected(
        override val text: String,
        override val confidence: Float?,
        override val start: Long,
        override val end: Long,
        override val timing: Timing,
    ) : Result
}

/** The value of a slot, and 0 to 1. */
data class Slot(val value: String, val confidence: Float)

/**
 * Milliseconds that a result took.
 *
 * @property encoder the encoder's run.
 * @property steps all runs of the decoder step together.
 * @property stepCount how many they were.
 * @property afterSpeech from the end of speech to the result, the wait for silence included.
 */
data class Timing(
    val encoder: Double,
    val steps: Double,
    val stepCount: Int,
    val afterSpeech: Double,
)

/** The results of a recording. */
data class Transcription(val results: List<SpeechEvent.Result>) {
    /** The text of all results but rejected ones. */
    val text: String
        get() = results.filter { it !is SpeechEvent.Rejected && it.text.isNotEmpty() }
            .joinToString(" ") { it.text }

    val commands: List<SpeechEvent.Command>
        get() = results.filterIsInstance<SpeechEvent.Command>()
}
