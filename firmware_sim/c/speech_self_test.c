/* See speech_self_test.h. */
#include "speech_self_test.h"

#include <string.h>

#include "speech_golden.h"

/* A runtime that compares the outputs of another one. */
typedef struct {
  const speech_core *core;
  const speech_runtime *tested;
  speech_mismatch *mismatch;
  int32_t step;
} checked_runtime;

static int mismatched(speech_mismatch *mismatch, const char *tensor, int32_t step, size_t index,
                      int32_t expected, int32_t found) {
  mismatch->tensor = tensor;
  mismatch->step = step;
  mismatch->index = index;
  mismatch->expected = expected;
  mismatch->found = found;
  return SPEECH_ERROR_MISMATCH;
}

static int compare(speech_mismatch *mismatch, const char *tensor, int32_t step, size_t bytes,
                   const int8_t *expected, const int8_t *found) {
  size_t i;
  for (i = 0; i < bytes; ++i) {
    if (expected[i] != found[i]) {
      return mismatched(mismatch, tensor, step, i, expected[i], found[i]);
    }
  }
  return SPEECH_OK;
}

static int invoke_encoder(void *context, const void *const *inputs, const void **outputs) {
  checked_runtime *checked = (checked_runtime *)context;
  int status = checked->tested->invoke_encoder(checked->tested->context, inputs, outputs);
  int i;
  for (i = 0; i < SPEECH_GOLDEN_ENCODER_OUTPUTS && status == SPEECH_OK; ++i) {
    status = compare(checked->mismatch, speech_golden_encoder_output_names[i], -1,
                     checked->core->encoder_output_bytes[i], speech_golden_encoder_outputs[i],
                     (const int8_t *)outputs[i]);
  }
  return status;
}

static int invoke_decoder_step(void *context, const void *const *inputs, const void **outputs) {
  checked_runtime *checked = (checked_runtime *)context;
  int status = checked->tested->invoke_decoder_step(checked->tested->context, inputs, outputs);
  int i;
  for (i = 0; i < SPEECH_GOLDEN_DECODER_STEP_OUTPUTS && status == SPEECH_OK; ++i) {
    size_t bytes = checked->core->step_output_bytes[i];
    const int8_t *expected = speech_golden_decoder_step_outputs[i] + (size_t)checked->step * bytes;
    status = compare(checked->mismatch, speech_golden_decoder_step_output_names[i], checked->step,
                     bytes, expected, (const int8_t *)outputs[i]);
  }
  ++checked->step;
  return status;
}

/* Compares the result with what was recorded. */
static int compare_result(speech_decoder *decoder, speech_mismatch *mismatch) {
  const speech_search *search = &decoder->search;
  int32_t i;
  if (search->token_count != SPEECH_GOLDEN_TOKENS) {
    return mismatched(mismatch, "tokens", -1, 0, SPEECH_GOLDEN_TOKENS, search->token_count);
  }
  for (i = 0; i < SPEECH_GOLDEN_TOKENS; ++i) {
    if (search->tokens[i] != speech_golden_tokens[i]) {
      return mismatched(mismatch, "tokens", -1, (size_t)i, speech_golden_tokens[i],
                        search->tokens[i]);
    }
  }
  if (search->ended != SPEECH_GOLDEN_ENDED) {
    return mismatched(mismatch, "ended", -1, 0, SPEECH_GOLDEN_ENDED, search->ended);
  }
  if (decoder->command_count != SPEECH_GOLDEN_COMMANDS) {
    return mismatched(mismatch, "commands", -1, 0, SPEECH_GOLDEN_COMMANDS, decoder->command_count);
  }
  if (strcmp(speech_decoder_text(decoder), speech_golden_text) != 0) {
    return mismatched(mismatch, "text", -1, 0, 0, 0);
  }
  return SPEECH_OK;
}

int speech_self_test(speech_decoder *decoder, speech_mismatch *mismatch) {
  const speech_runtime *tested = decoder->runtime;
  checked_runtime checked;
  speech_runtime checking;
  int status;
  checked.core = &decoder->core;
  checked.tested = tested;
  checked.mismatch = mismatch;
  checked.step = 0;
  checking.context = &checked;
  checking.invoke_encoder = invoke_encoder;
  checking.invoke_decoder_step = invoke_decoder_step;
  mismatched(mismatch, NULL, -1, 0, 0, 0);
  memcpy(decoder->features, speech_golden_features, sizeof speech_golden_features);
  decoder->runtime = &checking;
  status = speech_decode(decoder, SPEECH_GOLDEN_FRAMES, 1);
  decoder->runtime = tested;
  if (mismatch->tensor != NULL) return SPEECH_ERROR_MISMATCH;
  if (status != SPEECH_OK) return status;
  return compare_result(decoder, mismatch);
}
