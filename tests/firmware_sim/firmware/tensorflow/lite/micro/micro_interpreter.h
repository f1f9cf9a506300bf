/* Not TensorFlow Lite Micro: what speech_tflm.cc uses of it, see test_export_c.py. */
#pragma once

#include <cstddef>
#include <cstdint>

#include "speech_model.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

struct TfLiteTensor {
  union {
    char* raw;
  } data;
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
    const bool fits =
        encoder_ ? Place(speech_encoder_inputs, SPEECH_ENCODER_INPUTS, inputs_, input_data_) &&
                       Place(speech_encoder_outputs, SPEECH_ENCODER_OUTPUTS, outputs_, output_data_)
                 : Place(speech_decoder_step_inputs, SPEECH_DECODER_STEP_INPUTS, inputs_,
                         input_data_) &&
                       Place(speech_decoder_step_outputs, SPEECH_DECODER_STEP_OUTPUTS, outputs_,
                             output_data_);
    return fits ? kTfLiteOk : kTfLiteError;
  }

  TfLiteStatus Invoke() {
    return stub_invoke(encoder_, input_data_, output_data_) == 0 ? kTfLiteOk : kTfLiteError;
  }

  TfLiteTensor* input(size_t index) { return &inputs_[index]; }
  TfLiteTensor* output(size_t index) { return &outputs_[index]; }

 private:
  static constexpr int kMost = 64;

  bool Place(const speech_tensor* tensors, int count, TfLiteTensor* placed, char** data) {
    for (int i = 0; i < count; ++i) {
      if (i == kMost || tensors[i].bytes > free_) return false;
      data[i] = placed[i].data.raw = arena_;
      arena_ += tensors[i].bytes;
      free_ -= tensors[i].bytes;
    }
    return true;
  }

  const bool encoder_;
  char* arena_;
  size_t free_;
  TfLiteTensor inputs_[kMost];
  TfLiteTensor outputs_[kMost];
  char* input_data_[kMost];
  char* output_data_[kMost];
};

}  // namespace tflite
