/* Not TensorFlow Lite Micro: what speech_tflm.cc uses of it, see test_export_c.py. */
#pragma once

#include <cstddef>
#include <cstdint>

#include "speech_bundle.h"
#include "speech_core.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

struct TfLiteTensor {
  union {
    char* raw;
  } data;
  size_t bytes;
};

/* Runs a model, the encoder or else the decoder step; set by the test. */
extern "C" int (*stub_invoke)(int encoder, char* const* inputs, char* const* outputs);

namespace tflite {

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver&, uint8_t* arena, size_t size)
      : encoder_(static_cast<const void*>(model) == speech_encoder_model),
        arena_(reinterpret_cast<char*>(arena)),
        free_(size) {}

  TfLiteStatus AllocateTensors() {
    speech_core core;
    if (speech_core_read(&core, speech_core_block, SPEECH_CORE_BLOCK_BYTES) != SPEECH_OK) {
      return kTfLiteError;
    }
    const speech_tensor_numbers& t = *core.tensors;
    input_count_ = encoder_ ? t.encoder_inputs : t.step_inputs;
    output_count_ = encoder_ ? t.encoder_outputs : t.step_outputs;
    const uint32_t* inputs = encoder_ ? core.encoder_input_bytes : core.step_input_bytes;
    const uint32_t* outputs = encoder_ ? core.encoder_output_bytes : core.step_output_bytes;
    const bool fits = Place(inputs, input_count_, inputs_, input_data_) &&
                      Place(outputs, output_count_, outputs_, output_data_);
    return fits ? kTfLiteOk : kTfLiteError;
  }

  TfLiteStatus Invoke() {
    return stub_invoke(encoder_, input_data_, output_data_) == 0 ? kTfLiteOk : kTfLiteError;
  }

  size_t inputs_size() const { return static_cast<size_t>(input_count_); }
  size_t outputs_size() const { return static_cast<size_t>(output_count_); }
  TfLiteTensor* input(size_t index) { return &inputs_[index]; }
  TfLiteTensor* output(size_t index) { return &outputs_[index]; }

 private:
  static constexpr int kMost = 64;

  bool Place(const uint32_t* bytes, int count, TfLiteTensor* placed, char** data) {
    for (int i = 0; i < count; ++i) {
      if (i == kMost || bytes[i] > free_) return false;
      data[i] = placed[i].data.raw = arena_;
      placed[i].bytes = bytes[i];
      arena_ += bytes[i];
      free_ -= bytes[i];
    }
    return true;
  }

  const bool encoder_;
  char* arena_;
  size_t free_;
  int input_count_ = 0;
  int output_count_ = 0;
  TfLiteTensor inputs_[kMost];
  TfLiteTensor outputs_[kMost];
  char* input_data_[kMost];
  char* output_data_[kMost];
};

}  // namespace tflite
