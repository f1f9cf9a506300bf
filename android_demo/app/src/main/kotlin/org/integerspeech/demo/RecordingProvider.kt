package org.integerspeech.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

/** The last recording, read by the app that the user shares it with. */
class RecordingProvider : ContentProvider() {
    override fun onCreate() = true

    override fun getType(uri: Uri) = "audio/wav"

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (uri != URI || mode != "r") throw FileNotFoundException("$uri: only $URI can be read.")
        return ParcelFileDescriptor.open(shared(), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(
        uri: Uri,
        projection: Array<String>?,
        selection: String?,
        arguments: Array<String>?,
        order: String?,
    ): Cursor {
        val columns = projection ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val row = columns.map {
            when (it) {
                OpenableColumns.DISPLAY_NAME -> FILE
                OpenableColumns.SIZE -> shared().length()
                else -> null
            }
        }
        return MatrixCursor(columns).apply { addRow(row) }
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?) = 0

    override fun delete(uri: Uri, where: String?, arguments: Array<String>?) = 0

    private fun shared() = file(checkNotNull(context))

    companion object {
        private const val FILE = "recording.wav"
        val URI: Uri = Uri.parse("content://org.integerspeech.demo.recording/$FILE")

        fun file(context: Context) = File(context.cacheDir, FILE)
    }
}
