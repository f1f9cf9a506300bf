/* See speech_decoder.h. */
#include "speech_decoder.h"

#include <string.h>

int8_t speech_feature(const speech_core *core, uint16_t value) {
  const speech_numbers *n = core->numbers;
  int64_t scaled = (int64_t)value * n->feature_numerator + n->feature_denominator / 2;
  int64_t stored = scaled / n->feature_denominator + n->feature_zero_point;
  if (stored < INT8_MIN) return INT8_MIN;
  if (stored > INT8_MAX) return INT8_MAX;
  return (int8_t)stored;
}

static int8_t *take_bytes(speech_memory *memory, int64_t count) {
  return (int8_t *)speech_take(memory, (uint64_t)count, 1);
}

static const void **take_pointers(speech_memory *memory, int32_t count) {
  return (const void **)speech_take(memory, (uint64_t)count, sizeof(void *));
}

void speech_decoder_lay(speech_decoder *decoder, speech_memory *memory) {
  const speech_core *core = &decoder->core;
  const speech_numbers *n = core->numbers;
  decoder->features = take_bytes(memory, (int64_t)n->frames * n->channels);
  decoder->encoder_mask = take_bytes(memory, n->memory_frames);
  decoder->memory_mask = take_bytes(memory, n->memory_frames);
  decoder->self_mask = take_bytes(memory, (int64_t)n->token_limit + 1);
  decoder->token = take_bytes(memory, n->vocabulary);
  decoder->encoder_inputs = take_pointers(memory, core->tensors->encoder_inputs);
  decoder->encoder_outputs = take_pointers(memory, core->tensors->encoder_outputs);
  decoder->step_inputs = take_pointers(memory, core->tensors->step_inputs);
  decoder->step_outputs = take_pointers(memory, core->tensors->step_outputs);
}

/* Takes what commands of up to so many tokens are read into. */
static void lay_commands(speech_decoder *decoder, uint64_t tokens, speech_memory *memory) {
  uint64_t commands = (uint64_t)decoder->core.automaton->commands;
  uint64_t slots = (uint64_t)decoder->core.automaton->slots;
  decoder->commands = (speech_command *)speech_take(memory, commands, sizeof(speech_command));
  decoder->other_commands = (speech_command *)speech_take(memory, commands, sizeof(speech_command));
  decoder->slots = (speech_slot *)speech_take(memory, slots, sizeof(speech_slot));
  if (decoder->core.of_phones) {
    decoder->said = (const char **)speech_take(memory, slots, sizeof(char *));
    decoder->arcs = (int32_t *)speech_take(memory, tokens, sizeof(int32_t));
    decoder->other_arcs = (int32_t *)speech_take(memory, tokens, sizeof(int32_t));
    decoder->arc_phones = (uint16_t *)speech_take(memory, tokens, sizeof(uint16_t));
  } else {
    decoder->token_slots = (int16_t *)speech_take(memory, tokens, sizeof(int16_t));
    decoder->other_slots = (int16_t *)speech_take(memory, tokens, sizeof(int16_t));
  }
}

/* The same for a grammar over phones. */
static void lay_phones(speech_decoder *decoder, speech_memory *memory) {
  const speech_core *core = &decoder->core;
  int32_t frames = core->numbers->memory_frames, units = core->phones->count;
  uint64_t longest = core->longest_word + 1; /* of a phone's name or a word with a space */
  uint64_t slots = (uint64_t)core->automaton->slots;
  speech_memory shared;
  if (core->longest_phone > longest) longest = core->longest_phone;
  decoder->text_bytes = (size_t)((uint64_t)frames * longest + core->longest_value + 1);
  decoder->text = (char *)speech_take(memory, decoder->text_bytes, 1);
  /* All words of all slots, twice, or values. */
  decoder->values = (char *)speech_take(
      memory, 2 * (decoder->text_bytes + slots) + slots * (core->longest_value + 1), 1);
  lay_commands(decoder, (uint64_t)frames, memory);
  speech_phones_lay(&decoder->phones, core, memory);
  /* Times are found after the search has ended: in the memory of its paths. */
  shared.base = memory->base;
  shared.used = decoder->phones.content_place;
  speech_align_lay(&decoder->alignment, units + 1, units, frames, frames, &shared);
  if (shared.used > memory->used) memory->used = shared.used;
}

int speech_decoder_lay_search(speech_decoder *decoder, int32_t beam, speech_memory *memory) {
  const speech_core *core = &decoder->core;
  const speech_numbers *n = core->numbers;
  uint64_t tokens = (uint64_t)n->token_limit;
  uint64_t longest = n->token_limit > n->memory_frames ? tokens : (uint64_t)n->memory_frames;
  speech_memory shared;
  if (beam == 0) beam = n->beam;
  if (beam < 1 || beam > INT16_MAX) return SPEECH_ERROR_BEAM;
  if (core->of_phones) {
    lay_phones(decoder, memory);
    return SPEECH_OK;
  }
  decoder->text_bytes = (size_t)(longest * core->longest_token + 1);
  decoder->text = (char *)take_bytes(memory, (int64_t)decoder->text_bytes);
  if (core->automaton != NULL) {
    uint64_t slots = (uint64_t)core->automaton->slots;
    lay_commands(decoder, tokens, memory);
    decoder->values = (char *)speech_take(memory, decoder->text_bytes + slots, 1);
  }
  speech_search_lay(&decoder->search, core, beam, memory);
  /* Times are found after the search has ended: in the memory of its hypotheses. */
  shared.base = memory->base;
  shared.used = decoder->search.content_place;
  if (core->automaton != NULL) {
    speech_align_lay(&decoder->alignment, n->vocabulary, n->token_blank, n->token_limit,
                     n->memory_frames, &shared);
  }
  if (shared.used > memory->used) memory->used = shared.used;
  return SPEECH_OK;
}

int speech_decoder_size(const void *block, size_t block_bytes, int32_t beam, size_t *bytes) {
  speech_decoder counted;
  speech_memory memory = {NULL, 0};
  int status = speech_core_read(&counted.core, block, block_bytes);
  if (status != SPEECH_OK) return status;
  (void)speech_take(&memory, 1, sizeof counted);
  speech_decoder_lay(&counted, &memory);
  status = speech_decoder_lay_search(&counted, beam, &memory);
  if (status == SPEECH_OK && memory.used > SIZE_MAX) return SPEECH_ERROR_BLOCK;
  *bytes = (size_t)memory.used;
  return status;
}

int speech_decoder_open(speech_decoder **decoder, void *memory, size_t bytes, const void *block,
                        size_t block_bytes, int32_t beam, const speech_runtime *runtime) {
  speech_memory given = {(uint8_t *)memory, 0};
  size_t needed;
  int status = speech_decoder_size(block, block_bytes, beam, &needed);
  if (status != SPEECH_OK) return status;
  if (memory == NULL || bytes < needed || (uintptr_t)memory % 8 != 0) return SPEECH_ERROR_MEMORY;
  memset(memory, 0, needed);
  *decoder = (speech_decoder *)speech_take(&given, 1, sizeof **decoder);
  (*decoder)->runtime = runtime;
  status = speech_core_read(&(*decoder)->core, block, block_bytes);
  if (status != SPEECH_OK) return status;
  speech_decoder_lay(*decoder, &given);
  return speech_decoder_lay_search(*decoder, beam, &given);
}

/* Frames of the encoder's memory that an utterance fills. */
static int32_t memory_frames(const speech_numbers *n, int32_t frames) {
  return (int32_t)(((int64_t)frames * n->memory_frames + n->frames - 1) / n->frames);
}

/* A mask whose first `valid` places are valid. */
static void set_mask(int8_t *mask, int32_t places, int32_t valid, int32_t open, int32_t masked) {
  memset(mask, masked, (size_t)places);
  memset(mask, open, (size_t)valid);
}

/* Points the inputs of the decoder step to the caches of a hypothesis. */
static void point_to_caches(speech_decoder *decoder, const speech_hypothesis *hypothesis) {
  const speech_core *core = &decoder->core;
  int8_t *cache = hypothesis->caches;
  int32_t i;
  for (i = 0; i < core->tensors->caches; ++i) {
    decoder->step_inputs[core->caches[i].input] = cache;
    cache += (size_t)core->caches[i].row_bytes * (size_t)core->numbers->token_limit;
  }
}

/* Clears the caches of the first hypothesis. */
static void clear_caches(speech_decoder *decoder) {
  const speech_core *core = &decoder->core;
  int8_t *cache = decoder->search.hypotheses[0].caches;
  int32_t i;
  for (i = 0; i < core->tensors->caches; ++i) {
    size_t bytes = (size_t)core->caches[i].row_bytes * (size_t)core->numbers->token_limit;
    memset(cache, core->caches[i].zero, bytes);
    cache += bytes;
  }
}

/* Masks, and an empty result. */
static void reset(speech_decoder *decoder, int32_t frames) {
  const speech_core *core = &decoder->core;
  const speech_numbers *n = core->numbers;
  size_t used = (size_t)frames * (size_t)n->channels;
  size_t all = (size_t)n->frames * (size_t)n->channels;
  int32_t valid = memory_frames(n, frames);
  memset(decoder->features + used, n->feature_zero_point, all - used);
  set_mask(decoder->encoder_mask, n->memory_frames, valid, n->encoder_mask_valid,
           n->encoder_mask_masked);
  set_mask(decoder->memory_mask, n->memory_frames, valid, n->memory_mask_valid,
           n->memory_mask_masked);
  set_mask(decoder->self_mask, n->token_limit, 0, n->self_mask_valid, n->self_mask_masked);
  decoder->self_mask[n->token_limit] = (int8_t)n->self_mask_valid; /* the step's own place */
  if (!core->of_phones) clear_caches(decoder);
  decoder->memory_frames = valid;
  decoder->search.token_count = 0;
  decoder->search.ended = 0;
  decoder->phones.sentence_count = decoder->arc_count = 0;
  decoder->command_count = 0;
  decoder->confidence = SPEECH_NO_CONFIDENCE;
}

/* Runs step number `step` of a hypothesis: its logits, and a row of its caches. */
static int invoke_step(speech_decoder *decoder, speech_hypothesis *hypothesis, int32_t step) {
  const speech_core *core = &decoder->core;
  const speech_numbers *n = core->numbers;
  const speech_runtime *runtime = decoder->runtime;
  int8_t *cache = hypothesis->caches;
  int32_t i;
  memset(decoder->token, n->token_zero, (size_t)n->vocabulary);
  decoder->token[step > 0 ? hypothesis->tokens[step - 1] : n->token_start] = (int8_t)n->token_one;
  point_to_caches(decoder, hypothesis);
  if (runtime->invoke_decoder_step(runtime->context, decoder->step_inputs,
                                   decoder->step_outputs) != 0) {
    return SPEECH_ERROR_DECODER_STEP;
  }
  memcpy(hypothesis->logits, decoder->step_outputs[n->step_logits], (size_t)n->vocabulary);
  for (i = 0; i < core->tensors->caches; ++i) {
    size_t bytes = (size_t)core->caches[i].row_bytes;
    memcpy(cache + (size_t)step * bytes, decoder->step_outputs[core->caches[i].row_output], bytes);
    cache += bytes * (size_t)n->token_limit;
  }
  return SPEECH_OK;
}

/* Runs the encoder, and points the inputs of the decoder step to what does not change. */
static int encode(speech_decoder *decoder) {
  const speech_core *core = &decoder->core;
  const speech_numbers *n = core->numbers;
  int32_t i;
  decoder->encoder_inputs[n->encoder_features] = decoder->features;
  decoder->encoder_inputs[n->encoder_mask] = decoder->encoder_mask;
  if (decoder->runtime->invoke_encoder(decoder->runtime->context, decoder->encoder_inputs,
                                       decoder->encoder_outputs) != 0) {
    return SPEECH_ERROR_ENCODER;
  }
  decoder->step_inputs[n->step_token] = decoder->token;
  decoder->step_inputs[n->step_self_mask] = decoder->self_mask;
  decoder->step_inputs[n->step_memory_mask] = decoder->memory_mask;
  for (i = 0; i < core->tensors->crossings; ++i) {
    decoder->step_inputs[core->crossings[i].input] =
        decoder->encoder_outputs[core->crossings[i].encoder_output];
  }
  return SPEECH_OK;
}

/* Reads commands and confidence off the best text. */
static void judge(speech_decoder *decoder) {
  const speech_core *core = &decoder->core;
  const speech_search *search = &decoder->search;
  int32_t steps = search->token_count + search->ended;
  int32_t all;
  if (core->automaton == NULL) {
    int32_t score = steps > 0 ? search->scores[steps - 1] / (search->token_count + 1) : 0;
    if (search->joint) decoder->confidence = speech_exponential(core, score < 0 ? score : 0);
    return;
  }
  decoder->command_count =
      speech_grammar_parse(&search->grammar, core, search->tokens, search->token_count,
                           decoder->commands, decoder->token_slots);
  if (decoder->command_count > 0 &&
      !speech_align(&decoder->alignment, speech_decoder_logits(decoder), search->memory_frames, search->tokens,
                    search->token_count)) decoder->command_count = 0;
  all = speech_grammar_score(core, decoder->commands, decoder->command_count, search->scores, steps);
  decoder->confidence = decoder->command_count > 0 ? speech_exponential(core, all) : 0;
  if (all < core->automaton->reject_below) decoder->command_count = 0;
}

/* Finds the sentence that the encoder's phones make; no decoder runs. */
static void hear_phones(speech_decoder *decoder) {
  const speech_core *core = &decoder->core;
  const int8_t *logits = speech_decoder_logits(decoder);
  int32_t all, i;
  speech_phones_find(&decoder->phones, logits, decoder->memory_frames);
  decoder->confidence = 0;
  if (decoder->phones.sentence_count == 0) return;
  decoder->arc_count = speech_phones_arcs(&decoder->phones, 0, decoder->arcs);
  for (i = 0; i < decoder->arc_count; ++i) {
    decoder->arc_phones[i] = core->arc_tokens[decoder->arcs[i]];
  }
  if (!speech_align(&decoder->alignment, logits, decoder->memory_frames, decoder->arc_phones,
                    decoder->arc_count)) return;
  decoder->command_count =
      speech_sentence_commands(core, decoder->arcs, decoder->arc_count, decoder->commands);
  if (decoder->command_count == 0) return;
  all = speech_sentence_score(core, logits, decoder->arc_phones, decoder->alignment.spans,
                              decoder->commands, decoder->command_count);
  decoder->confidence = speech_exponential(core, all);
  if (all < core->automaton->reject_below) decoder->command_count = 0;
}

int speech_decode(speech_decoder *decoder, int32_t frames, int32_t beam) {
  const speech_numbers *n = decoder->core.numbers;
  speech_search *search = &decoder->search;
  int32_t step, i;
  int status;
  if (frames < 1 || frames > n->frames) return SPEECH_ERROR_FRAMES;
  if (beam < 0 || (!decoder->core.of_phones && beam > search->most)) return SPEECH_ERROR_BEAM;
  reset(decoder, frames);
  status = encode(decoder);
  if (status != SPEECH_OK) return status;
  if (decoder->core.of_phones) {
    hear_phones(decoder);
    return SPEECH_OK;
  }
  speech_search_start(search, beam == 0 ? search->most : beam, speech_decoder_logits(decoder),
                      memory_frames(n, frames));
  for (step = 0; step < n->token_limit && search->active > 0; ++step) {
    for (i = 0; i < search->active; ++i) {
      status = invoke_step(decoder, speech_search_active(search, i), step);
      if (status != SPEECH_OK) {
        reset(decoder, frames);
        return status;
      }
    }
    speech_search_step(search, step);
    decoder->self_mask[step] = (int8_t)n->self_mask_valid;
  }
  speech_search_cut(search, step);
  judge(decoder);
  return SPEECH_OK;
}
