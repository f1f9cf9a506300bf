package org.integerspeech

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.integerspeech.SpeechException.Reason

/** Texts of grammars to blocks that the core takes: `speech_compiler.h`, which also describes both. */
internal object GrammarCompiler {
    private const val LEAST_ROOM = 1 shl 18 // bytes in which a grammar is compiled first
    private const val MOST_ROOM = 1 shl 26

    // speech_grammar_error
    private const val POSITION = 4
    private const val LINE = 8
    private const val MESSAGE = 12
    private const val ERROR_BYTES = 332

    // enum speech_status
    private const val ERROR_BLOCK = 7
    private const val ERROR_MEMORY = 8
    private const val ERROR_GRAMMAR = 10

    init {
        System.loadLibrary("speech")
    }

    /**
     * The block of a grammar.
     *
     * @throws GrammarException if the text is no grammar.
     * @throws SpeechException if the bundle takes none.
     */
    fun compile(bundle: SpeechBundle, text: String): ByteBuffer {
        val lexicon = bundle.lexicon ?: throw SpeechException(
            Reason.BUNDLE,
            "${bundle.name} understands only what it was trained for; choose a general bundle.",
        )
        val content = text.toByteArray()
        val given = BundleFiles.direct(content)
        val error = ByteBuffer.allocateDirect(ERROR_BYTES).order(ByteOrder.nativeOrder())
        var bytes = LEAST_ROOM
        while (bytes <= MOST_ROOM) {
            val room = ByteBuffer.allocateDirect(bytes)
            val size = compile(bundle.core, lexicon, given, room, error)
            when (-size) {
                ERROR_MEMORY -> bytes *= 2
                ERROR_GRAMMAR -> throw fault(error, content)
                ERROR_BLOCK -> throw unusable(bundle, "core.bin is not of a general model")
                else -> {
                    if (size < 0) throw unusable(bundle, "lexicon.bin is damaged")
                    return BundleFiles.direct(ByteArray(size).also { room.get(it) })
                }
            }
        }
        throw GrammarException("The grammar is too large for this app: write fewer words.", 0)
    }

    /** What the compiler says, in one sentence. */
    private fun fault(error: ByteBuffer, content: ByteArray): GrammarException {
        val message = ByteArray(ERROR_BYTES - MESSAGE) { error.get(MESSAGE + it) }
            .decodeToString().substringBefore('\u0000')
        val before = content.decodeToString(0, error.getInt(POSITION).coerceIn(0, content.size))
        return GrammarException("Line ${error.getInt(LINE)}: $message.", before.length)
    }

    private fun unusable(bundle: SpeechBundle, fault: String) =
        SpeechException(Reason.BUNDLE, "${bundle.name}: $fault; write the bundle anew.")

    @JvmStatic
    private external fun compile(
        block: ByteBuffer,
        lexicon: ByteBuffer,
        text: ByteBuffer,
        buffer: ByteBuffer,
        error: ByteBuffer,
    ): Int
}
