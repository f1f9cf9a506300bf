plugins {
    id("com.android.library")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.integerspeech"
    compileSdk = 35

    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    kotlinOptions {
        jvmTarget = "1.8"
    }

    sourceSets["main"].kotlin.srcDirs("src/main/kotlin")

    publishing {
        singleVariant("release") { withSourcesJar() }
    }
}

dependencies {
    api("com.google.ai.edge.litert:litert:1.4.0")
    api("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.10.2")
}

// The C core is compiled outside Gradle, so that no NDK is needed.
val checkLibraries by tasks.registering {
    val missing = listOf("arm64-v8a", "armeabi-v7a", "x86", "x86_64")
        .map { file("src/main/jniLibs/$it/libspeech.so") }
        .filterNot { it.exists() }
    doLast {
        if (missing.isNotEmpty()) {
            throw GradleException(
                "${missing.first()} is missing: run `make android` in the repository's root on Linux, " +
                    "or `python -m android_demo.building.native`, then build again.",
            )
        }
    }
}

tasks.named("preBuild") { dependsOn(checkLibraries) }
