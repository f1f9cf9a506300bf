/* Not TensorFlow Lite Micro: what speech_tflm.cc uses of it, see test_export_c.py. */
#pragma once

namespace tflite {

struct Model {};

inline const Model* GetModel(const void* data) { return static_cast<const Model*>(data); }

}  // namespace tflite
