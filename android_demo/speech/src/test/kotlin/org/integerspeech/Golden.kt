package org.integerspeech

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONArray
import org.json.JSONObject

/** Recordings, and what Python made of them. */
class Golden(directory: File) {
    val bundleDirectory = File(directory, "bundle")
    val bundle = SpeechBundle.fromDirectory(bundleDirectory)
    val recordings = JSONArray(File(directory, "expected.json").readText()).objects().map { row ->
        val content = ByteBuffer.wrap(File(directory, row.getString("file")).readBytes())
        val samples = ShortArray(content.remaining() / 2)
        content.order(ByteOrder.LITTLE_ENDIAN).asShortBuffer().get(samples)
        Recording(samples, row)
    }

    /** What the model is held to; null for its own. */
    val grammar = File(directory, "grammar.txt").takeIf { it.exists() }?.readText()

    fun load(): Recognizer = Recognizer.load(bundle) { HostRuntime(it) }

    class Recording(val samples: ShortArray, row: JSONObject) {
        /** Of the whole recording; null if it is longer than the window. */
        val whole: String? = row.optString("text").takeIf { row.has("text") }
        val commands: List<String> = row.optJSONArray("commands")?.objects().orEmpty().map {
            told("command", it, 0, 0).replace(" 0 0 ", " ")
        }
        val events: List<String> = row.getJSONArray("events").objects().map {
            told(it.getString("kind"), it, it.getLong("start"), it.getLong("end"))
        }

        /** The recording as it was when Python heard it as a stream. */
        val stream: ShortArray = ShortArray(QUIET) + samples + ShortArray(2 * QUIET)

        private companion object {
            const val QUIET = 12_000

            fun told(kind: String, row: JSONObject, start: Long, end: Long): String {
                val slots = row.optJSONObject("slots")
                val values = slots?.keys()?.asSequence()?.associateWith { slots.getString(it) }
                return line(kind, start, end, row.getString("text"), row.optString("intent"), values)
            }
        }
    }

    companion object {
        /** Where `make android-test` has them; another place for more recordings. */
        fun of(bundle: String): Golden {
            val directory = File(root(), bundle)
            check(directory.isDirectory) { "$directory is missing; run `make android-test`." }
            return Golden(directory)
        }

        /** All that there are. */
        fun names(): List<String> = root().listFiles().orEmpty()
            .filter { File(it, "expected.json").exists() }.map { it.name }.sorted()

        private fun root() = File(
            System.getProperty("speech.golden") ?: "${System.getProperty("speech.build")}/golden",
        )

        fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

        /** An event as one line. */
        fun line(event: SpeechEvent): String? = when (event) {
            is SpeechEvent.Level -> null
            is SpeechEvent.SpeechBegan -> line("speech_began", event.start, event.start)
            is SpeechEvent.EarlyText -> line("early_text", event.start, event.end, event.text)
            is SpeechEvent.SpeechEnded -> line("speech_ended", event.start, event.end)
            is SpeechEvent.Text -> line("text", event.start, event.end, event.text)
            is SpeechEvent.Rejected -> line("rejected", event.start, event.end, event.text)
            is SpeechEvent.Command -> line(
                "command", event.start, event.end, event.text, event.intent,
                event.slots.mapValues { it.value.value },
            )
        }

        /** A command of a whole recording, without times. */
        fun command(event: SpeechEvent.Command): String =
            checkNotNull(line(event)).replace(" ${event.start} ${event.end} ", " ")

        private fun line(
            kind: String,
            start: Long,
            end: Long,
            text: String = "",
            intent: String = "",
            slots: Map<String, String>? = null,
        ) = "$kind $start $end $text|$intent|${slots.orEmpty().toSortedMap()}"
    }
}
