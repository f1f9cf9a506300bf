package org.integerspeech

import android.content.res.AssetManager
import java.io.File
import java.io.InputStream
import java.nio.ByteBuffer
import org.integerspeech.BundleFiles.Companion.damaged
import org.integerspeech.BundleFiles.Companion.direct
import org.json.JSONArray
import org.json.JSONObject

/**
 * A recogniser as files: two models, tokens, a manifest with hashes, and `core.bin`, which
 * `python -m firmware_sim.export_c --format=block` writes. A general bundle also has its phones,
 * and pronunciations for grammars of your own.
 *
 * All files are read and checked before anything runs.
 *
 * @property name of the folder or file, for messages.
 * @property grammar what may be said; null if the bundle has no grammar.
 * @property windowSeconds the longest speech that is recognised at once.
 * @property freeText whether it understands text without a grammar. If not, [Recognizer.use] gives
 *   it one.
 */
class SpeechBundle internal constructor(
    val name: String,
    val grammar: Grammar?,
    val windowSeconds: Double,
    val freeText: Boolean,
    internal val encoder: ByteBuffer,
    internal val decoderStep: ByteBuffer,
    internal val core: ByteBuffer,
    internal val lexicon: ByteBuffer?,
) {
    /** Whether the model is a general one, which [Recognizer.use] holds to any grammar. */
    val takesGrammars: Boolean get() = lexicon != null

    companion object {
        private const val FORMAT = 3
        private const val PHONE_FORMAT = 4 // of general models, whose encoders have phones
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
            val files = BundleFiles.readable(name) {
                stream.use { BundleFiles.unpacked(name, it) }
            }
            return read(name) { files[it]?.inputStream() }
        }

        private fun read(name: String, open: (String) -> InputStream?): SpeechBundle =
            BundleFiles.readable(name) {
                val files = BundleFiles(name, open)
                checkKind(files)
                val manifest = files.manifest
                val phones = phones(files)
                SpeechBundle(
                    name,
                    if (manifest.has("grammar")) grammar(files, phones) else null,
                    manifest.getJSONObject("limits").getInt("frames") / FRAMES_PER_SECOND,
                    freeText(files),
                    direct(files.verified(BundleFiles.ENCODER)),
                    direct(files.verified(BundleFiles.DECODER_STEP)),
                    direct(files.read(BundleFiles.CORE)),
                    if (phones != null && manifest.has("lexicon")) {
                        direct(files.verified(BundleFiles.LEXICON))
                    } else {
                        null
                    },
                )
            }

        private fun freeText(files: BundleFiles): Boolean {
            val understands = files.manifest.opt("understands") ?: return true
            if (understands != "text" && understands != "phrases") {
                throw damaged(files.name, "it understands neither text nor phrases")
            }
            return understands == "text"
        }

        private fun checkKind(files: BundleFiles) {
            if (files.manifest.getInt("format_version") !in setOf(FORMAT, PHONE_FORMAT)) {
                val formats = "$FORMAT and $PHONE_FORMAT"
                throw damaged(files.name, "this version of the app reads formats $formats only")
            }
            if (files.manifest.getString("precision") != "int8") {
                throw damaged(files.name, "only int8 bundles run here")
            }
        }

        /** The phones that a general model hears; null for another one. */
        private fun phones(files: BundleFiles): List<String>? {
            if (files.manifest.getInt("format_version") != PHONE_FORMAT) return null
            val phones = files.lines(BundleFiles.PHONES)
            if (phones.any(String::isBlank) || phones.toSet().size != phones.size) {
                throw damaged(files.name, "phones.txt does not hold a phone a line, each once")
            }
            val frames = files.manifest.getJSONObject("limits").getInt("memory_frames")
            val shape = listOf(1, frames, phones.size + 1) // with the blank of CTC
            val outputs = files.manifest.getJSONObject("models").getJSONObject("encoder")
                .getJSONArray("outputs")
            val output = outputs.objects().find { it.getString("name") == "phone_logits" }
                ?: throw damaged(files.name, "the encoder has no output phone_logits")
            if (output.getJSONArray("shape").numbers() != shape) {
                throw damaged(files.name, "phone_logits of the encoder do not fit phones.txt")
            }
            return phones
        }

        private fun grammar(files: BundleFiles, phones: List<String>?) = Grammar(
            JSONObject(files.verified(BundleFiles.GRAMMAR).decodeToString()),
            files.lines(BundleFiles.TOKENS),
            phones,
        )

        private fun JSONArray.objects() = List(length()) { getJSONObject(it) }

        private fun JSONArray.numbers() = List(length()) { getInt(it) }
    }
}
