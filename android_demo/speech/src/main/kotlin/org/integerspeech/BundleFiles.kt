package org.integerspeech

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.zip.ZipException
import java.util.zip.ZipInputStream
import org.integerspeech.SpeechException.Reason
import org.json.JSONException
import org.json.JSONObject

/**
 * The files of a bundle, read with limits.
 *
 * @param name of the bundle, for messages.
 * @param open gives a file by its name; null if there is none.
 */
internal class BundleFiles(val name: String, private val open: (String) -> InputStream?) {
    val manifest by lazy { JSONObject(text(MANIFEST)) }

    /** A file that the manifest has a hash of. */
    fun verified(file: String): ByteArray {
        val expected = manifest.getJSONObject("files").getJSONObject(file)
        val content = read(file)
        val hash = MessageDigest.getInstance("SHA-256").digest(content)
            .joinToString("") { "%02x".format(it) }
        if (content.size != expected.getInt("bytes") || hash != expected.getString("sha256")) {
            throw damaged(name, "$file is not the file that its manifest names")
        }
        return content
    }

    /** Lines of a file that the manifest has a hash of. */
    fun lines(file: String): List<String> =
        verified(file).decodeToString().removeSuffix("\n").split("\n")

    fun read(file: String): ByteArray {
        val stream = open(file) ?: throw SpeechException(
            Reason.BUNDLE,
            if (file == CORE) {
                "$name: holds no core.bin; write it by firmware_sim.export_c --format=block."
            } else {
                "$name: holds no $file; choose a whole bundle."
            },
        )
        return stream.use { limited(name, file, it) }
    }

    private fun text(file: String) = read(file).decodeToString()

    companion object {
        const val ENCODER = "encoder.tflite"
        const val DECODER_STEP = "decoder_step.tflite"
        const val CORE = "core.bin"
        const val MANIFEST = "manifest.json"
        const val TOKENS = "tokens.txt"
        const val GRAMMAR = "grammar.json"
        const val PHONES = "phones.txt"
        const val LEXICON = "lexicon.bin"
        private val ALL =
            setOf(ENCODER, DECODER_STEP, CORE, MANIFEST, TOKENS, GRAMMAR, PHONES, LEXICON)
        private const val MOST_BYTES = 256 shl 20 // of a model
        private const val MOST_OTHER = 16 shl 20 // of another file

        /** The files of a zip that a bundle has, from its top or its only folder. */
        fun unpacked(name: String, stream: InputStream): Map<String, ByteArray> {
            val files = mutableMapOf<String, ByteArray>()
            val zip = ZipInputStream(stream)
            generateSequence { zip.nextEntry }.forEach { entry ->
                val file = entry.name.substringAfterLast('/')
                if (file !in ALL || entry.name.count { it == '/' } > 1) return@forEach
                if (file in files) throw damaged(name, "it holds $file twice")
                files[file] = limited(name, file, zip)
            }
            return files
        }

        private fun limited(name: String, file: String, stream: InputStream): ByteArray {
            val most = if (file.endsWith(".tflite")) MOST_BYTES else MOST_OTHER
            val content = ByteArrayOutputStream()
            val block = ByteArray(1 shl 16)
            while (true) {
                val count = stream.read(block)
                if (count < 0) return content.toByteArray()
                if (content.size() + count > most) throw damaged(name, "$file is too large")
                content.write(block, 0, count)
            }
        }

        fun direct(content: ByteArray): ByteBuffer {
            val buffer = ByteBuffer.allocateDirect(content.size).order(ByteOrder.nativeOrder())
            buffer.put(content)
            buffer.rewind()
            return buffer
        }

        /** What reading throws, as one sentence. */
        inline fun <T> readable(name: String, read: () -> T): T = try {
            read()
        } catch (error: JSONException) {
            throw damaged(name, "its manifest or grammar is not what it should be", error)
        } catch (error: ZipException) {
            throw damaged(name, "the zip is damaged", error)
        } catch (error: IOException) {
            throw SpeechException(Reason.BUNDLE, "$name: cannot be read (${error.message}).", error)
        }

        fun damaged(name: String, fault: String, cause: Throwable? = null) =
            SpeechException(Reason.BUNDLE, "$name: $fault; install the bundle again.", cause)
    }
}
