/* Models that return what the file "replay" holds, for the example program. */
#include <stdio.h>

#include "speech_bundle.h"
#include "speech_tflm.h"

static uint64_t memory[1 << 17];
static FILE *file;
static speech_core core;

static int replay(const uint32_t *sizes, int32_t count, const void **outputs, uint8_t *next) {
  int32_t i;
  for (i = 0; i < count; ++i) {
    outputs[i] = next;
    if (fread(next, 1, sizes[i], file) != sizes[i]) return 1;
    next += (sizes[i] + 15) & ~15u;
  }
  return 0;
}

static int replay_encoder(void *context, const void *const *inputs, const void **outputs) {
  (void)context;
  (void)inputs;
  return replay(core.encoder_output_bytes, core.tensors->encoder_outputs, outputs,
                (uint8_t *)memory);
}

static int replay_decoder_step(void *context, const void *const *inputs, const void **outputs) {
  (void)context;
  (void)inputs;
  return replay(core.step_output_bytes, core.tensors->step_outputs, outputs,
                (uint8_t *)memory + sizeof memory / 2);
}

int speech_tflm_start(speech_runtime *runtime) {
  file = fopen("replay", "rb");
  runtime->context = NULL;
  runtime->invoke_encoder = replay_encoder;
  runtime->invoke_decoder_step = replay_decoder_step;
  return file != NULL ? speech_core_read(&core, speech_core_block, SPEECH_CORE_BLOCK_BYTES)
                      : SPEECH_ERROR_RUNTIME;
}
