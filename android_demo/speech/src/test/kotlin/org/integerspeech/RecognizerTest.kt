package org.integerspeech

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.CountDownLatch
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.concurrent.thread
import kotlin.random.Random
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.integerspeech.SpeechException.Reason
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class RecognizerTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val golden by lazy { Golden.of("digits") }
    private val first by lazy { golden.recordings[0] }

    @Test
    fun listeningGivesTheEventsOfAStreamAndLevels() = golden.load().use { recognizer ->
        val events = runBlocking { recognizer.listen(Recorded(first.stream)).toList() }
        assertEquals(first.events, events.mapNotNull(Golden::line))
        val levels = events.filterIsInstance<SpeechEvent.Level>().map { it.decibels }
        assertTrue(levels.min() == -96f && levels.max() in -40f..-1f)
    }

    @Test
    fun aListenerIsToldTheSameAndTheEnd() = golden.load().use { recognizer ->
        val lines = mutableListOf<String>()
        val ended = CountDownLatch(1)
        recognizer.listen(
            Recorded(first.stream), { it.run() },
            object : SpeechListener {
                override fun onEvent(event: SpeechEvent) {
                    Golden.line(event)?.let(lines::add)
                }

                override fun onEnd() = ended.countDown()

                override fun onError(error: SpeechException) = throw error
            },
        )
        ended.await()
        assertEquals(first.events, lines)
    }

    @Test
    fun aSourceThatFailsGivesItsEventsAndThenTheFault() = golden.load().use { recognizer ->
        val lost = SpeechException(Reason.MICROPHONE_LOST, "The microphone went away.")
        val source = Recorded(first.stream, lost)
        val seen = mutableListOf<String>()
        val error = assertThrows(SpeechException::class.java) {
            runBlocking { recognizer.listen(source).collect { e -> Golden.line(e)?.let(seen::add) } }
        }
        assertEquals(Reason.MICROPHONE_LOST, error.reason)
        assertEquals(first.events, seen)
        assertTrue(source.closed)
    }

    @Test
    fun aCancelledCollectorClosesTheSource() = golden.load().use { recognizer ->
        val source = Recorded(ShortArray(1600), endless = true)
        runBlocking {
            recognizer.listen(source).first()
            val job = launch { recognizer.listen(source).collect { } }
            job.cancelAndJoin()
        }
        assertTrue(source.closed)
    }

    @Test
    fun threadsShareARecognizer() = golden.load().use { recognizer ->
        val wrong = ConcurrentLinkedQueue<String>()
        val threads = List(4) { number ->
            thread {
                repeat(3) { round ->
                    val recording = golden.recordings[(number + round) % golden.recordings.size]
                    val text = recognizer.transcribe(recording.samples).text
                    if (text != recording.whole) wrong += "$text, not ${recording.whole}"
                }
            }
        }
        threads.forEach(Thread::join)
        assertEquals(emptyList<String>(), wrong.toList())
    }

    @Test
    fun aLongRecordingIsCutAtItsPauses() = golden.load().use { recognizer ->
        val pause = ShortArray(20_000)
        val samples = golden.recordings.take(3).map { pause + it.samples }.reduce { a, b -> a + b }
        val texts = golden.recordings.take(3).map { it.whole }
        assertEquals(texts, recognizer.transcribe(samples).results.map { it.text })
    }

    @Test
    fun silenceGivesAnEmptyText() = golden.load().use { recognizer ->
        assertEquals("", recognizer.transcribe(ShortArray(16_000)).text)
        assertEquals("", recognizer.transcribe(ShortArray(0)).text)
    }

    @Test
    fun aResultSaysHowLongItTook() = golden.load().use { recognizer ->
        val timing = recognizer.transcribe(first.samples).results.single().timing
        assertTrue(timing.encoder > 0 && timing.steps > 0 && timing.stepCount > 10)
        assertTrue(timing.afterSpeech >= timing.encoder + timing.steps)
    }

    @Test
    fun aClosedRecognizerSaysSo() {
        val recognizer = golden.load()
        val stream = recognizer.stream { }
        recognizer.close()
        recognizer.close()
        for (use in listOf({ stream.feed(ShortArray(160)) }, { stream.finish() })) {
            assertEquals(Reason.CLOSED, assertThrows(SpeechException::class.java) { use() }.reason)
        }
        assertThrows(SpeechException::class.java) { recognizer.transcribe(first.samples) }
    }

    @Test
    fun aModelThatFailsIsTheCallersExceptionAndTheNextUtteranceWorks() {
        var broken = false
        val recognizer = Recognizer.load(golden.bundle) { model ->
            val runtime = HostRuntime(model)
            object : Runtime by runtime {
                override fun invoke() = if (broken) throw IllegalStateException("broken") else runtime.invoke()
            }
        }
        recognizer.use {
            broken = true
            val error = assertThrows(IllegalStateException::class.java) { it.transcribe(first.samples) }
            assertEquals("broken", error.message)
            broken = false
            assertEquals(first.whole, it.transcribe(first.samples).text)
        }
    }

    @Test
    fun modelsOfAnotherBundleAreRefused() {
        val digits = copy("digits")
        copy("barista").resolve("core.bin").copyTo(digits.resolve("core.bin"), overwrite = true)
        assertRefused("other tensors") { load(SpeechBundle.fromDirectory(digits)) }
    }

    @Test
    fun damagedBundlesAreRefusedInASentence() {
        val files = listOf("encoder.tflite", "decoder_step.tflite", "tokens.txt", "grammar.json")
        for (file in files) {
            val bundle = copy("barista")
            bundle.resolve(file).let { it.writeBytes(it.readBytes().also { all -> ++all[all.size / 2] }) }
            assertRefused("$file is not the file") { SpeechBundle.fromDirectory(bundle) }
            bundle.resolve(file).writeBytes(ByteArray(0)) // as on a full disk
            assertRefused("$file is not the file") { SpeechBundle.fromDirectory(bundle) }
            bundle.resolve(file).delete()
            assertRefused("holds no $file") { SpeechBundle.fromDirectory(bundle) }
        }
        val bundle = copy("digits")
        bundle.resolve("core.bin").let { it.writeBytes(it.readBytes().copyOf(500)) }
        assertRefused("core.bin is damaged") { load(SpeechBundle.fromDirectory(bundle)) }
        bundle.resolve("core.bin").delete()
        assertRefused("holds no core.bin") { SpeechBundle.fromDirectory(bundle) }
        bundle.resolve("manifest.json").writeText("{\"format_version\": 3")
        assertRefused("manifest or grammar") { SpeechBundle.fromDirectory(bundle) }
        bundle.resolve("manifest.json").writeText("{\"format_version\": 5}")
        assertRefused("reads formats 3 and 4") { SpeechBundle.fromDirectory(bundle) }
        assertRefused("holds no manifest.json") { SpeechBundle.fromDirectory(File("nowhere")) }
    }

    @Test
    fun aCoreOfAnyBytesIsReadOrRefused() {
        val bundle = copy("barista")
        val file = bundle.resolve("core.bin")
        val good = file.readBytes()
        val random = Random(1)
        var refused = 0
        repeat(60) {
            val bytes = good.copyOf()
            repeat(4) { bytes[random.nextInt(600)] = random.nextInt().toByte() }
            file.writeBytes(bytes)
            try {
                load(SpeechBundle.fromDirectory(bundle)).use { it.transcribe(first.samples) }
            } catch (error: SpeechException) {
                assertEquals(Reason.BUNDLE, error.reason)
                ++refused
            }
        }
        assertTrue(refused > 20)
    }

    @Test
    fun aZipIsReadFromItsTopOrItsFolder() {
        for (prefix in listOf("", "digits/")) {
            val zip = zipped("digits", prefix)
            load(SpeechBundle.fromZip(ByteArrayInputStream(zip), "digits.zip")).use {
                assertEquals(first.whole, it.transcribe(first.samples).text)
            }
        }
        val cut = zipped("digits", "").copyOf(100_000)
        assertRefused("") { SpeechBundle.fromZip(ByteArrayInputStream(cut), "cut.zip") }
        val nothing = ByteArrayInputStream("no zip".toByteArray())
        assertRefused("holds no manifest") { SpeechBundle.fromZip(nothing, "text.zip") }
    }

    @Test
    fun examplesAreCommandsOfTheGrammar() {
        val grammar = Golden.of("barista").bundle.grammar
        val examples = checkNotNull(grammar).examples(20, Random(3))
        assertEquals(20, examples.size)
        assertEquals(listOf("orderDrink"), grammar.intents)
        val drinks = "americano|cappuccino|espresso|latte|mocha|coffee"
        examples.forEach { assertTrue(it, Regex("[a-z' ]+ ($drinks)( with [a-z ]+)?").matches(it)) }
        assertTrue(golden.bundle.grammar == null)
    }

    @Test
    fun memoryDoesNotGrow() {
        val rounds = Integer.getInteger("speech.rounds", 20)
        val before = resident { }
        repeat(rounds / 10) { load(golden.bundle).close() }
        golden.load().use { recognizer ->
            repeat(rounds) { recognizer.transcribe(first.samples) }
            val warm = resident { }
            repeat(rounds) { recognizer.transcribe(first.samples) }
            val grown = resident { } - warm
            println("$rounds recognitions: resident memory $before, then $warm, grown by $grown kB")
            assertTrue("$grown kB", grown < 4_000)
        }
    }

    /** Resident kilobytes of this process. */
    private fun resident(use: () -> Unit): Long {
        use()
        repeat(3) { System.gc() }
        val line = File("/proc/self/status").readLines().first { it.startsWith("VmRSS") }
        return line.filter(Char::isDigit).toLong()
    }

    private fun load(bundle: SpeechBundle) = Recognizer.load(bundle) { HostRuntime(it) }

    private fun copy(name: String): File {
        val target = folder.newFolder()
        Golden.of(name).bundleDirectory.copyRecursively(target, overwrite = true)
        return target
    }

    private fun zipped(name: String, prefix: String): ByteArray {
        val content = ByteArrayOutputStream()
        ZipOutputStream(content).use { zip ->
            for (file in checkNotNull(Golden.of(name).bundleDirectory.listFiles())) {
                zip.putNextEntry(ZipEntry(prefix + file.name))
                zip.write(file.readBytes())
            }
        }
        return content.toByteArray()
    }

    private fun assertRefused(message: String, use: () -> Unit) {
        val error = assertThrows(SpeechException::class.java) { use() }
        assertEquals(Reason.BUNDLE, error.reason)
        assertNotNull(error.message)
        assertTrue(error.message, message in error.message.orEmpty())
    }
}

/** A recording as a source; it may fail at its end, or have none. */
class Recorded(
    private val samples: ShortArray,
    private val failure: SpeechException? = null,
    private val endless: Boolean = false,
) : AudioSource {
    @Volatile
    var closed = false

    override fun open() = object : AudioReader {
        private var place = 0

        override fun read(samples: ShortArray): Int {
            if (endless) place = 0
            val all = this@Recorded.samples
            val count = minOf(samples.size, all.size - place)
            if (count == 0) failure?.let { throw it }
            all.copyInto(samples, 0, place, place + count)
            place += count
            return if (count == 0) -1 else count
        }

        override fun close() {
            closed = true
        }
    }
}
