/* The two models on TensorFlow Lite Micro. Each has its own interpreter and arena, so that the
 * encoder's outputs do not change while the decoder runs.
 */
#include "speech_tflm.h"

#include <cstring>

#include "speech_bundle.h"
#include "speech_operators.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

/* Placement of the arenas, for example -DSPEECH_ARENA='__attribute__((section(".bss.sram")))'. */
#ifndef SPEECH_ARENA
#define SPEECH_ARENA
#endif

namespace {

alignas(16) SPEECH_ARENA uint8_t encoder_arena[SPEECH_ENCODER_ARENA_BYTES];
alignas(16) SPEECH_ARENA uint8_t decoder_step_arena[SPEECH_DECODER_STEP_ARENA_BYTES];

struct Interpreters {
  tflite::MicroInterpreter* encoder;
  tflite::MicroInterpreter* decoder_step;
};

int Invoke(tflite::MicroInterpreter* interpreter, const void* const* inputs,
           const void** outputs) {
  for (size_t i = 0; i < interpreter->inputs_size(); ++i) {
    TfLiteTensor* input = interpreter->input(i);
    std::memcpy(input->data.raw, inputs[i], input->bytes);
  }
  if (interpreter->Invoke() != kTfLiteOk) return SPEECH_ERROR_RUNTIME;
  for (size_t i = 0; i < interpreter->outputs_size(); ++i) {
    outputs[i] = interpreter->output(i)->data.raw;
  }
  return SPEECH_OK;
}

int InvokeEncoder(void* context, const void* const* inputs, const void** outputs) {
  return Invoke(static_cast<Interpreters*>(context)->encoder, inputs, outputs);
}

int InvokeDecoderStep(void* context, const void* const* inputs, const void** outputs) {
  return Invoke(static_cast<Interpreters*>(context)->decoder_step, inputs, outputs);
}

}  // namespace

int speech_tflm_start(speech_runtime* runtime) {
  static SpeechOpResolver resolver;
  if (SpeechAddOperators(resolver) != kTfLiteOk) return SPEECH_ERROR_RUNTIME;
  static tflite::MicroInterpreter encoder(tflite::GetModel(speech_encoder_model), resolver,
                                          encoder_arena, sizeof encoder_arena);
  static tflite::MicroInterpreter decoder_step(tflite::GetModel(speech_decoder_step_model),
                                               resolver, decoder_step_arena,
                                               sizeof decoder_step_arena);
  static Interpreters interpreters = {&encoder, &decoder_step};
  if (encoder.AllocateTensors() != kTfLiteOk) return SPEECH_ERROR_RUNTIME;
  if (decoder_step.AllocateTensors() != kTfLiteOk) return SPEECH_ERROR_RUNTIME;
  runtime->context = &interpreters;
  runtime->invoke_encoder = InvokeEncoder;
  runtime->invoke_decoder_step = InvokeDecoderStep;
  return SPEECH_OK;
}
