package org.integerspeech

import java.io.File
import java.lang.management.BufferPoolMXBean
import java.lang.management.ManagementFactory
import java.security.MessageDigest
import kotlin.concurrent.thread
import kotlin.random.Random
import org.integerspeech.SpeechException.Reason
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** A general model, which grammars hold to their sentences at run time. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class GrammarTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val own by lazy { Golden.of("general") }
    private val phrases by lazy { Golden.of("general-phrases") }
    private val slots by lazy { Golden.of("general-slots") }

    @Test
    fun recognisersOfSeveralGrammarsShareTheModels() = own.load().use { loaded ->
        val all = listOf(own, phrases, slots).map { it to loaded.use(it.grammar) }
        assertEquals(setOf("say"), slots.recordings.flatMap { it.commands }.map(::intent).toSet())
        repeat(own.recordings.size) { number ->
            for ((golden, recognizer) in all) assertSame(golden, number, recognizer)
            assertSame(own, number, loaded)
        }
        val threads = all.map { (golden, recognizer) ->
            thread { golden.recordings.indices.forEach { assertSame(golden, it, recognizer) } }
        }
        threads.forEach(Thread::join)
        assertSame(slots, 0, loaded.use(phrases.grammar).use(slots.grammar))
        assertSame(own, 0, all[2].second.use(null))
    }

    @Test
    fun closingTheOneThatWasLoadedEndsTheOthers() {
        val loaded = own.load()
        val first = loaded.use(phrases.grammar)
        val second = loaded.use(slots.grammar)
        first.close()
        assertEquals(Reason.CLOSED, refused { first.transcribe(ShortArray(160)) }.reason)
        assertSame(slots, 0, second)
        loaded.close()
        assertEquals(Reason.CLOSED, refused { second.transcribe(ShortArray(160)) }.reason)
    }

    @Test
    fun aGrammarOfTheBundleIsItsOwnAndIsReplaced() {
        val golden = Golden.of("general-own")
        val grammar = checkNotNull(golden.bundle.grammar)
        assertEquals(listOf("say", "count"), grammar.intents)
        val sentences = Regex("(amber|birch|cedar)( please)?|(one|two)( three)?")
        val examples = grammar.examples(20, Random(1))
        assertEquals(10, examples.size)
        examples.forEach { assertTrue(it, sentences.matches(it)) }
        golden.load().use { loaded ->
            val held = loaded.use(phrases.grammar)
            golden.recordings.indices.forEach {
                assertSame(phrases, it, held)
                assertSame(golden, it, held.use(null))
            }
        }
    }

    @Test
    fun aTextThatIsNoGrammarIsASentenceWithItsPlace() = own.load().use { loaded ->
        val faults = mapOf(
            "one two\nturn [on, off\n" to "Line 2: \"]\" is missing: close the bracket.",
            "" to "Line 1: there are no phrases: write one in each line.",
            "{\"context\": {}}" to null,
            "turn \u00fc\u20ac [on" to null,
            "turn \$state" to null,
        )
        for ((text, message) in faults) {
            val error = assertThrows(GrammarException::class.java) { loaded.use(text) }
            assertEquals(Reason.GRAMMAR, error.reason)
            assertTrue("${error.message}", Regex("Line \\d: .+[^.]\\.").matches("${error.message}"))
            if (message != null) assertEquals(message, error.message)
            assertTrue("$text: ${error.position}", error.position in 0..text.length)
        }
        val bracket = assertThrows(GrammarException::class.java) { loaded.use("one two\nturn [on, off\n") }
        assertEquals(21, bracket.position)
        assertSame(own, 0, loaded)
    }

    @Test
    fun aBundleThatWasTrainedForItsGrammarTakesNoOther() {
        val digits = Golden.of("digits")
        assertFalse(digits.bundle.takesGrammars)
        assertTrue(own.bundle.takesGrammars)
        digits.load().use { loaded ->
            val error = refused { loaded.use("one two") }
            assertEquals(Reason.BUNDLE, error.reason)
            assertTrue("${error.message}", "only what it was trained for" in "${error.message}")
        }
    }

    @Test
    fun damagedGeneralBundlesAreRefusedInASentence() {
        for (file in listOf("phones.txt", "lexicon.bin")) {
            val bundle = copy()
            bundle.resolve(file).let { it.writeBytes(it.readBytes().also { all -> ++all[all.size / 2] }) }
            assertRefused("$file is not the file", bundle)
            bundle.resolve(file).delete()
            assertRefused("holds no $file", bundle)
        }
        val twice = copy()
        replace(twice, "phones.txt", "AA\nAE\nAA\n".toByteArray())
        assertRefused("phones.txt does not hold a phone a line, each once", twice)
        val fewer = copy()
        replace(fewer, "phones.txt", "AA\nAE\n".toByteArray())
        assertRefused("phone_logits of the encoder do not fit phones.txt", fewer)
        val deaf = copy()
        deaf.resolve("manifest.json").let {
            it.writeText(it.readText().replace("\"phone_logits\"", "\"others\""))
        }
        assertRefused("the encoder has no output phone_logits", deaf)
    }

    @Test
    fun aBundleWithoutPronunciationsOrWithDamagedOnesTakesNoGrammar() {
        val without = copy()
        edit(without) { it.remove("lexicon") }
        assertNull(SpeechBundle.fromDirectory(without).lexicon)
        val damaged = copy()
        replace(damaged, "lexicon.bin", ByteArray(100))
        Recognizer.load(SpeechBundle.fromDirectory(damaged)) { HostRuntime(it) }.use { loaded ->
            val error = refused { loaded.use("one two") }
            assertTrue("${error.message}", "lexicon.bin is damaged" in "${error.message}")
        }
    }

    @Test
    fun aBundleThatUnderstandsPhrasesOnlyAsksForThem() {
        val taught = copy()
        edit(taught) { it.put("understands", "phrases") }
        Recognizer.load(SpeechBundle.fromDirectory(taught)) { HostRuntime(it) }.use { loaded ->
            val error = refused { loaded.transcribe(slots.recordings[0].samples) }
            assertEquals(Reason.GRAMMAR, error.reason)
            assertTrue("${error.message}", "understands phrases, no free text" in "${error.message}")
            assertSame(slots, 0, loaded.use(slots.grammar))
        }
        edit(taught) { it.put("understands", "music") }
        assertRefused("neither text nor phrases", taught)
    }

    @Test
    fun memoryOfGrammarsDoesNotGrow() = own.load().use { loaded ->
        val rounds = Integer.getInteger("speech.rounds", 20)
        fun work() = repeat(rounds) { loaded.use(slots.grammar).transcribe(slots.recordings[0].samples) }
        work()
        val warm = bufferBytes()
        work()
        val grown = bufferBytes() - warm
        println("$rounds grammars: $warm bytes of buffers, grown by $grown")
        assertTrue("$grown bytes", grown < LEAST_GRAMMAR * rounds)
    }

    /** Bytes of the direct buffers that are in use: the library has no other native memory. */
    private fun bufferBytes(): Long {
        val pools = ManagementFactory.getPlatformMXBeans(BufferPoolMXBean::class.java)
        val direct = pools.first { it.name == "direct" }
        val readings = generateSequence {
            System.gc()
            direct.memoryUsed
        }
        return readings.take(MOST_READINGS).zipWithNext().firstOrNull { it.first == it.second }?.second
            ?: direct.memoryUsed
    }

    private fun intent(command: String) = command.split("|")[1]

    /** A recogniser gives what Python gave, for a recording. */
    private fun assertSame(golden: Golden, number: Int, recognizer: Recognizer) {
        val recording = golden.recordings[number]
        val found = recognizer.transcribe(recording.samples)
        assertEquals(recording.whole, found.text)
        assertEquals(recording.commands, found.commands.map(Golden::command))
    }

    private fun copy(): File {
        val target = folder.newFolder()
        own.bundleDirectory.copyRecursively(target, overwrite = true)
        return target
    }

    private fun edit(bundle: File, change: (JSONObject) -> Unit) {
        val file = bundle.resolve("manifest.json")
        file.writeText(JSONObject(file.readText()).also(change).toString())
    }

    /** Another file, with its hash in the manifest. */
    private fun replace(bundle: File, file: String, content: ByteArray) {
        bundle.resolve(file).writeBytes(content)
        val hash = MessageDigest.getInstance("SHA-256").digest(content)
        val entry = JSONObject().put("bytes", content.size)
            .put("sha256", hash.joinToString("") { "%02x".format(it) })
        edit(bundle) { it.getJSONObject("files").put(file, entry) }
    }

    private fun refused(use: () -> Unit) = assertThrows(SpeechException::class.java) { use() }

    private fun assertRefused(message: String, bundle: File) {
        val error = refused { SpeechBundle.fromDirectory(bundle) }
        assertEquals(Reason.BUNDLE, error.reason)
        assertTrue("${error.message}", message in "${error.message}")
    }

    private companion object {
        const val LEAST_GRAMMAR = 500L // bytes of a block
        const val MOST_READINGS = 20
    }
}
