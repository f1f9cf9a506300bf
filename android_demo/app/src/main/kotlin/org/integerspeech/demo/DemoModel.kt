package org.integerspeech.demo

import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import java.io.IOException
import java.util.concurrent.Executor
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import org.integerspeech.AudioFile
import org.integerspeech.AudioReader
import org.integerspeech.AudioSource
import org.integerspeech.GrammarException
import org.integerspeech.Microphone
import org.integerspeech.Recognizer
import org.integerspeech.SpeechBundle
import org.integerspeech.SpeechEvent
import org.integerspeech.SpeechException
import org.integerspeech.WaveFile

/** What the screen shows. */
data class DemoState(
    val bundles: List<String>,
    val bundle: String?,
    val phase: Phase = Phase.LOADING,
    val decibels: Float = SILENCE,
    val early: String = "",
    val results: List<SpeechEvent.Result> = emptyList(),
    val examples: List<String> = emptyList(),
    val hasGrammar: Boolean = false,
    val takesPhrases: Boolean = false,
    val freeText: Boolean = true,
    val phrases: Phrases = Phrases(),
    val message: String? = null,
    val asksPermission: Boolean = false,
    val hasRecording: Boolean = false,
) {
    /** What the model is held to, if not to its own; and what is wrong with what was typed. */
    data class Phrases(val text: String? = null, val error: String? = null, val position: Int = 0)

    enum class Phase { NO_BUNDLE, LOADING, FAILED, READY, LISTENING, READING, COMPILING }

    companion object {
        const val SILENCE = -96f
    }
}

/** What the phone gives; tests give something else. */
interface Phone {
    val bundles: List<String>

    /** Not on the main thread. */
    fun load(name: String): Recognizer

    fun microphone(): StoppableSource

    /** Not on the main thread. */
    fun read(uri: Uri): ShortArray

    fun save(samples: ShortArray)
}

/** A source that ends when one taps. */
interface StoppableSource : AudioSource {
    fun stop()
}

/**
 * The demo without its screen: it outlives a rotation. Everything is called on the main thread;
 * [observer] is told of each change.
 */
class DemoModel(private val phone: Phone) {
    private val handler = Handler(Looper.getMainLooper())
    private val main = Executor { handler.post(it) }.asCoroutineDispatcher()
    private val scope = CoroutineScope(SupervisorJob() + main)
    private var recognizer: Recognizer? = null
    private var held: Recognizer? = null // to phrases that were typed
    private var work: Job? = null
    private var source: StoppableSource? = null
    private var recording = ShortArray(0)

    var observer: ((DemoState) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(state)
        }

    var state = DemoState(phone.bundles, phone.bundles.firstOrNull())
        private set(value) {
            field = value
            observer?.invoke(value)
        }

    init {
        when (val first = state.bundle) {
            null -> state = state.copy(phase = DemoState.Phase.NO_BUNDLE)
            else -> load(first)
        }
    }

    fun choose(bundle: String) {
        if (bundle != state.bundle) load(bundle)
    }

    fun start() {
        val ready = held ?: recognizer ?: return
        if (state.phase != DemoState.Phase.READY) return
        val sound = RecordedSource(phone.microphone())
        source = sound
        state = heardNothing().copy(phase = DemoState.Phase.LISTENING)
        work = scope.launch {
            try {
                ready.listen(sound).collect(::hear)
                if (state.results.isEmpty()) state = state.copy(early = "")
            } catch (error: SpeechException) {
                state = state.copy(message = error.message)
            }
            recording = sound.samples()
            rest()
        }
    }

    /** Ends listening; what was said is recognised. */
    fun stop() {
        source?.stop()
    }

    fun open(file: Uri) {
        val ready = held ?: recognizer ?: return
        if (state.phase != DemoState.Phase.READY) return
        state = heardNothing().copy(phase = DemoState.Phase.READING)
        work = scope.launch {
            try {
                val (samples, found) = withContext(Dispatchers.Default) {
                    val samples = phone.read(file)
                    samples to ready.transcribe(samples)
                }
                recording = samples
                state = state.copy(results = found.results)
            } catch (error: SpeechException) {
                state = state.copy(message = error.message)
            }
            rest()
        }
    }

    /** Holds the model to the phrases of a text, one in each line; null: as it was. */
    fun use(phrases: String?) {
        val loaded = recognizer ?: return
        if (state.phase != DemoState.Phase.READY) return
        state = heardNothing().copy(phase = DemoState.Phase.COMPILING)
        work = scope.launch {
            state = try {
                held = phrases?.let { withContext(Dispatchers.Default) { loaded.use(it) } }
                said(loaded, phrases)
            } catch (error: GrammarException) {
                val wrong = state.phrases.copy(error = error.message, position = error.position)
                state.copy(phrases = wrong)
            } catch (error: SpeechException) {
                state.copy(message = error.message)
            }
            rest()
        }
    }

    /** Writes the recording where it can be shared; [explain] makes a sentence of a failure. */
    fun share(explain: (String) -> String, shared: (String) -> Unit) {
        val samples = recording
        val texts = state.results.joinToString("\n") { described(it) }
        scope.launch {
            try {
                withContext(Dispatchers.IO) { phone.save(samples) }
                shared(texts)
            } catch (error: IOException) {
                state = state.copy(message = explain(error.message.orEmpty()))
            }
        }
    }

    fun clear() {
        recording = ShortArray(0)
        state = heardNothing().copy(hasRecording = false)
    }

    fun moreExamples() {
        if (held == null) state = state.copy(examples = examples(recognizer ?: return))
    }

    fun permission(granted: Boolean, refusal: String) {
        state = state.copy(message = refusal.takeIf { !granted }, asksPermission = !granted)
        if (granted) start()
    }

    /** Ends everything; the model is of no use then. */
    fun close() {
        observer = null
        scope.cancel()
        recognizer?.let { Thread(it::close).start() } // waits for the models
    }

    private fun load(bundle: String) {
        work?.cancel()
        state = DemoState(phone.bundles, bundle)
        recording = ShortArray(0)
        work = scope.launch {
            try {
                val old = recognizer
                recognizer = null
                held = null
                val loaded = withContext(Dispatchers.IO) {
                    old?.close()
                    phone.load(bundle)
                }
                recognizer = loaded
                state = said(loaded, null).copy(
                    takesPhrases = loaded.bundle.takesGrammars,
                    freeText = loaded.bundle.freeText,
                )
            } catch (error: SpeechException) {
                state = state.copy(message = error.message)
            }
            rest()
        }
    }

    /** The state with what may be said now. */
    private fun said(loaded: Recognizer, phrases: String?) = state.copy(
        phrases = DemoState.Phrases(phrases),
        examples = phrases?.lines()?.filter(String::isNotBlank) ?: examples(loaded),
        hasGrammar = phrases == null && loaded.bundle.grammar != null,
    )

    private fun hear(event: SpeechEvent) {
        state = when (event) {
            is SpeechEvent.Level -> state.copy(decibels = event.decibels)
            is SpeechEvent.SpeechBegan -> state.copy(early = "…")
            is SpeechEvent.EarlyText -> state.copy(early = event.text.ifEmpty { "…" })
            is SpeechEvent.SpeechEnded -> state
            is SpeechEvent.Result -> state.copy(early = "", results = state.results + event)
        }
    }

    private fun rest() {
        source = null
        state = state.copy(
            phase = if (recognizer == null) DemoState.Phase.FAILED else DemoState.Phase.READY,
            decibels = DemoState.SILENCE,
            early = "",
            hasRecording = recording.isNotEmpty(),
        )
    }

    private fun heardNothing() = state.copy(
        early = "", results = emptyList(), message = null, asksPermission = false,
    )

    /** The microphone; what it hears is kept, to be shared. */
    private class RecordedSource(private val source: StoppableSource) : StoppableSource by source {
        private val blocks = mutableListOf<ShortArray>()
        private var size = 0

        override fun open(): AudioReader {
            val reader = source.open()
            return object : AudioReader by reader {
                override fun read(samples: ShortArray): Int {
                    val count = reader.read(samples)
                    if (count > 0) keep(samples.copyOf(count))
                    return count
                }
            }
        }

        @Synchronized
        fun samples(): ShortArray {
            val all = ShortArray(size)
            blocks.fold(0) { place, block ->
                block.copyInto(all, place)
                place + block.size
            }
            return all
        }

        @Synchronized
        private fun keep(block: ShortArray) {
            blocks += block
            size += block.size
            while (size > MOST_SAMPLES) size -= blocks.removeAt(0).size
        }
    }

    private companion object {
        const val EXAMPLES = 4
        const val MOST_SAMPLES = 120 * 16_000

        fun examples(recognizer: Recognizer) =
            recognizer.bundle.grammar?.examples(EXAMPLES).orEmpty()

        fun described(result: SpeechEvent.Result): String = when (result) {
            is SpeechEvent.Command -> {
                val slots = result.slots.entries.joinToString { "${it.key}=${it.value.value}" }
                "${result.text}\n${result.intent}: $slots"
            }
            else -> result.text
        }
    }
}

/** This phone. */
class RealPhone(private val context: Context) : Phone {
    override val bundles = SpeechBundle.names(context.assets)

    override fun load(name: String) =
        Recognizer.load(SpeechBundle.fromAssets(context.assets, name))

    override fun microphone(): StoppableSource {
        val microphone = Microphone(context)
        return object : StoppableSource, AudioSource by microphone {
            override fun stop() = microphone.stop()
        }
    }

    override fun read(uri: Uri) = AudioFile.read(context, uri)

    override fun save(samples: ShortArray) =
        WaveFile.write(samples, RecordingProvider.file(context))
}
