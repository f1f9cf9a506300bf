package org.integerspeech

/**
 * Speech cannot be recognised. [message] is a sentence on what is wrong and what to do.
 *
 * @property reason for code that acts on it.
 */
open class SpeechException(val reason: Reason, message: String, cause: Throwable? = null) :
    Exception(message, cause) {
    enum class Reason {
        /** The bundle is missing, damaged or of another kind. */
        BUNDLE,

        /** A text is no grammar, see [GrammarException]; or a bundle that needs one has none. */
        GRAMMAR,

        /** A file holds no sound that can be decoded. */
        AUDIO,

        /** The models do not load or run. */
        RUNTIME,

        /** The recogniser or stream is closed. */
        CLOSED,

        /** The app may not record. */
        PERMISSION,

        /** Another app has the microphone, or the phone has none that fits. */
        MICROPHONE_BUSY,

        /** The microphone went away while it was in use. */
        MICROPHONE_LOST,

        /** Another app, for example a call, has the audio focus. */
        AUDIO_FOCUS,
    }
}

/**
 * A text is no grammar.
 *
 * @property position where the fault is in the text, in characters.
 */
class GrammarException(message: String, val position: Int) :
    SpeechException(Reason.GRAMMAR, message)
