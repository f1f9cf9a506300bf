package org.integerspeech

import android.content.Context
import android.media.MediaCodec
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import java.io.BufferedInputStream
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Recordings in files, decoded by the phone: MP3, AAC, Opus, Vorbis, FLAC, WAV and more. */
object AudioFile {
    private const val HEAD = 44
    private const val WAIT = 10_000L // microseconds
    private const val MOST_BYTES = 256 shl 20

    /**
     * Reads a file; not on the main thread.
     *
     * @return 16 kHz, mono.
     * @throws SpeechException if it holds no sound that this phone decodes.
     */
    @JvmStatic
    fun read(context: Context, uri: Uri): ShortArray {
        val name = uri.lastPathSegment.orEmpty().substringAfterLast('/')
        try {
            val stream = context.contentResolver.openInputStream(uri)
                ?: throw WaveFile.unreadable(name, "it cannot be opened")
            BufferedInputStream(stream).use {
                it.mark(HEAD)
                val head = ByteArray(HEAD)
                val count = it.read(head)
                it.reset()
                if (count == HEAD && WaveFile.isWave(head)) return WaveFile.read(it, name)
            }
            return decoded(context, uri, name)
        } catch (error: IOException) {
            throw WaveFile.unreadable(name, "it cannot be read (${error.message})", error)
        } catch (error: SecurityException) {
            throw WaveFile.unreadable(name, "the app may not read it", error)
        }
    }

    private fun decoded(context: Context, uri: Uri, name: String): ShortArray {
        val extractor = MediaExtractor()
        try {
            extractor.setDataSource(context, uri, null)
            val track = (0 until extractor.trackCount).firstOrNull {
                extractor.getTrackFormat(it).getString(MediaFormat.KEY_MIME).orEmpty()
                    .startsWith("audio/")
            } ?: throw WaveFile.unreadable(name, "it holds no sound")
            extractor.selectTrack(track)
            val format = extractor.getTrackFormat(track)
            val codec = MediaCodec.createDecoderByType(
                checkNotNull(format.getString(MediaFormat.KEY_MIME)),
            )
            try {
                codec.configure(format, null, null, 0)
                codec.start()
                return run(extractor, codec, name)
            } finally {
                codec.release()
            }
        } catch (error: IllegalStateException) { // a MediaCodec.CodecException too
            throw WaveFile.unreadable(name, "this phone cannot decode it", error)
        } catch (error: IllegalArgumentException) {
            throw WaveFile.unreadable(name, "this phone cannot decode it", error)
        } finally {
            extractor.release()
        }
    }

    /** Moves all of a track through its decoder, which gives 16-bit PCM. */
    private fun run(extractor: MediaExtractor, codec: MediaCodec, name: String): ShortArray {
        val sound = ByteArrayOutputStream()
        val info = MediaCodec.BufferInfo()
        var fed = false
        while (info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM == 0) {
            if (!fed) fed = feed(extractor, codec)
            val place = codec.dequeueOutputBuffer(info, WAIT)
            if (place < 0) continue
            val block = ByteArray(info.size)
            codec.getOutputBuffer(place)?.get(block)
            codec.releaseOutputBuffer(place, false)
            sound.write(block)
            if (sound.size() > MOST_BYTES) throw WaveFile.unreadable(name, "it is too long")
        }
        val format = codec.outputFormat
        val samples = ShortArray(sound.size() / 2)
        ByteBuffer.wrap(sound.toByteArray()).order(ByteOrder.nativeOrder()).asShortBuffer()
            .get(samples)
        return Resampler.toSpeech(
            samples,
            format.getInteger(MediaFormat.KEY_CHANNEL_COUNT),
            format.getInteger(MediaFormat.KEY_SAMPLE_RATE),
            name,
        )
    }

    /** Hands the next packet to the decoder. Returns whether that was the end. */
    private fun feed(extractor: MediaExtractor, codec: MediaCodec): Boolean {
        val place = codec.dequeueInputBuffer(WAIT)
        val buffer = (if (place < 0) null else codec.getInputBuffer(place)) ?: return false
        val count = extractor.readSampleData(buffer, 0)
        val end = count < 0
        val flags = if (end) MediaCodec.BUFFER_FLAG_END_OF_STREAM else 0
        codec.queueInputBuffer(place, 0, maxOf(count, 0), extractor.sampleTime, flags)
        if (!end) extractor.advance()
        return end
    }
}
