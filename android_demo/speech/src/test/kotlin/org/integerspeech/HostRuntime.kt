package org.integerspeech

import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import java.nio.ByteBuffer

/**
 * A model on TensorFlow Lite for this machine, by its C interface, with the kernels of XNNPACK that
 * Python's LiteRT has.
 */
class HostRuntime(private val model: ByteBuffer) : Runtime {
    private val options = LITE.pointer("TfLiteInterpreterOptionsCreate")
    private val delegate = delegate()
    private val flatbuffer: Pointer
    private val interpreter: Pointer
    override val inputs: List<ByteBuffer>
    override val outputs: List<ByteBuffer>

    init {
        val address = Native.getDirectBufferPointer(model)
        flatbuffer = LITE.pointer("TfLiteModelCreate", address, model.capacity().toLong())
        LITE.call("TfLiteInterpreterOptionsSetNumThreads", options, 1)
        LITE.call("TfLiteInterpreterOptionsAddDelegate", options, delegate)
        interpreter = LITE.pointer("TfLiteInterpreterCreate", flatbuffer, options)
        check(LITE.number("TfLiteInterpreterAllocateTensors", interpreter) == 0)
        inputs = List(LITE.number("TfLiteInterpreterGetInputTensorCount", interpreter)) {
            ByteBuffer.allocateDirect(bytes(input(it)))
        }
        outputs = List(LITE.number("TfLiteInterpreterGetOutputTensorCount", interpreter)) {
            ByteBuffer.allocateDirect(bytes(output(it)))
        }
    }

    override fun invoke() {
        inputs.forEachIndexed { i, from ->
            val address = Native.getDirectBufferPointer(from)
            val bytes = from.capacity().toLong()
            check(LITE.number("TfLiteTensorCopyFromBuffer", input(i), address, bytes) == 0)
        }
        check(LITE.number("TfLiteInterpreterInvoke", interpreter) == 0)
        outputs.forEachIndexed { i, to ->
            val address = Native.getDirectBufferPointer(to)
            val bytes = to.capacity().toLong()
            check(LITE.number("TfLiteTensorCopyToBuffer", output(i), address, bytes) == 0)
        }
    }

    override fun close() {
        LITE.call("TfLiteInterpreterDelete", interpreter)
        LITE.call("TfLiteInterpreterOptionsDelete", options)
        LITE.call("TfLiteXNNPackDelegateDelete", delegate)
        LITE.call("TfLiteModelDelete", flatbuffer)
    }

    private fun input(i: Int) = LITE.pointer("TfLiteInterpreterGetInputTensor", interpreter, i)

    private fun output(i: Int) = LITE.pointer("TfLiteInterpreterGetOutputTensor", interpreter, i)

    private fun bytes(tensor: Pointer): Int =
        LITE.getFunction("TfLiteTensorByteSize").invokeLong(arrayOf(tensor)).toInt()

    private companion object {
        const val OPTION_BYTES = 256L
        const val INT8_FLAGS = 3 // signed and unsigned: LiteRT's default
        val LITE: NativeLibrary = NativeLibrary.getInstance(
            Native.extractFromResourcePath(
                "/org/bytedeco/tensorflowlite/linux-x86_64/libjnitensorflowlite.so",
                HostRuntime::class.java.classLoader,
            ).path,
        )

        fun NativeLibrary.call(name: String, vararg given: Any) =
            getFunction(name).invokeVoid(given)

        fun NativeLibrary.number(name: String, vararg given: Any): Int =
            getFunction(name).invokeInt(given)

        fun NativeLibrary.pointer(name: String, vararg given: Any): Pointer =
            checkNotNull(getFunction(name).invokePointer(given)) { name }

        fun delegate(): Pointer {
            val settings = Memory(OPTION_BYTES)
            settings.clear()
            settings.setInt(0, 1) // threads
            settings.setInt(Int.SIZE_BYTES.toLong(), INT8_FLAGS)
            return LITE.pointer("TfLiteXNNPackDelegateCreate", settings)
        }
    }
}
