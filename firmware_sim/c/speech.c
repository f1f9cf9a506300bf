/* See speech.h. */
#include "speech.h"

#include <string.h>

#include "speech_stream.h"

#define SILENT_PEAK 8 /* no recording of speech is softer */

struct speech {
  speech_decoder decoder;
  speech_stream stream;
  speech_listener listener;
  int early;
  int32_t beam;
  const void *block;
  size_t block_bytes;
  speech_memory memory; /* of which the search takes what is behind the rest */
  uint64_t bytes;
};

/* Takes all memory but that of the search, which comes last: it changes with the grammar. */
static void lay(speech *recognizer, speech_memory *memory) {
  speech_decoder *decoder = &recognizer->decoder;
  speech_decoder_lay(decoder, memory);
  speech_stream_lay(&recognizer->stream, &decoder->core, decoder->features, memory);
}

int speech_size_with(const void *block, size_t block_bytes, const speech_settings *settings,
                     const void *grammar, size_t grammar_bytes, size_t *bytes) {
  speech counted;
  speech_memory memory = {NULL, 0};
  int status = speech_core_read(&counted.decoder.core, block, block_bytes);
  if (status == SPEECH_OK && grammar != NULL) {
    status = speech_core_use(&counted.decoder.core, grammar, grammar_bytes);
  }
  if (status != SPEECH_OK) return status;
  (void)speech_take(&memory, 1, sizeof counted);
  lay(&counted, &memory);
  status = speech_decoder_lay_search(&counted.decoder, settings == NULL ? 0 : settings->beam,
                                     &memory);
  if (status == SPEECH_OK && memory.used > SIZE_MAX) return SPEECH_ERROR_BLOCK;
  *bytes = (size_t)memory.used;
  return status;
}

int speech_size(const void *block, size_t block_bytes, const speech_settings *settings,
                size_t *bytes) {
  return speech_size_with(block, block_bytes, settings, NULL, 0, bytes);
}

int speech_open(speech **opened, void *memory, size_t bytes, const void *block, size_t block_bytes,
                const speech_settings *settings, const speech_runtime *runtime,
                const speech_listener *listener) {
  speech_memory given = {(uint8_t *)memory, 0};
  speech *recognizer;
  size_t needed;
  int status = speech_size(block, block_bytes, settings, &needed);
  if (status != SPEECH_OK) return status;
  if (memory == NULL || bytes < needed || (uintptr_t)memory % 8 != 0) return SPEECH_ERROR_MEMORY;
  memset(memory, 0, needed);
  recognizer = (speech *)speech_take(&given, 1, sizeof *recognizer);
  recognizer->decoder.runtime = runtime;
  recognizer->listener = *listener;
  recognizer->early = settings != NULL && settings->early != 0;
  recognizer->beam = settings == NULL ? 0 : settings->beam;
  recognizer->block = block;
  recognizer->block_bytes = block_bytes;
  status = speech_core_read(&recognizer->decoder.core, block, block_bytes);
  if (status != SPEECH_OK) return status;
  lay(recognizer, &given);
  recognizer->memory = given;
  recognizer->bytes = bytes;
  status = speech_decoder_lay_search(&recognizer->decoder, recognizer->beam, &given);
  if (status != SPEECH_OK) return status;
  speech_stream_start(&recognizer->stream, recognizer->early);
  *opened = recognizer;
  return SPEECH_OK;
}

int speech_use(speech *recognizer, const void *grammar, size_t grammar_bytes) {
  speech_decoder counted = recognizer->decoder;
  speech_memory memory = recognizer->memory;
  int status = speech_core_read(&counted.core, recognizer->block, recognizer->block_bytes);
  if (status == SPEECH_OK && grammar != NULL) {
    status = speech_core_use(&counted.core, grammar, grammar_bytes);
  }
  if (status != SPEECH_OK) return status;
  memory.base = NULL;
  status = speech_decoder_lay_search(&counted, recognizer->beam, &memory);
  if (status == SPEECH_OK && memory.used > recognizer->bytes) status = SPEECH_ERROR_MEMORY;
  if (status != SPEECH_OK) return status;
  memory = recognizer->memory;
  recognizer->decoder.core = counted.core;
  recognizer->decoder.command_count = 0;
  return speech_decoder_lay_search(&recognizer->decoder, recognizer->beam, &memory);
}

const char *speech_said(const speech *recognizer, const speech_slot *slot) {
  return speech_decoder_said(&recognizer->decoder, slot);
}

static void tell(const speech *recognizer, const speech_event *event) {
  recognizer->listener.on_event(recognizer->listener.context, event);
}

/* An event of a kind, for the speech of a change. */
static speech_event event_of(enum speech_event_kind kind, const speech_change *change) {
  speech_event event = {SPEECH_BEGAN, 0, 0, "", SPEECH_NO_CONFIDENCE, NULL, -1, NULL, 0};
  event.kind = kind;
  event.start = change->start;
  event.end = change->end;
  return event;
}

/* The text of a decoded piece; with a grammar, of its commands. */
static const char *text_of(speech_decoder *decoder) {
  if (decoder->core.automaton != NULL && decoder->command_count == 0) return "";
  return speech_decoder_text(decoder);
}

static void tell_commands(speech *recognizer, const speech_change *change) {
  speech_decoder *decoder = &recognizer->decoder;
  int32_t i;
  for (i = 0; i < decoder->command_count; ++i) {
    const speech_command *command = &decoder->commands[i];
    speech_event event = event_of(SPEECH_COMMAND, change);
    speech_decoder_times(decoder, i, &event.start, &event.end);
    event.start += change->first;
    event.end += change->first;
    event.slot_count = speech_decoder_slots(decoder, i, &event.slots);
    event.text = speech_decoder_command(decoder, i);
    event.confidence = command->confidence;
    event.intent_number = command->intent;
    event.intent = speech_string(&decoder->core.names, command->intent);
    tell(recognizer, &event);
  }
}

/* The result of a piece without a frame: nothing was heard. */
static void tell_nothing(speech *recognizer, const speech_change *change) {
  int rejected = recognizer->decoder.core.automaton != NULL;
  speech_event event = event_of(rejected ? SPEECH_REJECTED : SPEECH_TEXT, change);
  if (change->ending == SPEECH_EARLY) event.kind = SPEECH_EARLY_TEXT;
  tell(recognizer, &event);
}

/* Decodes a piece, and tells its result. */
static int tell_result(speech *recognizer, const speech_change *change) {
  speech_decoder *decoder = &recognizer->decoder;
  speech_event event = event_of(SPEECH_TEXT, change);
  int status;
  if (change->frames == 0) {
    tell_nothing(recognizer, change);
    return SPEECH_OK;
  }
  status = speech_decode(decoder, change->frames, 0);
  if (status != SPEECH_OK) return status;
  if (change->ending == SPEECH_EARLY) {
    event.kind = SPEECH_EARLY_TEXT;
  } else if (decoder->core.automaton != NULL) {
    event.kind = SPEECH_REJECTED;
    if (decoder->command_count > 0) {
      tell_commands(recognizer, change);
      return SPEECH_OK;
    }
  }
  event.text =
      event.kind == SPEECH_REJECTED ? speech_decoder_free_text(decoder) : text_of(decoder);
  event.confidence = decoder->confidence;
  tell(recognizer, &event);
  return SPEECH_OK;
}

/* Tells what a change of the stream means. */
static int tell_change(speech *recognizer, const speech_change *change) {
  speech_event event;
  if (change->ending == SPEECH_NOTHING) return SPEECH_OK;
  if (change->ending == SPEECH_ONSET) {
    event = event_of(SPEECH_BEGAN, change);
    tell(recognizer, &event);
    return SPEECH_OK;
  }
  if (change->ending == SPEECH_PAUSE || change->ending == SPEECH_CLOSE) {
    event = event_of(SPEECH_ENDED, change);
    tell(recognizer, &event);
  }
  return tell_result(recognizer, change);
}

int speech_feed(speech *recognizer, const int16_t *samples, size_t count) {
  speech_change change;
  int last = SPEECH_OK;
  while (count > 0) {
    size_t taken = speech_stream_feed(&recognizer->stream, samples, count, &change);
    int status = tell_change(recognizer, &change);
    if (status != SPEECH_OK) last = status;
    samples += taken;
    count -= taken;
  }
  return last;
}

int speech_finish(speech *recognizer) {
  speech_change change;
  int status;
  speech_stream_finish(&recognizer->stream, &change);
  status = tell_change(recognizer, &change);
  speech_stream_start(&recognizer->stream, recognizer->early);
  return status;
}

size_t speech_window(const speech *recognizer) {
  return (size_t)speech_stream_window(&recognizer->decoder.core);
}

static int is_silent(const int16_t *samples, size_t count) {
  size_t i;
  for (i = 0; i < count; ++i) {
    if (samples[i] > SILENT_PEAK || samples[i] < -SILENT_PEAK) return 0;
  }
  return 1;
}

int speech_transcribe(speech *recognizer, const int16_t *samples, size_t count) {
  speech_change change = {SPEECH_CLOSE, 0, 0, 0, 0};
  int status;
  if (count > speech_window(recognizer)) return SPEECH_ERROR_FRAMES;
  change.end = (int64_t)count;
  if (!is_silent(samples, count)) {
    change.frames = speech_stream_whole(&recognizer->stream, samples, count);
  }
  status = tell_result(recognizer, &change);
  speech_stream_start(&recognizer->stream, recognizer->early);
  return status;
}
