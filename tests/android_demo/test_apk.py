"""The APK and the AAR of `make android`, as a phone and as Gradle read them."""

import pathlib
import re
import shutil
import struct
import zipfile

import pytest

from android_demo.building import apk, native
from tests.firmware_sim import core

APKS = ("speech.apk", "speech-arm64-v8a.apk")
MOST_BYTES = {"speech.apk": 16_000_000, "speech-arm64-v8a.apk": 5_000_000}  # without bundles


@pytest.fixture(params=APKS)
def package(request: pytest.FixtureRequest) -> pathlib.Path:
    path: pathlib.Path = native.BUILD / request.param
    if not path.exists():
        pytest.skip(f"{path.name} is not built: run `make android`")
    return path


def needs(tool: str) -> str:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    return tool


def data_place(content: bytes, entry: zipfile.ZipInfo) -> int:
    """Where a file's bytes begin in the zip."""
    name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
    return entry.header_offset + 30 + int(name) + int(extra)


def test_it_is_signed_and_aligned_as_android_asks(package: pathlib.Path) -> None:
    core.run_command(needs("zipalign"), "-c", "-p", "4", package)
    verified = core.run_command(needs("apksigner"), "verify", "--verbose", package)
    assert "v2 scheme (APK Signature Scheme v2): true" in verified
    assert "v3 scheme (APK Signature Scheme v3): true" in verified


def test_libraries_and_models_are_stored_where_they_can_be_mapped(package: pathlib.Path) -> None:
    content = package.read_bytes()
    with zipfile.ZipFile(package) as opened:
        entries = opened.infolist()
        libraries = [x for x in entries if x.filename.endswith(".so")]
        models = [x for x in entries if x.filename.endswith((".tflite", ".arsc"))]
        assert libraries and len(models) > 2
        for entry in libraries:
            assert entry.compress_type == zipfile.ZIP_STORED
            assert data_place(content, entry) % apk.PAGE == 0, entry.filename
        for entry in models:
            assert entry.compress_type == zipfile.ZIP_STORED
            assert data_place(content, entry) % 4 == 0, entry.filename


def test_it_says_what_it_is_and_asks_for_the_microphone_only(package: pathlib.Path) -> None:
    told = core.run_command(needs("aapt"), "dump", "badging", package)
    assert re.search(r"^package: name='org.integerspeech.demo' versionCode='1'", told)
    assert f"sdkVersion:'{apk.LEAST_ANDROID}'" in told
    assert f"targetSdkVersion:'{apk.TARGET_ANDROID}'" in told
    assert re.findall(r"uses-permission: name='([^']+)'", told) == [
        "android.permission.RECORD_AUDIO"
    ]
    assert "launchable-activity: name='org.integerspeech.demo.MainActivity'" in told
    assert "application-label-de:" in told
    abis = {"speech.apk": sorted(native.TARGETS), "speech-arm64-v8a.apk": ["arm64-v8a"]}
    assert re.search(r"native-code: (.*)", told)[1] == " ".join(  # type: ignore[index]
        f"'{abi}'" for abi in abis[package.name]
    )


def test_it_is_small(package: pathlib.Path) -> None:
    with zipfile.ZipFile(package) as opened:
        bundles = sum(
            x.compress_size for x in opened.infolist() if x.filename.startswith("assets/bundles/")
        )
    assert bundles > 4_000_000
    assert package.stat().st_size - bundles <= MOST_BYTES[package.name]


def types(dex: bytes) -> tuple[set[str], set[str]]:
    """Names of the classes that a dex file refers to, and of those that it defines."""
    string_count, strings, type_count, type_ids = struct.unpack_from("<4I", dex, 56)
    class_count, classes = struct.unpack_from("<2I", dex, 96)

    def text(number: int) -> str:
        (place,) = struct.unpack_from("<I", dex, strings + 4 * number)
        while dex[place] & 0x80:
            place += 1
        place += 1
        return dex[place : dex.index(0, place)].decode("utf-8", "replace")

    assert string_count > type_count
    names = [
        text(struct.unpack_from("<I", dex, type_ids + 4 * i)[0]).lstrip("[")
        for i in range(type_count)
    ]
    defined = {
        names[struct.unpack_from("<I", dex, classes + 32 * i)[0]] for i in range(class_count)
    }
    return {name for name in names if name.startswith("L")}, defined


def test_no_class_is_missing(package: pathlib.Path) -> None:
    with zipfile.ZipFile(package) as opened:
        referred, defined = types(opened.read("classes.dex"))
    jars = [*(native.BUILD / "tools" / "android").glob("android-all-*.jar")]
    if not jars:
        pytest.skip("Android's classes are not there: run `make android`")
    with zipfile.ZipFile(jars[0]) as android:
        known = {f"L{name.removesuffix('.class')};" for name in android.namelist()}
    missing = {x for x in referred - defined - known if not x.startswith("Ljava/")}
    # Annotations are not loaded.
    assert not {
        x for x in missing if not re.match(r"L(dalvik/annotation|org/checkerframework)/", x)
    }
    for name in (
        "demo/MainActivity",
        "NativeCore",
        "GrammarCompiler",
        "SpeechRecognitionService",
        "InterpreterRuntime",
    ):
        assert f"Lorg/integerspeech/{name};" in defined


def test_native_code_finds_what_it_calls(package: pathlib.Path) -> None:
    with zipfile.ZipFile(package) as opened:
        dex = opened.read("classes.dex")
    for name in (b"invoke", b"event", b"transcribe", b"finish", b"feed", b"compile"):
        assert b"\0" + bytes([len(name)]) + name + b"\0" in dex


def test_the_aar_holds_the_library(tmp_path: pathlib.Path) -> None:
    path = native.BUILD / "speech.aar"
    if not path.exists():
        pytest.skip(f"{path.name} is not built: run `make android`")
    with zipfile.ZipFile(path) as opened:
        names = set(opened.namelist())
        opened.extract("classes.jar", tmp_path)
        rules = opened.read("proguard.txt").decode()
    assert names >= {"AndroidManifest.xml", "R.txt", "classes.jar", "proguard.txt"}
    assert names >= {f"jni/{abi}/libspeech.so" for abi in native.TARGETS}
    assert "NativeCore" in rules and "GrammarCompiler" in rules
    with zipfile.ZipFile(tmp_path / "classes.jar") as classes:
        assert "org/integerspeech/Recognizer.class" in classes.namelist()
        assert not [name for name in classes.namelist() if "/demo/" in name]


def test_gradle_and_maven_build_the_same_versions() -> None:
    """Gradle is not run here: its files are only read."""
    android = native.ANDROID
    speech = (android / "speech" / "build.gradle.kts").read_text(encoding="utf-8")
    app = (android / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    pom = (android / "pom.xml").read_text(encoding="utf-8")
    coroutines = re.search(r"<coroutines.version>([\d.]+)<", pom)
    assert coroutines and f"kotlinx-coroutines-android:{coroutines[1]}" in speech
    for text in (speech, app):
        assert f"minSdk = {apk.LEAST_ANDROID}" in text
        assert text.count("{") == text.count("}") and text.count("(") == text.count(")")
    assert f"targetSdk = {apk.TARGET_ANDROID}" in app
    assert f'namespace = "{apk.PACKAGE}"' in app
    code, name = apk.VERSION
    assert f"versionCode = {code}" in app and f'versionName = "{name}"' in app
    settings = (android / "settings.gradle.kts").read_text(encoding="utf-8")
    for module in re.findall(r"include\((.*)\)", settings)[0].split(", "):
        assert (android / module.strip('":') / "build.gradle.kts").exists()


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"aapt is missing: install aapt\."):
        apk.build()
