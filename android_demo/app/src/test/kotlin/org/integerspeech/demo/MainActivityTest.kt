package org.integerspeech.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.Looper
import android.view.View
import android.widget.EditText
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.TextView
import java.io.File
import java.io.IOException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.locks.LockSupport
import org.integerspeech.AudioReader
import org.integerspeech.Golden
import org.integerspeech.Recognizer
import org.integerspeech.SpeechException
import org.integerspeech.WaveFile
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** The demo on a phone whose microphone plays a recording. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], qualifiers = "w400dp-h780dp-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class MainActivityTest {
    class Demo : MainActivity() {
        public override fun phone(): Phone = phone
    }

    private lateinit var controller: ActivityController<Demo>
    private val activity get() = controller.get()

    private fun start() {
        controller = Robolectric.buildActivity(Demo::class.java).setup().visible()
        waitUntil("loaded") { status() != activity.getString(R.string.loading, "barista") }
    }

    private fun allow() =
        shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(Manifest.permission.RECORD_AUDIO)

    @Test
    fun oneTapAsksForPermissionAndTheNextListens() {
        phone = TestPhone()
        start()
        assertTrue(text(R.id.examples).lines().size == 4)
        tap()
        val asked = shadowOf(activity).lastRequestedPermission.requestedPermissions
        assertArrayEquals(arrayOf(Manifest.permission.RECORD_AUDIO), asked)
        activity.onRequestPermissionsResult(1, asked, intArrayOf(-1))
        assertEquals(activity.getString(R.string.permission_denied), text(R.id.message))
        assertEquals(View.VISIBLE, view(R.id.settings).visibility)
        allow()
        tap()
        waitUntil("a result") { results().isNotEmpty() }
        assertEquals(View.GONE, view(R.id.settings).visibility)
        assertEquals("get me a sixteen ounce americano", results().single())
        val details = texts(part<LinearLayout>(activity.window.decorView, R.id.results).getChildAt(0))
        assertTrue("$details", "size: sixteen ounce" in details && "coffeeDrink: americano" in details)
        assertTrue("$details", details.any { it.startsWith("orderDrink · ") })
        assertEquals(View.GONE, view(R.id.examples_panel).visibility)
        waitUntil("rest") { status() == activity.getString(R.string.ready) }
        picture("portrait")
    }

    @Test
    fun aRotationInMidSentenceLosesNothing() {
        allow()
        val playing = TestPhone(pauseInMiddle = true)
        phone = playing
        start()
        tap()
        waitUntil("speech") { view(R.id.early).visibility == View.VISIBLE }
        assertEquals(activity.getString(R.string.listening), status())
        val before = activity
        RuntimeEnvironment.setQualifiers("+land")
        controller.recreate()
        assertFalse(before === activity)
        assertEquals(activity.getString(R.string.listening), status())
        playing.goOn.countDown()
        waitUntil("a result") { results().isNotEmpty() }
        assertEquals("get me a sixteen ounce americano", results().single())
        assertEquals(1, playing.loads)
    }

    @Test
    fun aMicrophoneThatIsBusyIsAMessageAndTheNextTapWorks() {
        allow()
        val busy = SpeechException(SpeechException.Reason.MICROPHONE_BUSY, "The microphone is busy.")
        val broken = TestPhone(failure = busy)
        phone = broken
        start()
        tap()
        waitUntil("a message") { text(R.id.message).isNotEmpty() }
        assertEquals("The microphone is busy.", text(R.id.message))
        broken.failure = null
        waitUntil("rest") { status() == activity.getString(R.string.ready) }
        tap()
        waitUntil("a result") { results().isNotEmpty() }
        assertEquals("", text(R.id.message))
    }

    @Test
    fun aDamagedBundleIsAMessage() {
        phone = TestPhone(
            damage = SpeechException(SpeechException.Reason.BUNDLE, "barista: core.bin is damaged."),
        )
        start()
        waitUntil("a message") { text(R.id.message).isNotEmpty() }
        assertEquals("barista: core.bin is damaged.", text(R.id.message))
        assertFalse(view(R.id.speak).isEnabled)
        assertTrue(view(R.id.bundles).isEnabled) // another one can be chosen
    }

    @Test
    fun aFileIsRecognisedAndSharedUnlessTheStorageIsFull() {
        val full = TestPhone(fullStorage = true)
        phone = full
        start()
        shadowOf(activity).clickMenuItem(R.id.open_file)
        val asked = shadowOf(activity).nextStartedActivityForResult.intent
        assertEquals("audio/*", asked.type)
        val file = Intent().setData(Uri.parse("content://test/order.wav"))
        shadowOf(activity).receiveResult(asked, Activity.RESULT_OK, file)
        waitUntil("a result") { results().isNotEmpty() }
        assertEquals("get me a sixteen ounce americano", results().single())
        shadowOf(activity).clickMenuItem(R.id.share)
        waitUntil("a message") { text(R.id.message).isNotEmpty() }
        assertEquals(activity.getString(R.string.not_shared, "no space left"), text(R.id.message))
        full.fullStorage = false
        shadowOf(activity).clickMenuItem(R.id.share)
        var chosen: Intent? = null
        waitUntil("a chooser") {
            chosen = shadowOf(activity).nextStartedActivity
            chosen?.action == Intent.ACTION_CHOOSER
        }
        @Suppress("DEPRECATION")
        val sent = chosen?.getParcelableExtra<Intent>(Intent.EXTRA_INTENT)
        val words = sent?.getStringExtra(Intent.EXTRA_TEXT).orEmpty()
        assertTrue(words, "orderDrink: size=sixteen ounce, coffeeDrink=americano" in words)
        val shared = RecordingProvider.file(activity)
        assertArrayEquals(ORDER.samples, WaveFile.read(shared.inputStream(), "recording.wav"))
        val provider = Robolectric.setupContentProvider(RecordingProvider::class.java)
        assertEquals(shared.length(), provider.openFile(RecordingProvider.URI, "r").statSize)
    }

    @Test
    @Config(qualifiers = "de-w400dp-h780dp-night-xhdpi", fontScale = 2f)
    fun germanNightAndLargeLettersAreLaidOut() {
        phone = TestPhone()
        start()
        assertEquals("Zum Sprechen tippen oder halten", status())
        val button = part<ImageButton>(activity.window.decorView, R.id.speak)
        assertEquals("Sprechen", button.contentDescription)
        val place = IntArray(2).also(button::getLocationInWindow)
        assertTrue(place[1] + button.height <= activity.window.decorView.height)
        picture("german-night-large")
    }

    @Test
    @Config(qualifiers = "w780dp-h400dp-land-xhdpi")
    fun theButtonIsBesideTheResultInLandscape() {
        allow()
        phone = TestPhone()
        start()
        tap()
        waitUntil("a result") { results().isNotEmpty() }
        waitUntil("rest") { status() == activity.getString(R.string.ready) }
        val button = IntArray(2).also(view(R.id.speak)::getLocationInWindow)
        val rows = IntArray(2).also(view(R.id.results)::getLocationInWindow)
        assertTrue(button[0] > rows[0] + view(R.id.results).width)
        picture("landscape")
    }

    @Test
    fun phrasesThatAreTypedHoldTheModel() {
        val own = Golden.of("general")
        val slots = Golden.of("general-slots")
        val phraseOf = slots.recordings.first { it.commands.isNotEmpty() }
        phone = TestPhone(golden = own, order = phraseOf)
        start()
        assertEquals(activity.getString(R.string.anything_example), text(R.id.examples))
        assertEquals(View.VISIBLE, view(R.id.phrases_panel).visibility)
        type("one two\nturn [on, off")
        waitUntil("an error") { text(R.id.phrases_error).isNotEmpty() }
        assertEquals("Line 2: \"]\" is missing: close the bracket.", text(R.id.phrases_error))
        assertEquals(21, part<EditText>(activity.window.decorView, R.id.phrases).selectionStart)
        picture("phrases-wrong")
        type(checkNotNull(slots.grammar))
        waitUntil("the phrases") { view(R.id.reset_phrases).visibility == View.VISIBLE }
        assertEquals("", text(R.id.phrases_error))
        assertEquals(phraseOf.whole, heard())
        view(R.id.reset_phrases).performClick()
        waitUntil("the model's own") { view(R.id.reset_phrases).visibility == View.GONE }
        assertEquals(own.recordings[slots.recordings.indexOf(phraseOf)].whole, heard())
    }

    @Test
    fun phrasesOutliveARotationAndAreNotOfferedForATrainedGrammar() {
        phone = TestPhone(golden = Golden.of("general"))
        start()
        type("oh (a)\n\nthe cows")
        waitUntil("the phrases") { view(R.id.reset_phrases).visibility == View.VISIBLE }
        RuntimeEnvironment.setQualifiers("+land")
        controller.recreate()
        assertEquals("oh (a)\nthe cows", text(R.id.examples))
        assertEquals("oh (a)\n\nthe cows", text(R.id.phrases))
        assertEquals(View.VISIBLE, view(R.id.reset_phrases).visibility)
        phone = TestPhone()
        start()
        assertEquals(View.GONE, view(R.id.phrases_panel).visibility)
    }

    /** Types phrases, and lets the model listen for them. */
    private fun type(phrases: String) {
        part<EditText>(activity.window.decorView, R.id.phrases).setText(phrases)
        view(R.id.use_phrases).performClick()
    }

    /** The text of a file that is opened. */
    private fun heard(): String {
        waitUntil("rest") { status() == activity.getString(R.string.ready) }
        shadowOf(activity).clickMenuItem(R.id.open_file)
        val asked = shadowOf(activity).nextStartedActivityForResult.intent
        val file = Intent().setData(Uri.parse("content://test/order.wav"))
        shadowOf(activity).receiveResult(asked, Activity.RESULT_OK, file)
        waitUntil("a result") { results().isNotEmpty() }
        waitUntil("rest") { status() == activity.getString(R.string.ready) }
        return results().single()
    }

    @Test
    fun closingEndsTheMicrophoneAndTheModels() {
        allow()
        val playing = TestPhone(pauseInMiddle = true)
        phone = playing
        start()
        tap()
        waitUntil("speech") { view(R.id.early).visibility == View.VISIBLE }
        controller.pause().stop().destroy()
        playing.goOn.countDown()
        waitUntil("the end of the microphone") { playing.closed }
    }

    private fun view(id: Int): View = part(activity.window.decorView, id)

    private fun <T : View> part(view: View, id: Int): T = checkNotNull(view.findViewById<T>(id))

    private fun text(id: Int) = part<TextView>(activity.window.decorView, id).text.toString()

    private fun status() = text(R.id.status)

    private fun tap() = view(R.id.speak).performClick()

    private fun results(): List<String> {
        val rows = part<LinearLayout>(activity.window.decorView, R.id.results)
        return List(rows.childCount) {
            part<TextView>(rows.getChildAt(it), R.id.text).text.toString()
        }
    }

    private fun texts(view: View): List<String> = when (view) {
        is TextView -> listOf(view.text.toString())
        is LinearLayout -> (0 until view.childCount).flatMap { texts(view.getChildAt(it)) }
        else -> emptyList()
    }

    /** Lets the main thread and the others work. */
    private fun waitUntil(what: String, reached: () -> Boolean) {
        val end = System.nanoTime() + LIMIT
        while (!reached()) {
            shadowOf(Looper.getMainLooper()).idle()
            check(System.nanoTime() < end) { "waited for $what in vain" }
            LockSupport.parkNanos(POLL)
        }
    }

    /** The screen as a picture, to be looked at. */
    private fun picture(name: String) {
        shadowOf(Looper.getMainLooper()).idle()
        val screen = activity.window.decorView
        val bitmap = Bitmap.createBitmap(
            screen.width, screen.height, Bitmap.Config.ARGB_8888,
        )
        screen.draw(Canvas(bitmap))
        val folder = File(System.getProperty("speech.build"), "screens").apply { mkdirs() }
        File(folder, "$name.png").outputStream().use {
            bitmap.compress(Bitmap.CompressFormat.PNG, 100, it)
        }
        val colours = mutableSetOf<Int>()
        for (x in 0 until screen.width step GRID) {
            for (y in 0 until screen.height step GRID) colours += bitmap.getPixel(x, y)
        }
        assertTrue("$name has ${colours.size} colours", colours.size > 5)
    }

    private companion object {
        const val LIMIT = 120_000_000_000L // nanoseconds; the machine may be busy
        const val POLL = 1_000_000L
        const val GRID = 5
        val GOLDEN by lazy { Golden.of("barista") }
        val ORDER by lazy { GOLDEN.recordings[3] }
        lateinit var phone: Phone
    }

    /** A phone that hears a recording, with one fault or none. */
    class TestPhone(
        var failure: SpeechException? = null,
        private val damage: SpeechException? = null,
        var fullStorage: Boolean = false,
        private val golden: Golden = GOLDEN,
        private val order: Golden.Recording = ORDER,
        pauseInMiddle: Boolean = false,
    ) : Phone {
        val goOn = CountDownLatch(if (pauseInMiddle) 1 else 0)
        var loads = 0
            private set

        @Volatile
        var closed = false
        override val bundles = listOf("barista", "digits")

        override fun load(name: String): Recognizer {
            ++loads
            damage?.let { throw it }
            return golden.load()
        }

        override fun read(uri: Uri) = order.samples

        override fun save(samples: ShortArray) {
            if (fullStorage) throw IOException("no space left")
            RealPhone(RuntimeEnvironment.getApplication()).save(samples)
        }

        override fun microphone() = object : StoppableSource {
            @Volatile
            private var stopped = false

            override fun stop() {
                stopped = true
            }

            override fun open(): AudioReader {
                failure?.let { throw it }
                return Player { stopped }
            }
        }

        private inner class Player(private val stopped: () -> Boolean) : AudioReader {
            private var place = 0

            override fun read(samples: ShortArray): Int {
                val all = order.stream
                if (place > all.size / 2) goOn.await()
                val count = minOf(samples.size, all.size - place)
                if (stopped() || count == 0) return -1
                all.copyInto(samples, 0, place, place + count)
                place += count
                return count
            }

            override fun close() {
                closed = true
            }
        }
    }
}
