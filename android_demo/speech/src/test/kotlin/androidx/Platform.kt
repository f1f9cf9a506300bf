/* Robolectric asks for these classes of androidx.test, which Maven Central does not have. The files of
 * this folder are what it needs of them. */
package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

object InstrumentationRegistry {
    private var instrumentation: Instrumentation? = null
    private var arguments = Bundle()

    @JvmStatic
    fun getInstrumentation(): Instrumentation =
        checkNotNull(instrumentation) { "Robolectric has not started." }

    @JvmStatic
    fun getArguments(): Bundle = Bundle(arguments)

    /** After a test there is none. */
    @JvmStatic
    fun registerInstance(instrumentation: Instrumentation?, arguments: Bundle?) {
        this.instrumentation = instrumentation
        this.arguments = Bundle(arguments ?: Bundle())
    }
}
