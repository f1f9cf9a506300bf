package org.integerspeech

import android.Manifest
import android.app.Application
import android.media.AudioManager
import android.media.AudioRecord
import android.media.AudioRecordingConfiguration
import org.integerspeech.SpeechException.Reason
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertThrows
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.shadows.ShadowAudioRecord

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], manifest = Config.NONE, shadows = [MicrophoneTest.NoMonitor::class])
class MicrophoneTest {
    private val app: Application = RuntimeEnvironment.getApplication()
    private val manager = app.getSystemService(AudioManager::class.java)

    private fun allow() = shadowOf(app).grantPermissions(Manifest.permission.RECORD_AUDIO)

    @After
    fun forgetSource() = ShadowAudioRecord.clearSource()

    @Test
    fun withoutPermissionNothingIsOpened() = assertFails(Reason.PERMISSION) { Microphone(app).open() }

    @Test
    fun samplesComeUntilItIsStopped() {
        allow()
        hear { samples, _ -> samples.fill(7).let { samples.size } }
        val microphone = Microphone(app)
        microphone.open().use {
            val samples = ShortArray(160)
            assertEquals(160, it.read(samples))
            assertArrayEquals(ShortArray(160) { 7 }, samples)
            microphone.stop()
            assertEquals(-1, it.read(samples))
        }
        assertNotNull(shadowOf(manager).lastAbandonedAudioFocusRequest)
    }

    @Test
    @Config(shadows = [BusyAudioRecord::class])
    fun aMicrophoneThatDoesNotStartIsBusy() {
        allow()
        assertFails(Reason.MICROPHONE_BUSY) { Microphone(app).open() }
        assertNotNull(shadowOf(manager).lastAbandonedAudioFocusRequest)
    }

    @Test
    fun aMicrophoneThatIsPulledOutIsLost() {
        allow()
        hear { _, _ -> AudioRecord.ERROR_DEAD_OBJECT }
        Microphone(app).open().use { reader ->
            assertFails(Reason.MICROPHONE_LOST) { reader.read(ShortArray(160)) }
        }
    }

    @Test
    fun duringACallThereIsNoSound() {
        allow()
        shadowOf(manager).setNextFocusRequestResponse(AudioManager.AUDIOFOCUS_REQUEST_FAILED)
        assertFails(Reason.AUDIO_FOCUS) { Microphone(app).open() }
    }

    @Test
    fun aCallEndsListening() {
        allow()
        hear { samples, _ -> samples.size }
        Microphone(app).open().use { reader ->
            reader.read(ShortArray(160))
            shadowOf(manager).lastAudioFocusRequest.listener
                .onAudioFocusChange(AudioManager.AUDIOFOCUS_LOSS_TRANSIENT)
            assertFails(Reason.AUDIO_FOCUS) { reader.read(ShortArray(160)) }
        }
    }

    private fun hear(read: (ShortArray, Boolean) -> Int) {
        val source = object : ShadowAudioRecord.AudioRecordSource {
            override fun readInShortArray(
                samples: ShortArray,
                offset: Int,
                count: Int,
                waits: Boolean,
            ) = read(samples, waits)
        }
        ShadowAudioRecord.setSourceProvider { source }
    }

    private fun assertFails(reason: Reason, use: () -> Unit) =
        assertEquals(reason, assertThrows(SpeechException::class.java) { use() }.reason)

    /** What tells whether another app took the microphone; Robolectric has none. */
    @Implements(className = "android.media.AudioRecordingMonitorImpl", isInAndroidSdk = false)
    class NoMonitor {
        @Implementation
        @Suppress("unused")
        fun getActiveRecordingConfiguration(): AudioRecordingConfiguration? = null
    }

    /** Android's recorder, if another app has the microphone. */
    @Implements(AudioRecord::class)
    class BusyAudioRecord {
        @Implementation
        @Suppress("unused", "FunctionName", "UNUSED_PARAMETER")
        fun native_start(event: Int, session: Int) = AudioRecord.ERROR

        companion object {
            @JvmStatic
            @Implementation
            @Suppress("unused", "FunctionName", "UNUSED_PARAMETER")
            fun native_get_min_buff_size(rate: Int, channels: Int, format: Int) = 1280
        }
    }
}
