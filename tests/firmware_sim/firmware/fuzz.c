/* Damaged blocks, and models that return anything: fuzz BLOCK INPUTS SEED. Prints how many blocks
 * were accepted, and how many results they gave. A sanitizer sees what they do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "speech.h"

enum { MOST_BYTES = 1 << 20, SAMPLES = 96000, MOST_MEMORY = 1 << 24 };

static uint32_t block[MOST_BYTES / 4], damaged[MOST_BYTES / 4];
static int16_t samples[SAMPLES];
static uint8_t outputs[1 << 20];
static uint64_t chance;
static uint64_t read_by_listener;
static long results;

static uint32_t next(void) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33);
}

static int run(const uint32_t *sizes, int32_t count, const void **pointers) {
  int32_t i;
  uint32_t k, bytes = 0;
  for (i = 0; i < count; ++i) {
    if (sizes[i] > sizeof outputs - bytes) return 1;
    pointers[i] = outputs + bytes;
    for (k = 0; k < sizes[i]; ++k) outputs[bytes + k] = (uint8_t)next();
    bytes += sizes[i];
  }
  return next() % 50 == 0;
}

static int encode(void *context, const void *const *inputs, const void **pointers) {
  const speech_core *core = (const speech_core *)context;
  (void)inputs;
  return run(core->encoder_output_bytes, core->tensors->encoder_outputs, pointers);
}

static int step(void *context, const void *const *inputs, const void **pointers) {
  const speech_core *core = (const speech_core *)context;
  (void)inputs;
  return run(core->step_output_bytes, core->tensors->step_outputs, pointers);
}

static void on_event(void *context, const speech_event *event) {
  int32_t i;
  (void)context;
  results += event->kind != SPEECH_BEGAN && event->kind != SPEECH_ENDED;
  read_by_listener += strlen(event->text);
  if (event->intent != NULL) read_by_listener += strlen(event->intent);
  for (i = 0; i < event->slot_count; ++i) {
    read_by_listener += strlen(event->slots[i].name) + strlen(event->slots[i].value);
  }
}

/* Changes up to four words: any number, a small one, an end of a range, or a bit. */
static void damage(size_t words) {
  uint32_t changes = next() % 5;
  while (changes-- > 0) {
    uint32_t *word = &damaged[next() % (next() % 2 ? words : words < 160 ? words : 160)];
    switch (next() % 4) {
      case 0: *word = next() << 1 ^ next(); break;
      case 1: *word = next() % 64; break;
      case 2: *word = next() % 2 ? 0xffffffffu : 0x7fffffffu; break;
      default: *word ^= 1u << next() % 32; break;
    }
  }
}

/* Speech, more or less: bursts of noise. */
static void make_samples(void) {
  uint32_t i, level = 1;
  for (i = 0; i < SAMPLES; ++i) {
    if (i % 1600 == 0) level = 1u << next() % 16;
    samples[i] = (int16_t)((int32_t)(next() % (2 * level)) - (int32_t)level);
  }
}

/* Returns whether the block was accepted. */
static int hear(size_t bytes) {
  static const speech_listener listener = {on_event, NULL};
  speech_settings settings = {0, 0};
  speech_runtime runtime = {NULL, encode, step};
  speech_core core;
  speech *recognizer;
  size_t needed, taken = 0;
  void *memory;
  settings.early = (int32_t)(next() % 2);
  settings.beam = (int32_t)(next() % 6);
  if (speech_size(damaged, bytes, &settings, &needed) != SPEECH_OK || needed > MOST_MEMORY) return 0;
  if (speech_core_read(&core, damaged, bytes) != SPEECH_OK) abort();
  runtime.context = &core;
  memory = malloc(needed); /* exactly: the sanitizer sees the byte after it */
  if (memory == NULL || speech_open(&recognizer, memory, needed, damaged, bytes, &settings,
                                    &runtime, &listener) != SPEECH_OK) abort();
  make_samples();
  while (taken < SAMPLES) {
    size_t count = 1 + next() % 4000;
    if (count > SAMPLES - taken) count = SAMPLES - taken;
    (void)speech_feed(recognizer, samples + taken, count);
    taken += count;
  }
  (void)speech_finish(recognizer);
  free(memory);
  return 1;
}

int main(int argc, char **argv) {
  FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
  size_t bytes = file != NULL ? fread(block, 1, MOST_BYTES, file) : 0;
  long inputs = argc == 4 ? atol(argv[2]) : 0, accepted = 0;
  if (bytes == 0) return 1;
  chance = (uint64_t)atol(argv[3]);
  for (; inputs > 0; --inputs) {
    memcpy(damaged, block, bytes);
    damage(bytes / 4);
    accepted += hear(next() % 20 ? bytes : next() % (uint32_t)bytes);
  }
  printf("%ld %ld\n", accepted, results);
  return fclose(file) != 0 || read_by_listener == 0;
}
