"""The demo as signed APKs, and the library as an AAR, where there is no Android SDK.

    python -m android_demo.building.apk

Maven compiles; Debian's aapt packs resources; ProGuard leaves out what nothing calls; D8 makes dex;
zipalign and apksigner do as they say.  A key is made for each build and thrown away, so an APK of
another build has to be uninstalled first.

Writes to `build/`: `speech.apk` (all ABIs), `speech-arm64-v8a.apk` and `speech.aar`.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from typing import Final

from android_demo.building import assets, native
from android_demo.building.native import ANDROID, BUILD, LIBRARIES, TARGETS
from firmware_sim.c.third_party import UnreachableError

APP: Final = ANDROID / "app"
SPEECH: Final = ANDROID / "speech"
PACKAGE: Final = "org.integerspeech.demo"
LEAST_ANDROID: Final = 24
TARGET_ANDROID: Final = 35
VERSION: Final = ("1", "0.1.0")
PAGE: Final = 16_384  # bytes, of the phones with the largest ones
_LOCAL_HEADER: Final = 30  # bytes, of a file in a zip, before its name
_FRAMEWORK: Final = pathlib.Path("/usr/share/android-framework-res/framework-res.apk")
_RESOURCES: Final = BUILD / "resources.ap_"
_PACKAGES: Final = {
    "aapt": "aapt",
    "apksigner": "apksigner",
    "keytool": "a JDK",
    "mvn": "maven",
    "zipalign": "zipalign",
}


def resources() -> None:
    """Compiles the app's resources: `R.java`, and a file that Robolectric reads."""
    generated = BUILD / "gen"
    shutil.rmtree(generated, ignore_errors=True)
    generated.mkdir(parents=True)
    _write_manifest()
    _aapt("-J", generated, "-G", BUILD / "aapt-rules.pro", "-F", _RESOURCES)
    properties = BUILD / "robolectric" / "com" / "android" / "tools" / "test_config.properties"
    properties.parent.mkdir(parents=True, exist_ok=True)
    properties.write_text(
        f"android_merged_manifest={BUILD / 'AndroidManifest.xml'}\n"
        f"android_merged_resources={APP / 'src/main/res'}\n"
        f"android_merged_assets={assets.ASSETS.parent}\n"
        f"android_custom_package={PACKAGE}\n"
        f"android_resource_apk={_RESOURCES}\n"
    )


def build() -> list[pathlib.Path]:
    """Builds everything; returns the files.

    Raises:
      RuntimeError: if a tool is missing or fails.
      UnreachableError: if sources of others cannot be downloaded.
    """
    for tool, package in _PACKAGES.items():
        if shutil.which(tool) is None:
            raise RuntimeError(f"{tool} is missing: install {package}.")
    if not _FRAMEWORK.exists():
        raise RuntimeError(f"{_FRAMEWORK} is missing: apt-get install android-framework-res.")
    native.build()
    if assets.main([]):
        raise RuntimeError("The bundles could not be written.")
    resources()
    maven("package", "-DskipTests")
    dex = _dex(_shrunk())
    files = [_aar()]
    with tempfile.TemporaryDirectory() as scratch:
        key = pathlib.Path(scratch, "key.jks")
        _make_key(key)
        for name, abis in (("speech-arm64-v8a", ["arm64-v8a"]), ("speech", list(TARGETS))):
            files.append(_apk(BUILD / f"{name}.apk", abis, dex, key))
    return files


def maven(*arguments: str) -> None:
    """Runs Maven on all modules."""
    command = ["mvn", "--batch-mode", "--quiet", f"--file={ANDROID / 'pom.xml'}", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError("mvn failed; its messages stand above.")


def _write_manifest() -> None:
    """The app's manifest with what Gradle adds."""
    text = (APP / "src" / "main" / "AndroidManifest.xml").read_text(encoding="utf-8")
    text = text.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1)
    # Libraries are loaded from the APK: they are stored there, at whole pages.
    text = text.replace(
        "<application\n", '<application\n      android:extractNativeLibs="false"\n', 1
    )
    sdk = f'<uses-sdk android:minSdkVersion="{LEAST_ANDROID}" '
    sdk += f'android:targetSdkVersion="{TARGET_ANDROID}"/>\n'
    text = text.replace("  <uses-permission", f"  {sdk}  <uses-permission", 1)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "AndroidManifest.xml").write_text(text, encoding="utf-8")


def _aapt(*arguments: object) -> None:
    code, name = VERSION
    inputs = ["-M", BUILD / "AndroidManifest.xml", "-S", APP / "src" / "main" / "res"]
    versions = ["--version-code", code, "--version-name", name]
    # From Android 11 on, the table of resources has to be stored.
    stored = ["-0", "arsc", "-0", "tflite"]
    _run("aapt", "package", "-f", "-m", "-I", _FRAMEWORK, *inputs, *versions, *stored, *arguments)


def _class_paths() -> list[pathlib.Path]:
    """What goes into the app."""
    tflite = [BUILD / "tflite" / "classes.jar", BUILD / "tflite" / "api" / "classes.jar"]
    ours = [APP / "target" / "classes", SPEECH / "target" / "classes"]
    return [*ours, *tflite, *sorted((BUILD / "tools" / "app").glob("*.jar"))]


def _android() -> pathlib.Path:
    (found,) = (BUILD / "tools" / "android").glob("android-all-*.jar")
    return found


def _java_tool(name: str) -> str:
    return os.pathsep.join(map(str, sorted((BUILD / "tools" / name).glob("*.jar"))))


def _shrunk() -> pathlib.Path:
    """All classes that the app reaches, as a jar."""
    jar = BUILD / "shrunk.jar"
    kept = [SPEECH / "consumer-rules.pro", APP / "proguard-rules.pro", BUILD / "aapt-rules.pro"]
    kept += [BUILD / "tflite" / "proguard.txt", _rules_of_coroutines()]
    options = [f"-injars {path}(!META-INF/**)" for path in _class_paths()]
    options.append(f"-libraryjars {_android()}")
    modules = native.java_home() / "jmods"  # the Android jar has no java.*
    for name in ("java.base", "java.logging"):
        options.append(f"-libraryjars {modules / name}.jmod(!**.jar;!module-info.class)")
    options += [f"-outjars {jar}", "-dontoptimize", "-dontnote"]
    options += ["-keepattributes Signature,InnerClasses,EnclosingMethod,*Annotation*,Exceptions"]
    rules = BUILD / "proguard.pro"
    rules.write_text("\n".join([*options, *(f"-include {path}" for path in kept)]) + "\n")
    _run("java", "-Xmx2g", "-cp", _java_tool("shrinking"), "proguard.ProGuard", f"@{rules}")
    return jar


def _rules_of_coroutines() -> pathlib.Path:
    """What coroutines reach by reflection, as their jar says."""
    (jar,) = (BUILD / "tools" / "app").glob("kotlinx-coroutines-core-*.jar")
    rules = BUILD / "coroutines.pro"
    with zipfile.ZipFile(jar) as content:
        rules.write_bytes(content.read("META-INF/proguard/coroutines.pro"))
    return rules


def _dex(jar: pathlib.Path) -> pathlib.Path:
    """The dex file of a jar."""
    out = BUILD / "dex"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    options = ["--release", "--min-api", LEAST_ANDROID, "--lib", _android(), "--output", out]
    options += ["--lib", native.java_home()]
    _run(
        *("java", "-Xmx2g", "-cp", _java_tool("dexing"), "com.android.tools.r8.D8"),
        *(*options, jar),
    )
    (found,) = out.iterdir()  # one file holds 65,536 methods
    return found


def _aar() -> pathlib.Path:
    """The library, as Gradle would write it."""
    target = BUILD / "speech.aar"
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        classes = pathlib.Path(scratch, "classes.jar")
        compiled = SPEECH / "target" / "classes"
        _zip(classes, {str(x.relative_to(compiled)): x for x in compiled.rglob("*") if x.is_file()})
        manifest = pathlib.Path(scratch, "AndroidManifest.xml")
        manifest.write_text(
            '<manifest xmlns:android="http://schemas.android.com/apk/res/android" '
            f'package="org.integerspeech">\n  <uses-sdk android:minSdkVersion="{LEAST_ANDROID}"/>\n'
            "</manifest>\n"
        )
        table = pathlib.Path(scratch, "R.txt")
        table.touch()
        files = {
            "AndroidManifest.xml": manifest,
            "R.txt": table,
            "classes.jar": classes,
            "proguard.txt": SPEECH / "consumer-rules.pro",
        }
        files |= {f"jni/{abi}/libspeech.so": LIBRARIES / abi / "libspeech.so" for abi in TARGETS}
        _zip(target, files)
    return target


def _zip(target: pathlib.Path, files: Mapping[str, pathlib.Path]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name in sorted(files):
            made.writestr(_entry(name), files[name].read_bytes(), zipfile.ZIP_DEFLATED)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def _apk(
    target: pathlib.Path, abis: Iterable[str], dex: pathlib.Path, key: pathlib.Path
) -> pathlib.Path:
    """Packs, aligns and signs an APK for these ABIs."""
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        packed, signed = pathlib.Path(scratch, "packed.apk"), pathlib.Path(scratch, "signed.apk")
        _aapt("-A", assets.ASSETS.parent, "-F", packed)
        libraries = {
            f"lib/{abi}/{path.name}": path
            for abi in abis
            for path in (
                LIBRARIES / abi / "libspeech.so",
                BUILD / "tflite" / "jni" / abi / "libtensorflowlite_jni.so",
            )
        }
        aligned = pathlib.Path(scratch, "aligned.apk")
        with zipfile.ZipFile(packed) as source, zipfile.ZipFile(aligned, "w") as made:
            for entry in source.infolist():
                _add(made, entry.filename, source.read(entry), entry.compress_type)
            _add(made, "classes.dex", dex.read_bytes(), zipfile.ZIP_DEFLATED)
            for name, path in libraries.items():
                _add(made, name, path.read_bytes(), zipfile.ZIP_STORED)
        _run("zipalign", "-c", "-p", "4", aligned)
        _run(
            *(
                "apksigner",
                "sign",
                "--ks",
                key,
                "--ks-pass",
                "pass:android",
                "--v1-signing-enabled",
            ),
            *("false", "--min-sdk-version", LEAST_ANDROID, "--out", signed, aligned),
        )
        signed.replace(target)
    return target


def _add(made: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    """Adds a file; a stored one begins at a word, a library at a page."""
    entry = _entry(name)
    entry.compress_type = compression
    if compression == zipfile.ZIP_STORED:
        step = PAGE if name.endswith(".so") else 4
        assert made.fp is not None
        begin = made.fp.tell() + _LOCAL_HEADER + len(name.encode())
        # An extra field begins with 4 bytes: its kind, Android's for alignment, and its size.
        padding = (-begin - 4) % step
        entry.extra = b"\x35\xd9" + padding.to_bytes(2, "little") + bytes(padding)
    made.writestr(entry, content)


def _make_key(key: pathlib.Path) -> None:
    _run(
        *("keytool", "-genkeypair", "-keystore", key, "-storepass", "android", "-alias", "debug"),
        *("-keyalg", "RSA", "-keysize", "2048", "-validity", "10000", "-dname", "CN=Android Debug"),
    )


def _run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def main() -> int:
    """Returns the exit status."""
    try:
        for path in build():
            print(f"{path.stat().st_size:9d}  {path.relative_to(ANDROID)}")
    except (RuntimeError, UnreachableError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
