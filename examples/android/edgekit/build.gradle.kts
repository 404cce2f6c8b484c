// An AAR with the native library, its JNI binding, the Java classes and the Kotlin flow. Other modules with C++ code find
// the library and its headers through prefab: find_package(edgekit) and edgekit::edgekit_native.
plugins {
    id("com.android.library")
    id("org.jetbrains.kotlin.android")
}

val sources = rootProject.file(providers.gradleProperty("edgekit.sources").get())

android {
    namespace = "dev.edgekit"
    compileSdk = 35
    ndkVersion = "27.2.12479018"

    defaultConfig {
        minSdk = 26
        consumerProguardFiles("consumer-rules.pro")
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
        externalNativeBuild {
            cmake {
                arguments += listOf("-DANDROID_STL=c++_static", "-DEDGEKIT_SOURCES=${sources.absolutePath}")
                targets += listOf("edgekit_native", "edgekit_jni")
            }
        }
    }
    externalNativeBuild {
        cmake {
            path = file("src/main/cpp/CMakeLists.txt")
            version = "3.22.1"
        }
    }
    sourceSets.getByName("main") {
        java.srcDir("../../java/src")
        kotlin.srcDirs("../../java/src", "../../kotlin/flow")
    }
    buildFeatures {
        prefabPublishing = true
    }
    prefab {
        create("edgekit_native") {
            headers = File(sources, "include").absolutePath
        }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions {
        jvmTarget = "1.8"
    }
}

dependencies {
    api("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.9.0")
}
