/* See speech_core.h. */
#include "speech_core.h"

#define MOST 65535              /* of frames, tokens, states of a text */
#define MOST_ARCS (1 << 24)     /* and states */
#define MOST_BYTES (1 << 28)    /* of a tensor */
#define MOST_TENSORS 256        /* of a side of a model */
#define MOST_NATS (1 << 29)     /* of a logit's unit: 32 nats; sums of them fit 32 bits */
#define MOST_FACTORS 32         /* of kissfft */
#define FFT_NUMBERS (2 + 2 * MOST_FACTORS)
#define GAINS 125               /* entries that a table of gains has */

/* What is left of a section. */
typedef struct {
  const uint8_t *next;
  uint64_t left; /* bytes */
  int failed;
} reader;

/* The next `count` items of `size` bytes; the following ones begin at a multiple of 4 bytes. */
static const void *items(reader *r, int64_t count, uint32_t size) {
  const uint8_t *found = r->next;
  uint64_t bytes = ((uint64_t)count * size + 3) & ~(uint64_t)3;
  if (r->failed || count < 0 || bytes > r->left) {
    r->failed = 1;
    return NULL;
  }
  r->next += bytes;
  r->left -= bytes;
  return found;
}

static uint32_t word(const void *block, size_t place) {
  return ((const uint32_t *)block)[place];
}

/* A section of a kind in version 1; an empty one if there is none. */
static reader section(const void *block, uint32_t kind) {
  reader found = {NULL, 0, 0};
  uint32_t i;
  for (i = 0; i < word(block, 3); ++i) {
    size_t place = 4 + 3 * (size_t)i;
    if ((word(block, place) & 0xffff) != kind) continue;
    found.failed = word(block, place) >> 16 != 1;
    found.next = (const uint8_t *)block + word(block, place + 1);
    found.left = word(block, place + 2);
    break;
  }
  return found;
}

/* Whether header and places of the sections are sound. */
static int is_block(const void *block, size_t bytes) {
  uint32_t i;
  if (block == NULL || (uintptr_t)block % 4 != 0 || bytes < 16) return 0;
  if (word(block, 0) != SPEECH_BLOCK_MAGIC || word(block, 1) != SPEECH_BLOCK_VERSION) return 0;
  if (word(block, 2) > bytes || word(block, 3) > (word(block, 2) - 16) / 12) return 0;
  for (i = 0; i < word(block, 3); ++i) {
    uint32_t offset = word(block, 5 + 3 * (size_t)i);
    if (offset % 4 != 0 || offset > word(block, 2)) return 0;
    if (word(block, 6 + 3 * (size_t)i) > word(block, 2) - offset) return 0;
  }
  return 1;
}

static int within(int32_t value, int32_t low, int32_t high) {
  return value >= low && value <= high;
}

static int is_byte(int32_t value) { return within(value, INT8_MIN, INT8_MAX); }

static int read_numbers(speech_core *core, reader r) {
  const speech_numbers *n = (const speech_numbers *)items(&r, 1, sizeof *n);
  core->numbers = n;
  if (n == NULL) return 0;
  return within(n->frames, 1, MOST) && within(n->channels, 1, MOST) &&
         within(n->memory_frames, 1, n->frames) && n->frames % n->memory_frames == 0 &&
         within(n->token_limit, 1, MOST) && within(n->vocabulary, 1, MOST) &&
         within(n->token_start, 0, n->vocabulary - 1) &&
         within(n->token_end, 0, n->vocabulary - 1) &&
         within(n->token_blank, 0, n->vocabulary - 1) && n->feature_numerator > 0 &&
         n->feature_denominator > 0 && is_byte(n->feature_zero_point) && within(n->beam, 1, MOST) &&
         within(n->logit_nats, 0, MOST_NATS) && within(n->ctc_logit_nats, 0, MOST_NATS) &&
         within(n->ctc_weight, 0, 65536) && is_byte(n->token_zero) && is_byte(n->token_one) &&
         is_byte(n->encoder_mask_valid) && is_byte(n->encoder_mask_masked) &&
         is_byte(n->memory_mask_valid) && is_byte(n->memory_mask_masked) &&
         is_byte(n->self_mask_valid) && is_byte(n->self_mask_masked);
}

/* Whether a place exists and its tensor has so many bytes. */
static int has(const uint32_t *bytes, int32_t count, int32_t place, int64_t expected) {
  return within(place, 0, count - 1) && bytes[place] == expected;
}

/* Whether something fills an input of the decoder step. */
static int is_filled(const speech_core *core, int32_t input) {
  const speech_numbers *n = core->numbers;
  int32_t i;
  if (input == n->step_token || input == n->step_self_mask) return 1;
  if (input == n->step_memory_mask) return 1;
  for (i = 0; i < core->tensors->crossings; ++i) {
    if (core->crossings[i].input == input) return 1;
  }
  for (i = 0; i < core->tensors->caches; ++i) {
    if (core->caches[i].input == input) return 1;
  }
  return 0;
}

static int are_sizes_right(const speech_core *core) {
  const speech_numbers *n = core->numbers;
  const speech_tensor_numbers *t = core->tensors;
  int32_t i;
  for (i = 0; i < t->crossings; ++i) {
    const speech_crossing *x = &core->crossings[i];
    if (!within(x->encoder_output, 0, t->encoder_outputs - 1)) return 0;
    if (!has(core->step_input_bytes, t->step_inputs, x->input,
             core->encoder_output_bytes[x->encoder_output])) return 0;
  }
  for (i = 0; i < t->caches; ++i) {
    const speech_cache *x = &core->caches[i];
    if (!within(x->row_bytes, 1, MOST_BYTES) || !is_byte(x->zero)) return 0;
    if (!has(core->step_output_bytes, t->step_outputs, x->row_output, x->row_bytes)) return 0;
    if (!has(core->step_input_bytes, t->step_inputs, x->input,
             (int64_t)x->row_bytes * n->token_limit)) return 0;
  }
  for (i = 0; i < t->step_inputs; ++i) {
    if (!is_filled(core, i)) return 0;
  }
  if (n->ctc_logit_nats > 0 &&
      !has(core->encoder_output_bytes, t->encoder_outputs, n->encoder_ctc_logits,
           (int64_t)n->memory_frames * n->vocabulary)) return 0;
  return t->encoder_inputs == 2 && n->encoder_features != n->encoder_mask &&
         has(core->encoder_input_bytes, 2, n->encoder_features, (int64_t)n->frames * n->channels) &&
         has(core->encoder_input_bytes, 2, n->encoder_mask, n->memory_frames) &&
         has(core->step_input_bytes, t->step_inputs, n->step_token, n->vocabulary) &&
         has(core->step_input_bytes, t->step_inputs, n->step_self_mask, n->token_limit + 1) &&
         has(core->step_input_bytes, t->step_inputs, n->step_memory_mask, n->memory_frames) &&
         has(core->step_output_bytes, t->step_outputs, n->step_logits, n->vocabulary);
}

static int read_tensors(speech_core *core, reader r) {
  const speech_tensor_numbers *t = (const speech_tensor_numbers *)items(&r, 1, sizeof *t);
  core->tensors = t;
  if (t == NULL || !within(t->encoder_inputs, 1, MOST_TENSORS) ||
      !within(t->encoder_outputs, 1, MOST_TENSORS) || !within(t->step_inputs, 1, MOST_TENSORS) ||
      !within(t->step_outputs, 1, MOST_TENSORS) || !within(t->crossings, 0, MOST_TENSORS) ||
      !within(t->caches, 0, MOST_TENSORS)) return 0;
  core->encoder_input_bytes = (const uint32_t *)items(&r, t->encoder_inputs, 4);
  core->encoder_output_bytes = (const uint32_t *)items(&r, t->encoder_outputs, 4);
  core->step_input_bytes = (const uint32_t *)items(&r, t->step_inputs, 4);
  core->step_output_bytes = (const uint32_t *)items(&r, t->step_outputs, 4);
  core->crossings = (const speech_crossing *)items(&r, t->crossings, sizeof(speech_crossing));
  core->caches = (const speech_cache *)items(&r, t->caches, sizeof(speech_cache));
  return !r.failed && are_sizes_right(core);
}

static int read_tables(speech_core *core, reader r) {
  const speech_table_numbers *t = (const speech_table_numbers *)items(&r, 1, sizeof *t);
  int32_t i;
  core->tables = t;
  if (t == NULL || t->powers != 65 || !within(t->log_adds, 2, MOST) ||
      !within(t->log_add_bits, 1, 24)) return 0;
  core->powers = (const int32_t *)items(&r, t->powers, 4);
  core->log_add = (const uint16_t *)items(&r, t->log_adds, 2);
  for (i = 0; i < t->powers && !r.failed; ++i) {
    if (!within(core->powers[i], 32768, 65536)) return 0;
  }
  return !r.failed;
}

/* Whether the stages of an FFT are of radix 2 or 4, and all of it. */
static int is_fft(const int32_t *fft, int32_t size) {
  int32_t left = size, i;
  if (fft[0] != size || fft[1] != 0) return 0;
  for (i = 0; i < MOST_FACTORS && left > 1; ++i) {
    int32_t radix = fft[2 + 2 * i], rest = fft[3 + 2 * i];
    if ((radix != 2 && radix != 4) || rest < 1 || rest > left || radix * rest != left) return 0;
    left = rest;
  }
  return left == 1 && i > 0;
}

static int are_channels_right(const speech_core *core) {
  const speech_frontend_numbers *f = core->frontend;
  int32_t i;
  for (i = 0; i <= f->channels; ++i) {
    int32_t width = core->widths[i];
    if (!within(width, 0, MOST) || core->frequency_starts[i] < 0 || core->weight_starts[i] < 0 ||
        core->frequency_starts[i] + width > f->fft / 2 + 1 ||
        core->weight_starts[i] + width > f->weights) return 0;
  }
  return 1;
}

static int read_frontend(speech_core *core, reader r) {
  const speech_frontend_numbers *f = (const speech_frontend_numbers *)items(&r, 1, sizeof *f);
  core->frontend = f;
  if (f == NULL || !within(f->fft, 8, 1 << 14) || f->fft % 4 != 0 || f->step != SPEECH_STEP ||
      !within(f->window, f->step, f->fft) || f->channels != core->numbers->channels ||
      !within(f->weights, 0, 32767) || (f->gains != 0 && f->gains != GAINS) ||
      !within(f->first_bin, 0, f->fft / 2) || !within(f->end_bin, f->first_bin, f->fft / 2) ||
      !within(f->smoothing_bits, 0, 16) || !within(f->even_smoothing, 0, 1 << 14) ||
      !within(f->odd_smoothing, 0, 1 << 14) || !within(f->least_signal, 0, 1 << 14) ||
      !within(f->snr_shift, 0, 31) || !within(f->log_shift, 0, 16)) return 0;
  core->fft = (const int32_t *)items(&r, FFT_NUMBERS + f->fft / 2, 4);
  core->real_twiddles = (const int16_t *)items(&r, f->fft / 4, 4);
  core->window = (const int16_t *)items(&r, f->window, 2);
  core->frequency_starts = (const int16_t *)items(&r, f->channels + 1, 2);
  core->weight_starts = (const int16_t *)items(&r, f->channels + 1, 2);
  core->widths = (const int16_t *)items(&r, f->channels + 1, 2);
  core->weights = (const int16_t *)items(&r, f->weights, 2);
  core->unweights = (const int16_t *)items(&r, f->weights, 2);
  core->gains = (const int16_t *)items(&r, f->gains, 2);
  return !r.failed && is_fft(core->fft, f->fft / 2) && are_channels_right(core);
}

static int read_strings(speech_strings *strings, reader *r, int32_t count) {
  const speech_string_numbers *n = (const speech_string_numbers *)items(r, 1, sizeof *n);
  int32_t i;
  if (n == NULL || n->count != count || !within(n->bytes, 0, MOST_BYTES)) return 0;
  strings->count = count;
  strings->places = (const uint32_t *)items(r, (int64_t)count + 1, 4);
  strings->bytes = (const char *)items(r, n->bytes, 1);
  if (r->failed) return 0;
  for (i = 0; i < count; ++i) {
    if (strings->places[i] >= strings->places[i + 1]) return 0;
    if (strings->places[i + 1] > (uint32_t)n->bytes) return 0;
    if (strings->bytes[strings->places[i + 1] - 1] != '\0') return 0;
  }
  return 1;
}

/* Bytes of the longest string. */
static uint32_t longest(const speech_strings *strings) {
  uint32_t most = 0;
  int32_t i;
  for (i = 0; i < strings->count; ++i) {
    uint32_t size = strings->places[i + 1] - strings->places[i] - 1;
    if (size > most) most = size;
  }
  return most;
}

static int read_tokens(speech_core *core, reader r) {
  if (!read_strings(&core->tokens, &r, core->numbers->vocabulary)) return 0;
  core->longest_token = longest(&core->tokens);
  return core->longest_token <= MOST;
}

static int read_phones(speech_core *core, reader r) {
  const speech_phone_numbers *p;
  core->phones = NULL;
  if (r.next == NULL) return 1;
  p = (const speech_phone_numbers *)items(&r, 1, sizeof *p);
  if (p == NULL || !within(p->count, 1, MOST - 1) || !within(p->logit_nats, 1, MOST_NATS) ||
      !within(p->margin, 1, MOST) || !within(p->paths, 1, MOST) ||
      !within(p->records, 1, MOST_ARCS) ||
      !has(core->encoder_output_bytes, core->tensors->encoder_outputs, p->encoder_logits,
           (int64_t)core->numbers->memory_frames * (p->count + 1)) ||
      !read_strings(&core->phone_names, &r, p->count)) return 0;
  core->phones = p;
  core->longest_phone = longest(&core->phone_names);
  return core->longest_phone <= MOST;
}

static int are_arcs_right(const speech_core *core) {
  const speech_automaton_numbers *a = core->automaton;
  int32_t tokens = core->of_phones ? core->phones->count : core->numbers->vocabulary;
  int32_t state, i;
  if (speech_index(&core->first_arcs, 0) != 0) return 0;
  for (state = 0; state < a->states; ++state) {
    int32_t first = speech_index(&core->first_arcs, state);
    int32_t end = speech_index(&core->first_arcs, state + 1);
    if (!within(end, first, a->arcs) || !within(core->finals[state], -1, a->intents - 1)) return 0;
    for (i = first; i < end; ++i) {
      if (i > first && core->arc_tokens[i] < core->arc_tokens[i - 1]) return 0;
      if (core->arc_tokens[i] >= tokens) return 0;
      if (!within(core->arc_slots[i], -1, a->slots - 1)) return 0;
      if (!within(speech_index(&core->targets, i), 0, a->states - 1)) return 0;
    }
  }
  return speech_index(&core->first_arcs, a->states) == a->arcs && core->finals[a->start] < 0;
}

static int read_words(speech_core *core, reader *r) {
  const speech_word_numbers *w = (const speech_word_numbers *)items(r, 1, sizeof *w);
  uint32_t said;
  int32_t i;
  if (w == NULL || !within(w->words, 1, MOST_ARCS) || (w->said != 0 && w->said != w->words) ||
      (w->values != 0 && w->values != w->words)) return 0;
  core->word_numbers = w;
  core->arc_words.width = core->automaton->width;
  core->arc_words.values =
      items(r, core->automaton->arcs, (uint32_t)core->automaton->width);
  if (!read_strings(&core->words, r, w->words) || !read_strings(&core->said, r, w->said) ||
      !read_strings(&core->values, r, w->values)) return 0;
  for (i = 0; i < core->automaton->arcs; ++i) {
    if (!within(speech_index(&core->arc_words, i), 0, w->words)) return 0;
  }
  core->longest_word = longest(&core->words);
  core->longest_value = longest(&core->values);
  said = longest(&core->said);
  if (said > core->longest_word) core->longest_word = said;
  return core->longest_word <= MOST && core->longest_value <= MOST;
}

static int read_automaton(speech_core *core, reader r) {
  const speech_automaton_numbers *a;
  int32_t limit = core->of_phones ? core->numbers->memory_frames : core->numbers->token_limit;
  core->automaton = NULL;
  if (r.next == NULL) return 1;
  a = (const speech_automaton_numbers *)items(&r, 1, sizeof *a);
  if (a == NULL || !within(a->states, 1, MOST_ARCS) || !within(a->arcs, 0, MOST_ARCS) ||
      !within(a->intents, 1, INT16_MAX) || !within(a->slots, 0, INT16_MAX) ||
      !within(a->start, 0, a->states - 1) ||
      !within(a->between, -1, core->of_phones ? -1 : core->numbers->vocabulary - 1) ||
      !within(a->commands, 1, limit) || !within(a->concurrent, 1, MOST) ||
      a->reject_below > 0 || (a->width != 2 && a->width != 4)) return 0;
  if (core->of_phones ? core->phones == NULL : core->numbers->ctc_logit_nats == 0) return 0;
  core->automaton = a;
  core->first_arcs.width = core->targets.width = a->width;
  core->first_arcs.values = items(&r, (int64_t)a->states + 1, (uint32_t)a->width);
  core->targets.values = items(&r, a->arcs, (uint32_t)a->width);
  core->arc_tokens = (const uint16_t *)items(&r, a->arcs, 2);
  core->arc_slots = (const int16_t *)items(&r, a->arcs, 2);
  core->finals = (const int16_t *)items(&r, a->states, 2);
  return !r.failed && are_arcs_right(core) &&
         read_strings(&core->names, &r, a->intents + a->slots) &&
         (!core->of_phones || read_words(core, &r));
}

/* The grammar of a block, over phones or tokens. */
static int read_grammar(speech_core *core, const void *block) {
  reader phones = section(block, SPEECH_SECTION_PHONE_AUTOMATON);
  core->of_phones = phones.next != NULL;
  if (core->of_phones) return read_automaton(core, phones);
  return read_automaton(core, section(block, SPEECH_SECTION_AUTOMATON));
}

int speech_core_use(speech_core *core, const void *block, size_t bytes) {
  speech_core changed = *core;
  if (!is_block(block, bytes) || !read_grammar(&changed, block) || changed.automaton == NULL) {
    return SPEECH_ERROR_BLOCK;
  }
  *core = changed;
  return SPEECH_OK;
}

int speech_core_read(speech_core *core, const void *block, size_t bytes) {
  if (!is_block(block, bytes) ||
      !read_numbers(core, section(block, SPEECH_SECTION_NUMBERS)) ||
      !read_tensors(core, section(block, SPEECH_SECTION_TENSORS)) ||
      !read_tables(core, section(block, SPEECH_SECTION_TABLES)) ||
      !read_frontend(core, section(block, SPEECH_SECTION_FRONTEND)) ||
      !read_tokens(core, section(block, SPEECH_SECTION_TOKENS)) ||
      !read_phones(core, section(block, SPEECH_SECTION_PHONES)) || !read_grammar(core, block)) {
    return SPEECH_ERROR_BLOCK;
  }
  return SPEECH_OK;
}

void *speech_take(speech_memory *memory, uint64_t count, size_t size) {
  uint64_t start = memory->used;
  memory->used += (count * size + 7) & ~(uint64_t)7;
  return memory->base == NULL ? NULL : memory->base + start;
}
