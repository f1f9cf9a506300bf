package org.integerspeech

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.sin
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class WaveFileTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val samples = ShortArray(4000) { (it * 37 % 20_001 - 10_000).toShort() }

    @Test
    fun whatIsWrittenIsRead() {
        val file = folder.newFile("a.wav")
        WaveFile.write(samples, file)
        assertArrayEquals(samples, read(file.readBytes()))
        assertEquals(listOf("a.wav"), folder.root.list()?.toList())
    }

    @Test
    fun aFullStorageLeavesNothing() {
        val full = File("/dev/full/a.wav")
        assertThrows(IOException::class.java) { WaveFile.write(samples, full) }
        assertFalse(full.exists())
    }

    @Test
    fun aSizeOfAPipeMeansAllOfIt() {
        val bytes = wave(samples, 1, 16_000)
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putInt(40, -1)
        assertArrayEquals(samples, read(bytes))
    }

    @Test
    fun otherChunksAreSkipped() {
        val bytes = wave(samples, 1, 16_000)
        val odd = "LIST".toByteArray() + byteArrayOf(3, 0, 0, 0, 1, 2, 3, 0)
        assertArrayEquals(samples, read(bytes.copyOf(12) + odd + bytes.drop(12)))
    }

    @Test
    fun twoChannelsAreMixed() {
        val stereo = ShortArray(2 * samples.size) { if (it % 2 == 0) samples[it / 2] else 0 }
        val expected = ShortArray(samples.size) { (samples[it] / 2).toShort() }
        assertArrayEquals(expected, read(wave(stereo, 2, 16_000)))
    }

    @Test
    fun aToneKeepsItsPitchAndLoudnessAtAnyRate() {
        for (rate in listOf(8_000, 22_050, 44_100, 48_000)) {
            val found = read(wave(tone(440.0, rate, 8000.0), 1, rate))
            assertEquals(16_000, found.size)
            val expected = tone(440.0, 16_000, 8000.0)
            val worst = (200 until 15_800).maxOf { abs(found[it] - expected[it]) }
            assertTrue("$rate Hz: $worst", worst < 20)
        }
    }

    @Test
    fun whatIsAboveTheBandIsLeftOut() {
        val found = read(wave(tone(11_000.0, 48_000, 20_000.0), 1, 48_000))
        assertTrue((200 until 15_800).maxOf { abs(found[it].toInt()) } < 20)
    }

    @Test
    fun otherFilesAreRefusedInASentence() {
        val good = wave(samples, 1, 16_000)
        val float = good.copyOf().also { it[20] = 3 }
        for (bytes in listOf(ByteArray(0), "no sound at all".toByteArray(), good.copyOf(30), float)) {
            val error = assertThrows(SpeechException::class.java) { read(bytes) }
            assertEquals(SpeechException.Reason.AUDIO, error.reason)
            assertTrue(error.message, error.message.orEmpty().startsWith("x.wav: "))
        }
        assertThrows(SpeechException::class.java) { read(wave(samples, 1, 1)) }
    }

    private fun read(bytes: ByteArray) = WaveFile.read(bytes.inputStream(), "x.wav")

    private fun tone(frequency: Double, rate: Int, loudness: Double) =
        ShortArray(rate) { (loudness * sin(2 * PI * frequency * it / rate)).toInt().toShort() }

    private fun wave(samples: ShortArray, channels: Int, rate: Int): ByteArray {
        val file = folder.newFile()
        WaveFile.write(samples, file)
        val bytes = file.readBytes()
        val head = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
        head.putShort(22, channels.toShort()).putInt(24, rate)
        return bytes
    }
}
