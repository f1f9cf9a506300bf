package org.integerspeech

import android.content.Context
import java.nio.ByteBuffer
import java.util.concurrent.Executor
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock
import kotlin.math.log10
import kotlin.math.sqrt
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import org.integerspeech.SpeechException.Reason

/**
 * A bundle, loaded: 16 kHz audio in, text and commands out, offline.
 *
 * ```
 * val recognizer = Recognizer.open(context, "barista")  // a folder of the assets' `bundles`
 * recognizer.listen(Microphone(context)).collect { event ->
 *     if (event is SpeechEvent.Command) act(event.intent, event.slots)
 * }
 * ```
 *
 * Several threads may use it; one utterance runs at a time. Close it when nobody needs it any more:
 * it holds the models' memory.
 *
 * A general bundle understands any sentences that you write:
 * ```
 * val lights = recognizer.use("turn [on, off] the light (please)\ngood night")
 * ```
 */
class Recognizer private constructor(
    val bundle: SpeechBundle,
    private val models: Models,
    private val grammar: ByteBuffer?,
    private val ownsModels: Boolean,
) : AutoCloseable {
    private var closed = false

    /** Both models of a bundle, which recognisers of several grammars share. */
    private class Models(val encoder: Runtime, val decoderStep: Runtime) {
        val lock = ReentrantLock()
        var closed = false

        fun close() {
            if (closed) return
            closed = true
            encoder.close()
            decoderStep.close()
        }
    }

    /**
     * A recogniser of other sentences, which shares the loaded models with this one. This one stays
     * as it is.
     *
     * A text has a phrase in each line: `[a, b c]` are alternatives, `(a, b)` are optional. Each is
     * a command with the intent `phrase`. A text that begins with `{` is JSON, with intents and
     * slots:
     * ```
     * {"context": {"expressions": {"turn": ["turn $state:state the [light, lamp]"]},
     *              "slots": {"state": ["on", "off"]}}}
     * ```
     * It takes milliseconds for phrases, and longer for thousands of words: call it on another thread
     * then. Closing the recogniser that was loaded ends all that share its models; closing another
     * one ends only that.
     *
     * @param grammar null for the bundle's own, or for free text if it has none.
     * @throws GrammarException if the text is no grammar; its message says what is wrong where.
     * @throws SpeechException if the bundle understands only what it was trained for.
     */
    fun use(grammar: String?): Recognizer {
        val block = grammar?.let { GrammarCompiler.compile(bundle, it) }
        return Recognizer(bundle, models, block, ownsModels = false)
    }

    /**
     * Recognises a recording.
     *
     * One of at most a window (see [SpeechBundle.windowSeconds]) is recognised as a whole, as
     * Python's `transcribe` does. A longer one is cut at its pauses, as a stream is.
     *
     * @param samples 16 kHz, mono.
     * @throws SpeechException if a model fails, the recogniser is closed, or the bundle needs a
     *   grammar.
     */
    fun transcribe(samples: ShortArray): Transcription {
        val results = mutableListOf<SpeechEvent.Result>()
        val stream = stream { if (it is SpeechEvent.Result) results += it }
        if (samples.size <= stream.window) {
            stream.transcribe(samples)
        } else {
            stream.feed(samples)
            stream.finish()
        }
        return Transcription(results)
    }

    /**
     * A stream of audio that the caller feeds.
     *
     * @param onEvent is called by the thread that feeds, while it feeds.
     * @throws SpeechException if the recogniser is closed, or the bundle needs a grammar.
     */
    fun stream(onEvent: (SpeechEvent) -> Unit): Stream = alone {
        if (grammar == null && bundle.grammar == null && !bundle.freeText) {
            throw SpeechException(
                Reason.GRAMMAR,
                "${bundle.name} understands phrases, no free text: give it some by Recognizer.use.",
            )
        }
        Stream(core(onEvent))
    }

    private fun core(onEvent: (SpeechEvent) -> Unit) =
        NativeCore(bundle, grammar, models.encoder, models.decoderStep, onEvent)

    /** Audio of one source. One thread at a time uses it; streams of a recogniser are independent. */
    inner class Stream internal constructor(private val core: NativeCore) {
        internal val window get() = core.window

        /**
         * Takes the next samples, in blocks of any size. At the end of an utterance the call takes
         * as long as the models run.
         *
         * @throws SpeechException if a model fails, or the recogniser is closed.
         */
        @JvmOverloads
        fun feed(samples: ShortArray, count: Int = samples.size) {
            require(count in 0..samples.size) { "count is $count of ${samples.size} samples" }
            alone { core.feed(samples, count) }
        }

        /** Ends the stream, and gives what is left. The next samples begin a new stream. */
        fun finish() = alone { core.finish() }

        internal fun transcribe(samples: ShortArray) = alone { core.transcribe(samples) }
    }

    /**
     * Listens until the source ends. The work is done on threads of [Dispatchers.IO].
     *
     * The flow is cold: each collection opens the source. If its collector is cancelled, listening
     * ends at once, without a result.
     *
     * @throws SpeechException in the flow: no permission, microphone busy or lost, a model failed.
     */
    fun listen(source: AudioSource): Flow<SpeechEvent> = channelFlow<Result<SpeechEvent>> {
        try {
            hear(source) { trySend(Result.success(it)) }
        } catch (error: SpeechException) {
            // Thrown here, it would cancel the collector before it has the events that wait.
            trySend(Result.failure(error))
        }
    }.buffer(Channel.UNLIMITED).flowOn(Dispatchers.IO).map { it.getOrThrow() }

    /** Reads a source to its end, or until the caller is cancelled. */
    private suspend fun hear(source: AudioSource, onEvent: (SpeechEvent) -> Unit) {
        val stream = stream(onEvent)
        source.open().use { sound ->
            val samples = ShortArray(BLOCK)
            while (true) {
                currentCoroutineContext().ensureActive()
                val count = sound.read(samples)
                if (count < 0) break
                if (count == 0) continue
                onEvent(SpeechEvent.Level(decibels(samples, count)))
                stream.feed(samples, count)
            }
        }
        stream.finish()
    }

    /**
     * The same with calls instead of a flow, for callers without coroutines.
     *
     * @param executor runs the listener, for example `context.mainExecutor`.
     * @return what ends listening.
     */
    fun listen(source: AudioSource, executor: Executor, listener: SpeechListener): AutoCloseable {
        val job = CoroutineScope(Dispatchers.IO).launch {
            try {
                listen(source).collect { executor.execute { listener.onEvent(it) } }
                executor.execute { listener.onEnd() }
            } catch (error: SpeechException) {
                executor.execute { listener.onError(error) }
            }
        }
        return AutoCloseable { job.cancel() }
    }

    /** Waits for the utterance that runs. The recogniser that was loaded gives the models back. */
    override fun close() = models.lock.withLock {
        closed = true
        if (ownsModels) models.close()
    }

    private inline fun <T> alone(action: () -> T): T = models.lock.withLock {
        if (closed || models.closed) {
            throw SpeechException(Reason.CLOSED, "The recogniser is closed; open it again.")
        }
        action()
    }

    companion object {
        private const val BLOCK = 1600 // samples, 100 ms
        private const val FULL_SCALE = 32_768.0
        private const val SILENCE = -96f // decibels

        /**
         * Loads a bundle of the app's assets, on a thread of [Dispatchers.IO].
         *
         * @throws SpeechException if it is missing or damaged, or the models do not load.
         */
        suspend fun open(context: Context, name: String): Recognizer = withContext(Dispatchers.IO) {
            load(SpeechBundle.fromAssets(context.assets, name))
        }

        /**
         * Loads a bundle; not on the main thread, because that takes a second on a slow phone.
         *
         * @param loader chooses another runtime than TensorFlow Lite's interpreter.
         * @throws SpeechException if the models do not load.
         */
        @JvmStatic
        @JvmOverloads
        fun load(
            bundle: SpeechBundle,
            loader: RuntimeLoader = RuntimeLoader { InterpreterRuntime(it) },
        ): Recognizer {
            val encoder = loaded(bundle, "encoder", loader) { bundle.encoder }
            var decoderStep: Runtime? = null
            try {
                decoderStep = loaded(bundle, "decoder step", loader) { bundle.decoderStep }
                val models = Models(encoder, decoderStep)
                val recognizer = Recognizer(bundle, models, null, ownsModels = true)
                recognizer.core { } // whether core.bin and the models fit each other
                return recognizer
            } catch (error: SpeechException) {
                encoder.close()
                decoderStep?.close()
                throw error
            }
        }

        private fun loaded(
            bundle: SpeechBundle,
            name: String,
            loader: RuntimeLoader,
            model: () -> ByteBuffer,
        ): Runtime = try {
            loader.load(model())
        } catch (error: IllegalArgumentException) {
            val fault = error.message?.lineSequence()?.first()
            throw SpeechException(
                Reason.BUNDLE, "${bundle.name}: the $name does not load ($fault); install it again.", error,
            )
        } catch (error: UnsatisfiedLinkError) {
            throw SpeechException(
                Reason.RUNTIME,
                "TensorFlow Lite's library does not load on this phone (${error.message}).",
                error,
            )
        }

        private fun decibels(samples: ShortArray, count: Int): Float {
            var sum = 0.0
            for (i in 0 until count) sum += samples[i].toDouble() * samples[i]
            val level = sqrt(sum / count) / FULL_SCALE
            return if (level > 0) (20 * log10(level)).toFloat().coerceAtLeast(SILENCE) else SILENCE
        }
    }
}

/** Who is told of events. */
interface SpeechListener {
    fun onEvent(event: SpeechEvent)

    /** The source ended. */
    fun onEnd() {}

    /** Listening ended by a fault. */
    fun onError(error: SpeechException)
}
