package org.integerspeech

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** Kotlin and libspeech.so give what Python gives, for the same kernels. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class ParityTest {
    @Test
    fun digitsOfWholeRecordings() = whole("digits")

    @Test
    fun ordersOfWholeRecordings() = whole("barista")

    @Test
    fun digitsOfStreams() = streams("digits")

    @Test
    fun ordersOfStreams() = streams("barista")

    @Test
    fun grammarsOfWholeRecordings() = general().forEach(::whole)

    @Test
    fun grammarsOfStreams() = general().forEach(::streams)

    /** A general model with its own text, with grammars at run time, and with one of its bundle. */
    private fun general() = Golden.names().filter { it.startsWith("general") }.also {
        assertTrue("$it", "general-slots" in it)
    }

    private fun whole(name: String) {
        val golden = Golden.of(name)
        var compared = 0
        golden.load().use { loaded ->
            val recognizer = loaded.use(golden.grammar)
            for (recording in golden.recordings) {
                val expected = recording.whole ?: continue
                val found = recognizer.transcribe(recording.samples)
                assertEquals(expected, found.text)
                assertEquals(recording.commands, found.commands.map(Golden::command))
                if (expected.isNotEmpty()) ++compared
            }
        }
        println("$name: $compared whole recordings as Python's")
        if (name != "general-phrases") assertTrue(compared >= golden.recordings.size / 2)
    }

    private fun streams(name: String) {
        val golden = Golden.of(name)
        var compared = 0
        golden.load().use { loaded ->
            val recognizer = loaded.use(golden.grammar)
            for (recording in golden.recordings) {
                val found = mutableListOf<String>()
                val stream = recognizer.stream { event -> Golden.line(event)?.let(found::add) }
                for (start in recording.stream.indices step BLOCK) {
                    val end = minOf(start + BLOCK, recording.stream.size)
                    stream.feed(recording.stream.copyOfRange(start, end))
                }
                stream.finish()
                assertEquals(recording.events, found)
                compared += found.size
            }
        }
        println("$name: $compared events of streams as Python's")
        assertTrue(compared > 2 * golden.recordings.size)
    }

    private companion object {
        const val BLOCK = 1600
    }
}
