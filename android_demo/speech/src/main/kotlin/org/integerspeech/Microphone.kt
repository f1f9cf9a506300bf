package org.integerspeech

import android.Manifest
import android.annotation.SuppressLint
import android.content.Context
import android.content.pm.PackageManager
import android.media.AudioAttributes
import android.media.AudioFocusRequest
import android.media.AudioFormat
import android.media.AudioManager
import android.media.AudioRecord
import android.media.MediaRecorder
import android.os.Build
import org.integerspeech.SpeechException.Reason

/**
 * The phone's microphone, for one listening.
 *
 * It takes the audio focus, so that music pauses. [stop] ends the stream as silence would: what was
 * said so far is recognised.
 */
class Microphone(context: Context) : AudioSource {
    private val context = context.applicationContext

    @Volatile
    private var stopped = false

    /** Ends the stream; from any thread. */
    fun stop() {
        stopped = true
    }

    override fun open(): AudioReader {
        val granted = context.checkCallingOrSelfPermission(Manifest.permission.RECORD_AUDIO)
        if (granted != PackageManager.PERMISSION_GRANTED) {
            throw SpeechException(
                Reason.PERMISSION,
                "The app may not use the microphone; allow it in the phone's settings.",
            )
        }
        val focus = Focus(context)
        return try {
            Reader(record(), focus)
        } catch (error: SpeechException) {
            focus.close()
            throw error
        }
    }

    @SuppressLint("MissingPermission") // checked above; taken back, it is a SecurityException
    private fun record(): AudioRecord {
        val bytes = AudioRecord.getMinBufferSize(RATE, CHANNELS, ENCODING)
        if (bytes <= 0) throw busy("This phone does not record 16 kHz mono.")
        val record = try {
            AudioRecord(SOURCE, RATE, CHANNELS, ENCODING, maxOf(bytes, BUFFER_BYTES))
        } catch (error: IllegalArgumentException) {
            throw busy("This phone does not record 16 kHz mono.", error)
        } catch (error: SecurityException) {
            throw SpeechException(Reason.PERMISSION, "The permission to record was taken back.", error)
        }
        val fault = try {
            if (record.state == AudioRecord.STATE_INITIALIZED) record.startRecording()
            null
        } catch (error: IllegalStateException) {
            error
        }
        if (record.recordingState == AudioRecord.RECORDSTATE_RECORDING) return record
        record.release()
        throw busy("The microphone is busy; end the other app or call that uses it.", fault)
    }

    private inner class Reader(private val record: AudioRecord, private val focus: Focus) :
        AudioReader {
        override fun read(samples: ShortArray): Int {
            if (stopped) return -1
            focus.check()
            val count = record.read(samples, 0, samples.size)
            if (count < 0) {
                throw SpeechException(
                    Reason.MICROPHONE_LOST,
                    "The microphone went away (error $count); connect it, and listen again.",
                )
            }
            // Android gives silence instead of sound to the app that loses the microphone.
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q &&
                record.activeRecordingConfiguration?.isClientSilenced == true
            ) {
                throw busy("Another app took the microphone; end it, and listen again.")
            }
            return count
        }

        override fun close() {
            try {
                record.stop()
            } catch (ignored: IllegalStateException) {
                // It had stopped already: the microphone went away.
            }
            record.release()
            focus.close()
        }
    }

    /** The audio focus, while one listens. */
    private class Focus(context: Context) : AudioManager.OnAudioFocusChangeListener {
        private val manager = context.getSystemService(Context.AUDIO_SERVICE) as AudioManager
        private var request: AudioFocusRequest? = null

        @Volatile
        private var lost = false

        init {
            val granted = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
                val made = AudioFocusRequest.Builder(GAIN)
                    .setAudioAttributes(ATTRIBUTES)
                    .setOnAudioFocusChangeListener(this)
                    .build()
                request = made
                manager.requestAudioFocus(made)
            } else {
                @Suppress("DEPRECATION")
                manager.requestAudioFocus(this, AudioManager.STREAM_MUSIC, GAIN)
            }
            lost = granted != AudioManager.AUDIOFOCUS_REQUEST_GRANTED
            if (lost) {
                close()
                check()
            }
        }

        fun check() {
            if (!lost) return
            throw SpeechException(
                Reason.AUDIO_FOCUS,
                "Another app or a call has the sound; end it, and listen again.",
            )
        }

        override fun onAudioFocusChange(change: Int) {
            lost = change < 0 // the losses
        }

        fun close() {
            val made = request
            if (made != null && Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
                manager.abandonAudioFocusRequest(made)
            } else {
                @Suppress("DEPRECATION")
                manager.abandonAudioFocus(this)
            }
        }

        private companion object {
            const val GAIN = AudioManager.AUDIOFOCUS_GAIN_TRANSIENT_EXCLUSIVE
            val ATTRIBUTES: AudioAttributes = AudioAttributes.Builder()
                .setUsage(AudioAttributes.USAGE_ASSISTANT)
                .setContentType(AudioAttributes.CONTENT_TYPE_SPEECH)
                .build()
        }
    }

    private companion object {
        const val RATE = NativeCore.SAMPLE_RATE
        const val CHANNELS = AudioFormat.CHANNEL_IN_MONO
        const val ENCODING = AudioFormat.ENCODING_PCM_16BIT
        const val SOURCE = MediaRecorder.AudioSource.VOICE_RECOGNITION
        const val BUFFER_BYTES = 2 * RATE * 5 // of sound that comes while the models run

        fun busy(message: String, cause: Throwable? = null) =
            SpeechException(Reason.MICROPHONE_BUSY, message, cause)
    }
}
