package org.integerspeech

import android.content.res.AssetManager
import java.io.ByteArrayOutputStream
import java.io.File
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
 * A recogniser as files: two models, tokens, a manifest with hashes, and `core.bin`, which
 * `python -m firmware_sim.export_c --format=block` writes.
 *
 * All files are read and checked before anything runs.
 *
 * @property name of the folder or file, for messages.
 * @property grammar what may be said; null if the bundle has no grammar.
 * @property windowSeconds the longest speech that is recognised at once.
 */
class SpeechBundle internal constructor(
    val name: String,
    val grammar: Grammar?,
    val windowSeconds: Double,
    internal val encoder: ByteBuffer,
    internal val decoderStep: ByteBuffer,
    internal val core: ByteBuffer,
) {
    companion object {
        private const val ENCODER = "encoder.tflite"
        private const val DECODER_STEP = "decoder_step.tflite"
        private const val CORE = "core.bin"
        private const val MANIFEST = "manifest.json"
        private const val TOKENS = "tokens.txt"
        private const val GRAMMAR = "grammar.json"
        private val FILES = setOf(ENCODER, DECODER_STEP, CORE, MANIFEST, TOKENS, GRAMMAR)
        private const val MOST_BYTES = 256 shl 20 // of a file
        private const val MOST_TEXT = 16 shl 20 // of a text file and core.bin
        private const val FORMAT = 3
        private const val FRAMES_PER_SECOND = 100.0

        /** Names of the bundles in the folder `bundles` of an app's assets. */
        @JvmStatic
        fun names(assets: AssetManager): List<String> =
            assets.list("bundles").orEmpty().sorted()

        /** @throws SpeechException if it is not there or damaged. */
        @JvmStatic
        fun fromAssets(assets: AssetManager, name: String): SpeechBundle = read(name) { file ->
            if (file in assets.list("bundles/$name").orEmpty()) {
                assets.open("bundles/$name/$file")
            } else {
                null
            }
        }

        /** @throws SpeechException if it is not there or damaged. */
        @JvmStatic
        fun fromDirectory(directory: File): SpeechBundle = read(directory.name) { file ->
            File(directory, file).takeIf { it.isFile }?.inputStream()
        }

        /**
         * Reads a zip whose files lie at its top or in one folder. The stream is closed.
         *
         * @throws SpeechException if it is not there or damaged.
         */
        @JvmStatic
        fun fromZip(stream: InputStream, name: String): SpeechBundle {
            val files = readable(name) { stream.use { unpacked(name, it) } }
            return read(name) { files[it]?.inputStream() }
        }

        private fun unpacked(name: String, stream: InputStream): Map<String, ByteArray> {
            val files = mutableMapOf<String, ByteArray>()
            val zip = ZipInputStream(stream)
            generateSequence { zip.nextEntry }.forEach { entry ->
                val file = entry.name.substringAfterLast('/')
                if (file !in FILES || entry.name.count { it == '/' } > 1) return@forEach
                if (file in files) throw damaged(name, "it holds $file twice")
                files[file] = limited(name, file, zip)
            }
            return files
        }

        private fun read(name: String, open: (String) -> InputStream?): SpeechBundle =
            readable(name) {
                val manifest = manifest(name, open)
                val grammar = if (manifest.has("grammar")) grammar(name, manifest, open) else null
                SpeechBundle(
                    name,
                    grammar,
                    manifest.getJSONObject("limits").getInt("frames") / FRAMES_PER_SECOND,
                    direct(verified(name, manifest, ENCODER, open)),
                    direct(verified(name, manifest, DECODER_STEP, open)),
                    direct(text(name, CORE, open)),
                )
            }

        private fun manifest(name: String, open: (String) -> InputStream?): JSONObject {
            val manifest = JSONObject(text(name, MANIFEST, open).decodeToString())
            if (manifest.getInt("format_version") != FORMAT) {
                throw damaged(name, "this version of the app reads format $FORMAT only")
            }
            if (manifest.getString("precision") != "int8") {
                throw damaged(name, "only int8 bundles run here")
            }
            return manifest
        }

        private fun grammar(
            name: String,
            manifest: JSONObject,
            open: (String) -> InputStream?,
        ): Grammar {
            val tokens = verified(name, manifest, TOKENS, open).decodeToString()
            val content = verified(name, manifest, GRAMMAR, open).decodeToString()
            return Grammar(JSONObject(content), tokens.removeSuffix("\n").split("\n"))
        }

        /** A file that the manifest has a hash of. */
        private fun verified(
            name: String,
            manifest: JSONObject,
            file: String,
            open: (String) -> InputStream?,
        ): ByteArray {
            val expected = manifest.getJSONObject("files").getJSONObject(file)
            val content = text(name, file, open)
            val hash = MessageDigest.getInstance("SHA-256").digest(content)
                .joinToString("") { "%02x".format(it) }
            if (content.size != expected.getInt("bytes") || hash != expected.getString("sha256")) {
                throw damaged(name, "$file is not the file that its manifest names")
            }
            return content
        }

        private fun text(name: String, file: String, open: (String) -> InputStream?): ByteArray {
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

        private fun limited(name: String, file: String, stream: InputStream): ByteArray {
            val most = if (file.endsWith(".tflite")) MOST_BYTES else MOST_TEXT
            val content = ByteArrayOutputStream()
            val block = ByteArray(1 shl 16)
            while (true) {
                val count = stream.read(block)
                if (count < 0) return content.toByteArray()
                if (content.size() + count > most) throw damaged(name, "$file is too large")
                content.write(block, 0, count)
            }
        }

        private fun direct(content: ByteArray): ByteBuffer {
            val buffer = ByteBuffer.allocateDirect(content.size).order(ByteOrder.nativeOrder())
            buffer.put(content)
            buffer.rewind()
            return buffer
        }

        /** What reading throws, as one sentence. */
        private inline fun <T> readable(name: String, read: () -> T): T = try {
            read()
        } catch (error: JSONException) {
            throw damaged(name, "its manifest or grammar is not what it should be", error)
        } catch (error: ZipException) {
            throw damaged(name, "the zip is damaged", error)
        } catch (error: IOException) {
            throw SpeechException(Reason.BUNDLE, "$name: cannot be read (${error.message}).", error)
        }

        private fun damaged(name: String, fault: String, cause: Throwable? = null) =
            SpeechException(Reason.BUNDLE, "$name: $fault; install the bundle again.", cause)
    }
}
