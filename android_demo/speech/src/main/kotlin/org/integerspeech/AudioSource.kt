package org.integerspeech

/** Where a stream of audio comes from: [Microphone], or for example a file. */
interface AudioSource {
    /**
     * Begins; called on the thread that then reads.
     *
     * @throws SpeechException if there is no sound to be had.
     */
    fun open(): AudioReader
}

/** Sound as it comes: 16 kHz, mono. */
interface AudioReader : AutoCloseable {
    /**
     * Waits for the next samples.
     *
     * @return how many there are, or -1 at the end.
     * @throws SpeechException if the sound stops for another reason.
     */
    fun read(samples: ShortArray): Int

    override fun close()
}
