package org.integerspeech

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.cos
import kotlin.math.floor
import kotlin.math.roundToInt
import kotlin.math.sin

/** Sound of any rate to 16 kHz, by a windowed sinc. */
internal object Resampler {
    private const val RATE = NativeCore.SAMPLE_RATE
    private const val SLOWEST = 4_000
    private const val FASTEST = 192_000
    private const val CROSSINGS = 16 // of the sinc, on each side
    private const val PLACES = 256 // of the table, between two crossings
    private const val PASS = 0.95 // of the band

    /** Half of the kernel, from its middle; Hann's window. */
    private val kernel = DoubleArray(CROSSINGS * PLACES + 2) {
        val x = it.toDouble() / PLACES
        val window = if (x < CROSSINGS) 0.5 + 0.5 * cos(PI * x / CROSSINGS) else 0.0
        window * (if (it == 0) 1.0 else sin(PI * x) / (PI * x))
    }

    /**
     * Mixes the channels, and changes the rate.
     *
     * @param samples the channels of each frame, one after the other.
     * @throws SpeechException if the rate is none of sound.
     */
    fun toSpeech(samples: ShortArray, channels: Int, rate: Int, name: String): ShortArray {
        if (rate !in SLOWEST..FASTEST) throw WaveFile.unreadable(name, "its rate is $rate Hz")
        val mono = if (channels == 1) {
            samples
        } else {
            ShortArray(samples.size / channels) { frame ->
                var sum = 0
                for (i in 0 until channels) sum += samples[frame * channels + i]
                (sum / channels).toShort()
            }
        }
        return if (rate == RATE) mono else resampled(mono, rate)
    }

    private fun resampled(samples: ShortArray, rate: Int): ShortArray {
        val step = rate.toDouble() / RATE
        val scale = PASS * minOf(1.0, 1 / step) // crossings of the kernel in a sample
        val reach = CROSSINGS / scale
        return ShortArray((samples.size / step).toInt()) { i ->
            val middle = i * step
            var sum = 0.0
            val first = maxOf(0, ceil(middle - reach).toInt())
            val last = minOf(samples.size - 1, floor(middle + reach).toInt())
            for (k in first..last) sum += samples[k] * at(abs(k - middle) * scale)
            (sum * scale).roundToInt().coerceIn(-32_768, 32_767).toShort()
        }
    }

    private fun at(crossings: Double): Double {
        val place = crossings * PLACES
        val whole = place.toInt()
        if (whole > CROSSINGS * PLACES) return 0.0
        return kernel[whole] + (kernel[whole + 1] - kernel[whole]) * (place - whole)
    }
}
