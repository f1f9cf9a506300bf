/* The two models on TensorFlow Lite Micro. Each has its own interpreter and arena, so that the
 * encoder's outputs do not change while the decoder runs.
 */
#include "speech_tflm.h"

#include <cstring>

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

int Invoke(tflite::MicroInterpreter* interpreter, const speech_tensor* input_tensors,
           int input_count, const void* const* inputs, int output_count, const void** outputs) {
  for (int i = 0; i < input_count; ++i) {
    std::memcpy(interpreter->input(i)->data.raw, inputs[i], input_tensors[i].bytes);
  }
  if (interpreter->Invoke() != kTfLiteOk) return SPEECH_ERROR_RUNTIME;
  for (int i = 0; i < output_count; ++i) outputs[i] = interpreter->output(i)->data.raw;
  return SPEECH_OK;
}

int InvokeEncoder(void* context, const void* const* inputs, const void** outputs) {
  return Invoke(static_cast<Interpreters*>(context)->encoder, speech_encoder_inputs,
                SPEECH_ENCODER_INPUTS, inputs, SPEECH_ENCODER_OUTPUTS, outputs);
}

int InvokeDecoderStep(void* context, const void* const* inputs, const void** outputs) {
  return Invoke(static_cast<Interpreters*>(context)->decoder_step, speech_decoder_step_inputs,
                SPEECH_DECODER_STEP_INPUTS, inputs, SPEECH_DECODER_STEP_OUTPUTS, outputs);
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
