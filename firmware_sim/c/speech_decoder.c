/* See speech_decoder.h. */
#include "speech_decoder.h"

#include <string.h>

int8_t speech_feature(uint16_t value) {
  int64_t scaled = (int64_t)value * SPEECH_FEATURE_NUMERATOR + SPEECH_FEATURE_DENOMINATOR / 2;
  int64_t stored = scaled / SPEECH_FEATURE_DENOMINATOR + SPEECH_FEATURE_ZERO_POINT;
  if (stored < INT8_MIN) return INT8_MIN;
  if (stored > INT8_MAX) return INT8_MAX;
  return (int8_t)stored;
}

/* Frames of the encoder's memory that an utterance fills. */
static size_t memory_frames(int32_t frames) {
  return ((size_t)frames * SPEECH_MEMORY_FRAMES + SPEECH_FRAMES - 1) / SPEECH_FRAMES;
}

/* The step's next token: one-hot. */
static void set_token(speech_decoder *decoder, int32_t token) {
  memset(decoder->token, SPEECH_DECODER_STEP_INPUT_TOKEN_ZERO, sizeof decoder->token);
  decoder->token[token] = SPEECH_DECODER_STEP_INPUT_TOKEN_ONE;
}

/* Masks, the caches of the first hypothesis, and an empty result. */
static void reset(speech_decoder *decoder, int32_t frames, int32_t beam) {
  size_t used = (size_t)frames * SPEECH_CHANNELS;
  size_t valid = memory_frames(frames);
  int i;

  memset(decoder->features + used, SPEECH_FEATURE_ZERO_POINT, sizeof decoder->features - used);
  memset(decoder->encoder_memory_mask, SPEECH_ENCODER_INPUT_MEMORY_MASK_MASKED,
         sizeof decoder->encoder_memory_mask);
  memset(decoder->encoder_memory_mask, SPEECH_ENCODER_INPUT_MEMORY_MASK_VALID, valid);
  memset(decoder->memory_mask, SPEECH_DECODER_STEP_INPUT_MEMORY_MASK_MASKED,
         sizeof decoder->memory_mask);
  memset(decoder->memory_mask, SPEECH_DECODER_STEP_INPUT_MEMORY_MASK_VALID, valid);
  memset(decoder->self_mask, SPEECH_DECODER_STEP_INPUT_SELF_MASK_MASKED,
         sizeof decoder->self_mask);
  decoder->self_mask[SPEECH_TOKENS] = SPEECH_DECODER_STEP_INPUT_SELF_MASK_VALID;
  for (i = 0; i < SPEECH_CACHES; ++i) {
    memset(decoder->search.hypotheses[0].caches + speech_caches[i].offset, speech_caches[i].zero,
           SPEECH_TOKENS * speech_caches[i].row_bytes);
  }
  speech_search_start(&decoder->search, beam);
#if SPEECH_STATES > 0
  decoder->command_count = 0;
#endif
}

/* Runs step number `step` of a hypothesis: its logits, and a row of its caches. */
static int invoke_step(speech_decoder *decoder, const speech_runtime *runtime,
                       speech_hypothesis *hypothesis, int32_t step, const void **inputs) {
  const void *outputs[SPEECH_DECODER_STEP_OUTPUTS];
  int i;
  set_token(decoder, step > 0 ? hypothesis->tokens[step - 1] : SPEECH_TOKEN_START);
  for (i = 0; i < SPEECH_CACHES; ++i) {
    inputs[speech_caches[i].input] = hypothesis->caches + speech_caches[i].offset;
  }
  if (runtime->invoke_decoder_step(runtime->context, inputs, outputs) != 0) {
    return SPEECH_ERROR_DECODER_STEP;
  }
  memcpy(hypothesis->logits, outputs[SPEECH_DECODER_STEP_OUTPUT_LOGITS],
         sizeof hypothesis->logits);
  for (i = 0; i < SPEECH_CACHES; ++i) {
    const speech_cache *cache = &speech_caches[i];
    memcpy(hypothesis->caches + cache->offset + (size_t)step * cache->row_bytes,
           outputs[cache->row_output], cache->row_bytes);
  }
  return SPEECH_OK;
}

int speech_decode(speech_decoder *decoder, const speech_runtime *runtime, int32_t frames) {
  return speech_decode_beam(decoder, runtime, frames, SPEECH_BEAM);
}

int speech_decode_beam(speech_decoder *decoder, const speech_runtime *runtime, int32_t frames,
                       int32_t beam) {
  const void *encoder_inputs[SPEECH_ENCODER_INPUTS];
  const void *encoded[SPEECH_ENCODER_OUTPUTS];
  const void *inputs[SPEECH_DECODER_STEP_INPUTS];
  speech_search *search = &decoder->search;
  int32_t step, i;

  if (frames < 1 || frames > SPEECH_FRAMES) return SPEECH_ERROR_FRAMES;
  if (beam < 1 || beam > SPEECH_BEAM) return SPEECH_ERROR_BEAM;
  reset(decoder, frames, beam);
  encoder_inputs[SPEECH_ENCODER_INPUT_FEATURES] = decoder->features;
  encoder_inputs[SPEECH_ENCODER_INPUT_MEMORY_MASK] = decoder->encoder_memory_mask;
  if (runtime->invoke_encoder(runtime->context, encoder_inputs, encoded) != 0) {
    return SPEECH_ERROR_ENCODER;
  }

#if SPEECH_CTC
  speech_search_hear(search, (const int8_t *)encoded[SPEECH_ENCODER_OUTPUT_CTC_LOGITS],
                     (int32_t)memory_frames(frames));
#endif
  inputs[SPEECH_DECODER_STEP_INPUT_TOKEN] = decoder->token;
  inputs[SPEECH_DECODER_STEP_INPUT_SELF_MASK] = decoder->self_mask;
  inputs[SPEECH_DECODER_STEP_INPUT_MEMORY_MASK] = decoder->memory_mask;
  for (i = 0; i < SPEECH_CROSSINGS; ++i) {
    inputs[speech_crossings[i].input] = encoded[speech_crossings[i].encoder_output];
  }
  for (step = 0; step < SPEECH_TOKENS && search->active > 0; ++step) {
    for (i = 0; i < search->active; ++i) {
      speech_hypothesis *hypothesis = &search->hypotheses[search->places[i]];
      int status = invoke_step(decoder, runtime, hypothesis, step, inputs);
      if (status != SPEECH_OK) return status;
    }
    speech_search_step(search, step);
    decoder->self_mask[step] = SPEECH_DECODER_STEP_INPUT_SELF_MASK_VALID;
  }
  speech_search_cut(search, step);
#if SPEECH_STATES > 0
  decoder->command_count = speech_grammar_commands(
      search->tokens, search->token_count, search->scores, search->token_count + search->ended,
      decoder->readable, decoder->token_slots, decoder->commands);
#endif
  return SPEECH_OK;
}

/* Appends a token's text; returns the new length. */
static size_t append(char *text, size_t length, int32_t token) {
  const char *piece = speech_tokens[token];
  while (length == 0 && *piece == ' ') ++piece;
  while (*piece != '\0') text[length++] = *piece++;
  return length;
}

static void end_text(char *text, size_t length) {
  while (length > 0 && text[length - 1] == ' ') --length;
  text[length] = '\0';
}

void speech_text(const speech_decoder *decoder, char text[SPEECH_TEXT_BYTES]) {
  size_t length = 0;
  int32_t i;
  for (i = 0; i < decoder->search.token_count; ++i) {
    length = append(text, length, decoder->search.tokens[i]);
  }
  end_text(text, length);
}

#if SPEECH_STATES > 0
int speech_slot_text(const speech_decoder *decoder, int32_t command, int16_t slot,
                     char text[SPEECH_TEXT_BYTES]) {
  size_t length = 0;
  int32_t i;
  if (command >= 0 && command < decoder->command_count) {
    for (i = decoder->commands[command].first; i < decoder->commands[command].last; ++i) {
      if (decoder->token_slots[i] == slot) length = append(text, length, decoder->search.tokens[i]);
    }
  }
  end_text(text, length);
  return text[0] != '\0';
}
#endif
