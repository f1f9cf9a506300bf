package androidx.test.runner.lifecycle

import android.app.Activity

enum class ApplicationStage { PRE_ON_CREATE, CREATED }

enum class Stage {
    PRE_ON_CREATE, CREATED, STARTED, RESUMED, PAUSED, STOPPED, RESTARTED, DESTROYED,
}

interface ApplicationLifecycleMonitor

interface ActivityLifecycleMonitor {
    fun getLifecycleStageOf(activity: Activity): Stage
}

object ApplicationLifecycleMonitorRegistry {
    @JvmStatic
    fun registerInstance(@Suppress("UNUSED_PARAMETER") monitor: ApplicationLifecycleMonitor) = Unit
}

object ActivityLifecycleMonitorRegistry {
    private var registered: ActivityLifecycleMonitor? = null

    @JvmStatic
    fun getInstance(): ActivityLifecycleMonitor = checkNotNull(registered)

    @JvmStatic
    fun registerInstance(monitor: ActivityLifecycleMonitor) {
        registered = monitor
    }
}
