package org.integerspeech

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/**
 * One of the two models of a bundle, loaded. One thread at a time uses it.
 *
 * The buffers are direct, int8, in the order of the flatbuffer, and stay the same.
 */
interface Runtime : AutoCloseable {
    val inputs: List<ByteBuffer>
    val outputs: List<ByteBuffer>

    /** Computes the outputs of what is in the inputs. */
    fun invoke()

    override fun close()
}

/** Loads a model; the buffer is direct and belongs to the runtime. */
fun interface RuntimeLoader {
    fun load(model: ByteBuffer): Runtime
}

/**
 * A model on TensorFlow Lite, or LiteRT, which has the same classes.
 *
 * @param threads more than one helps the encoder of large bundles only.
 * @throws IllegalArgumentException if the model does not load, or is not int8.
 */
class InterpreterRuntime(model: ByteBuffer, threads: Int = 1) : Runtime {
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    override val inputs = List(interpreter.inputTensorCount) { made(interpreter.getInputTensor(it)) }
    override val outputs =
        List(interpreter.outputTensorCount) { made(interpreter.getOutputTensor(it)) }
    private val given: Array<Any> = inputs.toTypedArray()
    private val computed: Map<Int, Any> = outputs.indices.associateWith { outputs[it] }

    override fun invoke() {
        inputs.forEach { it.rewind() }
        outputs.forEach { it.rewind() }
        interpreter.runForMultipleInputsOutputs(given, computed)
    }

    override fun close() = interpreter.close()

    private fun made(tensor: Tensor): ByteBuffer {
        require(tensor.dataType() == DataType.INT8) {
            "${tensor.name()} is ${tensor.dataType()}: only int8 models run here."
        }
        return ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
    }
}
