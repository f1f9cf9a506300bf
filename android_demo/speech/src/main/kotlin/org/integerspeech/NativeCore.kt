package org.integerspeech

import java.nio.ByteBuffer

/**
 * The C core of one stream: samples to events, in integers.
 *
 * One thread at a time calls it, and no other recogniser may use the runtimes during a call.
 *
 * @param grammar a block of [GrammarCompiler]; null for the bundle's own.
 * @param onEvent is called during a call of this class.
 */
internal class NativeCore(
    bundle: SpeechBundle,
    private val grammar: ByteBuffer?, // the core reads it in place, and the block too
    private val encoder: Runtime,
    private val decoderStep: Runtime,
    private val onEvent: (SpeechEvent) -> Unit,
) {
    private val block = bundle.core
    private val memory: ByteBuffer
    private val clock = Clock()

    init {
        val bytes = size(block, grammar, BEAM_OF_BUNDLE)
        checkOpened(bundle, if (bytes < 0) (-bytes).toInt() else OK)
        memory = ByteBuffer.allocateDirect(bytes.toInt())
        val status = open(
            memory, block, grammar, BEAM_OF_BUNDLE,
            encoder.inputs.toTypedArray(), encoder.outputs.toTypedArray(),
            decoderStep.inputs.toTypedArray(), decoderStep.outputs.toTypedArray(),
        )
        checkOpened(bundle, status)
    }

    /** Most samples that [transcribe] takes. */
    val window: Int = window(memory)

    /** Takes the next samples of a stream. */
    fun feed(samples: ShortArray, count: Int) {
        clock.take(count)
        checkRun(feed(memory, samples, count))
    }

    /** Ends the stream; the next samples begin a new one. */
    fun finish() {
        clock.take(0)
        checkRun(finish(memory))
        clock.received = 0
    }

    /** Recognises a whole recording of at most [window] samples. */
    fun transcribe(samples: ShortArray) {
        clock.received = 0
        clock.take(samples.size)
        checkRun(transcribe(memory, samples, samples.size))
        clock.received = 0
    }

    /** Runs a model; called by the core. */
    @Suppress("unused")
    private fun invoke(model: Int) {
        val begin = System.nanoTime()
        if (model == ENCODER) {
            encoder.invoke()
            clock.encoded(System.nanoTime() - begin)
        } else {
            decoderStep.invoke()
            clock.stepped(System.nanoTime() - begin)
        }
    }

    /** Tells an event; called by the core. */
    @Suppress("unused", "LongParameterList")
    private fun event(
        kind: Int,
        start: Long,
        end: Long,
        text: ByteArray,
        confidence: Int,
        intent: ByteArray?,
        slots: Array<ByteArray>,
        slotConfidences: IntArray,
    ) {
        val said = text.decodeToString()
        val certainty = if (confidence < 0) null else share(confidence)
        onEvent(
            when (kind) {
                BEGAN -> SpeechEvent.SpeechBegan(start)
                EARLY_TEXT -> SpeechEvent.EarlyText(said, start, end)
                ENDED -> SpeechEvent.SpeechEnded(start, end)
                TEXT -> SpeechEvent.Text(said, certainty, start, end, clock.timing(end))
                REJECTED -> SpeechEvent.Rejected(said, certainty, start, end, clock.timing(end))
                COMMAND -> {
                    val values = slotConfidences.indices.associate {
                        val value = slots[2 * it + 1].decodeToString()
                        slots[2 * it].decodeToString() to Slot(value, share(slotConfidences[it]))
                    }
                    val name = checkNotNull(intent).decodeToString()
                    val sure = certainty ?: 0f
                    SpeechEvent.Command(said, name, values, sure, start, end, clock.timing(end))
                }
                else -> error("The core told an event of the unknown kind $kind.")
            },
        )
    }

    private external fun feed(memory: ByteBuffer, samples: ShortArray, count: Int): Int

    private external fun finish(memory: ByteBuffer): Int

    private external fun transcribe(memory: ByteBuffer, samples: ShortArray, count: Int): Int

    private external fun window(memory: ByteBuffer): Int

    /** Time since the last event, and samples received. */
    private class Clock {
        var received = 0L
        private var begin = 0L
        private var encoder = 0L
        private var steps = 0L
        private var count = 0

        fun take(samples: Int) {
            received += samples
            begin = System.nanoTime()
        }

        fun encoded(nanoseconds: Long) {
            encoder = nanoseconds
            steps = 0
            count = 0
        }

        fun stepped(nanoseconds: Long) {
            steps += nanoseconds
            ++count
        }

        fun timing(end: Long): Timing {
            val waited = (received - end).coerceAtLeast(0) * 1000.0 / SAMPLE_RATE
            val computed = (System.nanoTime() - begin) / MILLION
            return Timing(encoder / MILLION, steps / MILLION, count, waited + computed)
        }
    }

    companion object {
        const val SAMPLE_RATE = 16_000
        private const val MILLION = 1e6
        private const val CERTAIN = 65_536f
        private const val BEAM_OF_BUNDLE = 0
        private const val ENCODER = 0

        // enum speech_event_kind
        private const val BEGAN = 1
        private const val EARLY_TEXT = 2
        private const val ENDED = 3
        private const val TEXT = 4
        private const val COMMAND = 5
        private const val REJECTED = 6

        // enum speech_status
        private const val OK = 0
        private const val ERROR_RUNTIME = 5

        init {
            System.loadLibrary("speech")
        }

        private fun share(fixed: Int) = fixed / CERTAIN

        private fun checkOpened(bundle: SpeechBundle, status: Int) {
            if (status == OK) return
            throw SpeechException(
                SpeechException.Reason.BUNDLE,
                if (status == ERROR_RUNTIME) {
                    "${bundle.name}: the models have other tensors than core.bin says; write it anew."
                } else {
                    "${bundle.name}: core.bin is damaged or of another version; write it anew."
                },
            )
        }

        private fun checkRun(status: Int) {
            if (status == OK) return
            throw SpeechException(
                SpeechException.Reason.RUNTIME, "A model failed (status $status); load the bundle anew.",
            )
        }

        @JvmStatic
        private external fun size(block: ByteBuffer, grammar: ByteBuffer?, beam: Int): Long
    }

    @Suppress("LongParameterList")
    private external fun open(
        memory: ByteBuffer,
        block: ByteBuffer,
        grammar: ByteBuffer?,
        beam: Int,
        encoderInputs: Array<ByteBuffer>,
        encoderOutputs: Array<ByteBuffer>,
        stepInputs: Array<ByteBuffer>,
        stepOutputs: Array<ByteBuffer>,
    ): Int
}
