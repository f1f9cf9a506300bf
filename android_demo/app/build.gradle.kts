plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.integerspeech.demo"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.integerspeech.demo"
        minSdk = 24
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"), "proguard-rules.pro")
        }
    }

    androidResources {
        noCompress += "tflite"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    kotlinOptions {
        jvmTarget = "1.8"
    }

    sourceSets["main"].kotlin.srcDirs("src/main/kotlin")
}

dependencies {
    implementation(project(":speech"))
}

// The bundles are written outside Gradle: `core.bin` is made by Python.
val checkBundles by tasks.registering {
    val bundles = file("src/main/assets/bundles")
    doLast {
        if (bundles.list().isNullOrEmpty()) {
            throw GradleException(
                "$bundles is empty: run `make android` in the repository's root, or " +
                    "`python -m android_demo.building.assets`, then build again.",
            )
        }
    }
}

tasks.named("preBuild") { dependsOn(checkBundles) }
