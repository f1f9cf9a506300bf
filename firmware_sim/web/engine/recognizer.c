/* The C core with the engine, as one WebAssembly module: samples in, events out.
 *
 * The caller owns the memory from __heap_base on. It puts plans, block and working memory there, each
 * at a multiple of 16, grows the memory if need be, and hands over where they are.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine.h"
#include "speech.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("host"), import_name(name)))
#define MOST_TENSORS 64

/* An event of speech.h; NULL is 0. Slots are `speech_slot`: addresses of name and value, number,
 * confidence. */
IMPORT("event")
void host_event(int32_t kind, double start, double end, const char *text, int32_t confidence,
                const char *intent, const speech_slot *slots, int32_t slot_count);

/* Milliseconds, for the times of the models. */
IMPORT("clock") double host_clock(void);

typedef struct {
  uint8_t *plan;
  double milliseconds;
  int32_t runs;
} timed_model;

static timed_model encoder, decoder_step;
static speech *recognizer;

static int invoke(timed_model *model, const void *const *inputs, const void **outputs) {
  const engine_header *header = (const engine_header *)(const void *)model->plan;
  const engine_tensor *tensors = (const engine_tensor *)(header + 1);
  double begin = host_clock();
  int32_t i;
  for (i = 0; i < header->inputs; ++i) {
    memcpy(model->plan + tensors[i].place, inputs[i], (size_t)tensors[i].bytes);
  }
  engine_run(model->plan);
  tensors += header->inputs;
  for (i = 0; i < header->outputs; ++i) outputs[i] = model->plan + tensors[i].place;
  model->milliseconds += host_clock() - begin;
  ++model->runs;
  return 0;
}

static int invoke_encoder(void *context, const void *const *inputs, const void **outputs) {
  (void)context;
  return invoke(&encoder, inputs, outputs);
}

static int invoke_decoder_step(void *context, const void *const *inputs, const void **outputs) {
  (void)context;
  return invoke(&decoder_step, inputs, outputs);
}

static void on_event(void *context, const speech_event *event) {
  (void)context;
  host_event((int32_t)event->kind, (double)event->start, (double)event->end, event->text,
             event->confidence, event->intent, event->slots, event->slot_count);
}

static const speech_runtime runtime = {NULL, invoke_encoder, invoke_decoder_step};
static const speech_listener listener = {on_event, NULL};

EXPORT("engine_open") int export_engine_open(uint8_t *plan) { return engine_open(plan); }

EXPORT("engine_run") void export_engine_run(uint8_t *plan) { engine_run(plan); }

/* Bytes of working memory with a grammar, or NULL for the block's own; or a negative
 * speech_status. */
EXPORT("recognizer_size")
int32_t recognizer_size(const void *block, int32_t bytes, int32_t beam, const void *grammar,
                        int32_t grammar_bytes) {
  speech_settings settings = {beam, 1};
  size_t size = 0;
  int status = speech_size_with(block, (size_t)bytes, &settings, grammar, (size_t)grammar_bytes,
                                &size);
  return status == SPEECH_OK ? (int32_t)size : -status;
}

/* Both plans are open. Returns a speech_status. */
EXPORT("recognizer_open")
int recognizer_open(void *memory, int32_t bytes, const void *block, int32_t block_bytes,
                    int32_t beam, int32_t early, uint8_t *encoder_plan, uint8_t *step_plan) {
  speech_settings settings = {beam, early};
  encoder = (timed_model){encoder_plan, 0.0, 0};
  decoder_step = (timed_model){step_plan, 0.0, 0};
  return speech_open(&recognizer, memory, (size_t)bytes, block, (size_t)block_bytes, &settings,
                     &runtime, &listener);
}

/* NULL: the grammar of the block, or none. Returns a speech_status. */
EXPORT("recognizer_use") int recognizer_use(const void *grammar, int32_t bytes) {
  return speech_use(recognizer, grammar, (size_t)bytes);
}

/* Samples at 16 kHz. Events come before it returns. */
EXPORT("recognizer_feed") int recognizer_feed(const int16_t *samples, int32_t count) {
  return speech_feed(recognizer, samples, (size_t)count);
}

EXPORT("recognizer_finish") int recognizer_finish(void) { return speech_finish(recognizer); }

EXPORT("encoder_milliseconds") double encoder_milliseconds(void) { return encoder.milliseconds; }

EXPORT("encoder_runs") int32_t encoder_runs(void) { return encoder.runs; }

EXPORT("step_milliseconds") double step_milliseconds(void) { return decoder_step.milliseconds; }

EXPORT("step_runs") int32_t step_runs(void) { return decoder_step.runs; }
