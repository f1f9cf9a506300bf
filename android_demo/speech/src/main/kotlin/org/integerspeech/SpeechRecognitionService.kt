package org.integerspeech

import android.content.ComponentName
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Build
import android.os.Bundle
import android.os.RemoteException
import android.speech.RecognitionService
import android.speech.SpeechRecognizer
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import org.integerspeech.SpeechException.Reason

/**
 * Speech recognition for other apps, by Android's `SpeechRecognizer`.
 *
 * An app declares it in its manifest, with the bundle to use:
 * ```
 * <service android:name="org.integerspeech.SpeechRecognitionService" android:exported="true"
 *          android:permission="android.permission.RECORD_AUDIO">
 *   <intent-filter><action android:name="android.speech.RecognitionService"/></intent-filter>
 *   <meta-data android:name="org.integerspeech.bundle" android:value="barista"/>
 * </service>
 * ```
 * Results hold the texts as usual. For a command they also hold its intent ([INTENT]) and slots
 * ([SLOTS]).
 */
open class SpeechRecognitionService : RecognitionService() {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private var listening: Job? = null
    private var microphone: Microphone? = null

    /** Where the sound comes from, and what loads the models; tests choose others. */
    protected open fun source(): AudioSource = Microphone(this).also { microphone = it }

    protected open suspend fun open(name: String): Recognizer = Recognizer.open(this, name)

    override fun onStartListening(intent: Intent?, callback: Callback) {
        listening?.cancel()
        val source = source()
        listening = scope.launch {
            try {
                open(bundleName()).use { listen(it, source, callback) }
            } catch (error: SpeechException) {
                told { callback.error(code(error)) }
            }
        }
    }

    override fun onStopListening(callback: Callback) {
        microphone?.stop()
    }

    override fun onCancel(callback: Callback) {
        listening?.cancel()
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    /** Tells of one utterance, and ends with its result, as Android's clients expect. */
    private suspend fun listen(recognizer: Recognizer, source: AudioSource, callback: Callback) {
        val results = mutableListOf<SpeechEvent.Result>()
        told { callback.readyForSpeech(Bundle()) }
        recognizer.listen(source).collect { event ->
            told {
                when (event) {
                    is SpeechEvent.Level -> callback.rmsChanged(event.decibels)
                    is SpeechEvent.SpeechBegan -> callback.beginningOfSpeech()
                    is SpeechEvent.EarlyText -> callback.partialResults(texts(listOf(event.text)))
                    is SpeechEvent.SpeechEnded -> {
                        callback.endOfSpeech()
                        microphone?.stop()
                    }
                    is SpeechEvent.Result -> results += event
                }
            }
        }
        val recognized = results.filter { it !is SpeechEvent.Rejected && it.text.isNotEmpty() }
        told {
            if (recognized.isEmpty()) {
                callback.error(
                    if (results.isEmpty()) {
                        SpeechRecognizer.ERROR_SPEECH_TIMEOUT
                    } else {
                        SpeechRecognizer.ERROR_NO_MATCH
                    },
                )
            } else {
                callback.results(bundled(recognized))
            }
        }
    }

    private fun bundleName(): String {
        val data = packageManager.getServiceInfo(
            ComponentName(this, javaClass), PackageManager.GET_META_DATA,
        ).metaData
        return data?.getString(BUNDLE) ?: throw SpeechException(
            Reason.BUNDLE, "The service names no bundle; add the meta-data $BUNDLE to the manifest.",
        )
    }

    private fun bundled(results: List<SpeechEvent.Result>): Bundle {
        val bundle = texts(listOf(results.joinToString(" ") { it.text }))
        val least = results.minOf { it.confidence ?: 0f }
        bundle.putFloatArray(SpeechRecognizer.CONFIDENCE_SCORES, floatArrayOf(least))
        val command = results.filterIsInstance<SpeechEvent.Command>().firstOrNull() ?: return bundle
        bundle.putString(INTENT, command.intent)
        val slots = Bundle()
        command.slots.forEach { (name, slot) -> slots.putString(name, slot.value) }
        bundle.putBundle(SLOTS, slots)
        return bundle
    }

    private fun texts(texts: List<String>) = Bundle().apply {
        putStringArrayList(SpeechRecognizer.RESULTS_RECOGNITION, ArrayList(texts))
    }

    /** Calls a client, which may have gone. */
    private inline fun told(call: () -> Unit) {
        try {
            call()
        } catch (ignored: RemoteException) {
            listening?.cancel()
        }
    }

    companion object {
        const val BUNDLE = "org.integerspeech.bundle"
        const val INTENT = "org.integerspeech.intent"
        const val SLOTS = "org.integerspeech.slots"

        private fun code(error: SpeechException): Int = when (error.reason) {
            Reason.PERMISSION -> SpeechRecognizer.ERROR_INSUFFICIENT_PERMISSIONS
            Reason.MICROPHONE_BUSY, Reason.MICROPHONE_LOST, Reason.AUDIO_FOCUS, Reason.AUDIO ->
                SpeechRecognizer.ERROR_AUDIO
            Reason.BUNDLE ->
                if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) {
                    SpeechRecognizer.ERROR_LANGUAGE_UNAVAILABLE
                } else {
                    SpeechRecognizer.ERROR_CLIENT
                }
            Reason.GRAMMAR, Reason.RUNTIME, Reason.CLOSED -> SpeechRecognizer.ERROR_CLIENT
        }
    }
}
