package org.integerspeech

import java.io.ByteArrayOutputStream
import java.io.DataInputStream
import java.io.EOFException
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.integerspeech.SpeechException.Reason

/** Recordings as WAV files. */
object WaveFile {
    private const val HEADER = 44
    private const val PCM = 1
    private const val EXTENSIBLE = 0xfffe
    private const val MOST_BYTES = 256 shl 20

    /** Whether a file begins as a WAV does; it has [HEADER] bytes at least. */
    internal fun isWave(head: ByteArray): Boolean = head.size >= 12 &&
        head.decodeToString(0, 4) == "RIFF" && head.decodeToString(8, 12) == "WAVE"

    /**
     * Reads 16-bit PCM of any rate and number of channels.
     *
     * A size that is larger than the file, as recorders write it into a pipe, means all of the file.
     *
     * @return 16 kHz, mono.
     * @throws SpeechException if it is no such file.
     * @throws IOException if the stream cannot be read.
     */
    fun read(stream: InputStream, name: String): ShortArray {
        val input = DataInputStream(stream)
        try {
            val head = ByteArray(12).also(input::readFully)
            if (!isWave(head)) throw unreadable(name, "it is no WAV file")
            var format: ByteBuffer? = null
            while (true) {
                val chunk = ByteArray(8).also(input::readFully)
                val size = little(chunk).getInt(4).toLong() and 0xffffffffL
                when (chunk.decodeToString(0, 4)) {
                    "fmt " -> {
                        if (size !in 16..256) throw unreadable(name, "its format is damaged")
                        format = little(ByteArray(size.toInt()).also(input::readFully))
                        if (size % 2 == 1L) input.readByte()
                    }
                    "data" -> {
                        val found = format ?: throw unreadable(name, "it names no format")
                        return decoded(found, content(input, size, name), name)
                    }
                    else -> skip(input, size + size % 2)
                }
            }
        } catch (error: EOFException) {
            throw unreadable(name, "it ends before its sound", error)
        }
    }

    /**
     * Writes 16 kHz mono.
     *
     * @throws IOException if it cannot be written; nothing half-written stays.
     */
    fun write(samples: ShortArray, file: File) {
        val bytes = Short.SIZE_BYTES * samples.size
        val content = ByteBuffer.allocate(HEADER + bytes).order(ByteOrder.LITTLE_ENDIAN)
        content.put("RIFF".toByteArray()).putInt(HEADER - 8 + bytes).put("WAVEfmt ".toByteArray())
        content.putInt(16).putShort(PCM.toShort()).putShort(1)
        content.putInt(NativeCore.SAMPLE_RATE).putInt(Short.SIZE_BYTES * NativeCore.SAMPLE_RATE)
        content.putShort(Short.SIZE_BYTES.toShort()).putShort(16)
        content.put("data".toByteArray()).putInt(bytes)
        samples.forEach { content.putShort(it) }
        val temporary = File(file.path + ".tmp")
        try {
            temporary.writeBytes(content.array())
            if (!temporary.renameTo(file)) throw IOException("$file cannot be replaced")
        } finally {
            temporary.delete()
        }
    }

    private fun decoded(format: ByteBuffer, content: ByteArray, name: String): ShortArray {
        val kind = format.getShort(0).toInt() and 0xffff
        val channels = format.getShort(2).toInt()
        val rate = format.getInt(4)
        val bits = format.getShort(14).toInt()
        if ((kind != PCM && kind != EXTENSIBLE) || bits != 16 || channels < 1) {
            throw unreadable(name, "only 16-bit PCM is read")
        }
        val samples = ShortArray(content.size / 2)
        little(content).asShortBuffer().get(samples)
        return Resampler.toSpeech(samples, channels, rate, name)
    }

    private fun content(input: InputStream, size: Long, name: String): ByteArray {
        val most = minOf(size, MOST_BYTES + 1L).toInt()
        val content = ByteArrayOutputStream()
        val block = ByteArray(1 shl 16)
        while (content.size() < most) {
            val count = input.read(block, 0, minOf(block.size, most - content.size()))
            if (count < 0) break
            content.write(block, 0, count)
        }
        if (content.size() > MOST_BYTES) throw unreadable(name, "it is too long")
        return content.toByteArray()
    }

    private fun skip(input: DataInputStream, bytes: Long) {
        var left = bytes
        while (left > 0) {
            val skipped = input.skip(left)
            if (skipped == 0L) input.readByte()
            left -= maxOf(skipped, 1)
        }
    }

    private fun little(bytes: ByteArray) = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)

    internal fun unreadable(name: String, fault: String, cause: Throwable? = null) =
        SpeechException(Reason.AUDIO, "$name: $fault; choose another file.", cause)
}
