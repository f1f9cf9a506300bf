package org.integerspeech

import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Bundle
import android.speech.IRecognitionListener
import android.speech.RecognitionService
import android.speech.SpeechRecognizer
import java.lang.reflect.Proxy
import java.util.concurrent.LinkedBlockingQueue
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE)
class ServiceTest {
    /** The service with a recording instead of the microphone. */
    open class Recording(private val bundle: String) : SpeechRecognitionService() {
        var sound: AudioSource? = null

        override fun source() = sound ?: super.source()

        override suspend fun open(name: String): Recognizer {
            check(name == bundle)
            return Golden.of(name).load()
        }

        public override fun onStartListening(intent: Intent?, callback: Callback) =
            super.onStartListening(intent, callback)
    }

    class Orders : Recording("barista")

    private val told = LinkedBlockingQueue<Pair<String, Any?>>()

    @Test
    fun anotherAppGetsTextIntentAndSlots() {
        val recording = Golden.of("barista").recordings[3]
        val service = started(Recorded(recording.stream))
        service.onStartListening(null, callback(service))
        val calls = generateSequence { told.take() }.takeWhileInclusive { it.first !in ENDS }.toList()
        val names = calls.map { it.first }
        assertEquals("onReadyForSpeech", names.first())
        assertEquals(1, names.count { it == "onBeginningOfSpeech" })
        assertEquals(1, names.count { it == "onEndOfSpeech" })
        val (name, given) = calls.last()
        assertEquals("onResults", name)
        val result = given as Bundle
        val texts = result.getStringArrayList(SpeechRecognizer.RESULTS_RECOGNITION)
        assertEquals(listOf("get me a sixteen ounce americano"), texts)
        assertEquals("orderDrink", result.getString(SpeechRecognitionService.INTENT))
        val slots = checkNotNull(result.getBundle(SpeechRecognitionService.SLOTS))
        assertEquals("sixteen ounce", slots.getString("size"))
        assertEquals("americano", slots.getString("coffeeDrink"))
    }

    @Test
    fun silenceIsATimeOutAndAMissingPermissionAnError() {
        val service = started(Recorded(ShortArray(32_000)))
        service.onStartListening(null, callback(service))
        assertEquals(SpeechRecognizer.ERROR_SPEECH_TIMEOUT, error())
        service.sound = null
        service.onStartListening(null, callback(service))
        assertEquals(SpeechRecognizer.ERROR_INSUFFICIENT_PERMISSIONS, error())
    }

    private fun error(): Any? =
        generateSequence { told.take() }.first { it.first in ENDS }.also { assertEquals("onError", it.first) }.second

    private fun started(sound: AudioSource): Orders {
        val app = RuntimeEnvironment.getApplication()
        val info = ServiceInfo().apply {
            packageName = app.packageName
            name = Orders::class.java.name
            metaData = Bundle().apply { putString(SpeechRecognitionService.BUNDLE, "barista") }
        }
        shadowOf(app.packageManager).addOrUpdateService(info)
        return Robolectric.buildService(Orders::class.java).create().get().also { it.sound = sound }
    }

    /** A client of the service; Android makes it in the same way. */
    private fun callback(service: RecognitionService): RecognitionService.Callback {
        val listener = Proxy.newProxyInstance(
            javaClass.classLoader, arrayOf(IRecognitionListener::class.java),
        ) { _, method, given ->
            told += method.name to given?.firstOrNull()
            null
        } as IRecognitionListener
        val made = RecognitionService.Callback::class.java.declaredConstructors
            .first { it.parameterCount == 3 || it.parameterCount == 2 }
        made.isAccessible = true
        val all = listOf(service, listener, service.attributionSource)
        return made.newInstance(*all.take(made.parameterCount).toTypedArray()) as RecognitionService.Callback
    }

    private fun <T> Sequence<T>.takeWhileInclusive(goesOn: (T) -> Boolean): Sequence<T> = sequence {
        for (item in this@takeWhileInclusive) {
            yield(item)
            if (!goesOn(item)) break
        }
    }

    private companion object {
        val ENDS = setOf("onResults", "onError")
    }
}
