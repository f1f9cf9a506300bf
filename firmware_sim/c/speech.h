/* Speech recognition from samples to commands, in integers, for any bundle.
 *
 *   static void on_event(void *context, const speech_event *event) {
 *     if (event->kind == SPEECH_COMMAND) act(event->intent, event->slots, event->slot_count);
 *   }
 *
 *   1. Get the models running, for example by TensorFlow Lite Micro, see speech_tflm.h.
 *        speech_runtime runtime;
 *        if (speech_tflm_start(&runtime) != SPEECH_OK) fail();
 *   2. Ask how much memory this bundle takes. NULL: the bundle's own settings.
 *        size_t bytes;
 *        if (speech_size(core, core_bytes, NULL, &bytes) != SPEECH_OK) fail();
 *   3. Hand over one buffer, and say who is told of events.
 *        speech *recognizer;
 *        speech_listener listener = {on_event, NULL};
 *        if (speech_open(&recognizer, buffer, bytes, core, core_bytes, NULL, &runtime, &listener)
 *            != SPEECH_OK) fail();
 *   4. Give it audio as it comes, in blocks of any size. Events come before the call returns.
 *        speech_feed(recognizer, samples, count);
 *   5. At the end of a stream, ask for what is left. The next samples begin a new stream.
 *        speech_finish(recognizer);
 *   6. With a general model, change the grammar as you like: speech_use. Ask speech_size_with how
 *      much memory the largest one takes before step 3. compiler/speech_compiler.h makes a grammar of
 *      a text.
 *
 * Memory. The library allocates nothing and keeps nothing outside `buffer`. Block, buffer and
 * runtime belong to the caller and must outlive the recogniser; there is nothing to close. What an
 * event points to is valid until the listener returns.
 *
 * Time. A call returns at once while nothing is decided. When an utterance ends it runs both models
 * first: keep the audio of that time, and feed it afterwards.
 *
 * Errors. Functions return SPEECH_OK or another value of speech_status. If a model fails, its
 * utterance has no result, and the stream goes on.
 *
 * Threads. Recognisers are independent of each other; each belongs to one thread at a time.
 */
#ifndef SPEECH_H
#define SPEECH_H

#include "speech_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

enum speech_event_kind {
  SPEECH_BEGAN = 1,
  SPEECH_EARLY_TEXT, /* the text so far, at a pause in which speech may have ended */
  SPEECH_ENDED,
  SPEECH_TEXT,    /* final; of a bundle without a grammar */
  SPEECH_COMMAND, /* of a bundle with a grammar, one event for each command */
  SPEECH_REJECTED /* speech that is no command; of a bundle with a grammar */
};

/* For each utterance: SPEECH_BEGAN, SPEECH_ENDED, then its result. Speech that is longer than the
 * window gives the result of each piece before SPEECH_ENDED. */
typedef struct {
  enum speech_event_kind kind;
  int64_t start, end;  /* of the speech: samples from the stream's beginning, at 16 kHz */
  const char *text;    /* UTF-8, ended by a zero byte; of SPEECH_REJECTED what was heard freely */
  int32_t confidence;  /* 0 to SPEECH_CERTAIN, 65536; or SPEECH_NO_CONFIDENCE */
  const char *intent;  /* of SPEECH_COMMAND; else NULL */
  int32_t intent_number;
  const speech_slot *slots;
  int32_t slot_count;
} speech_event;

typedef struct {
  void (*on_event)(void *context, const speech_event *event);
  void *context;
} speech_listener;

typedef struct {
  int32_t beam;  /* hypotheses of the search, 0: as many as the bundle says */
  int32_t early; /* whether to give early texts */
} speech_settings;

typedef struct speech speech;

/* Bytes of working memory. settings: NULL for those of the bundle.
 *
 * Returns SPEECH_OK, SPEECH_ERROR_BLOCK or SPEECH_ERROR_BEAM.
 */
int speech_size(const void *block, size_t block_bytes, const speech_settings *settings,
                size_t *bytes);

/* Makes a recogniser in `memory`, which is aligned to 8 bytes. The block is aligned to 4.
 *
 * Returns what speech_size returns, or SPEECH_ERROR_MEMORY.
 */
int speech_open(speech **opened, void *memory, size_t bytes, const void *block, size_t block_bytes,
                const speech_settings *settings, const speech_runtime *runtime,
                const speech_listener *listener);

/* The same for a recogniser that will use a grammar of its own, see speech_use. A small grammar may
 * take less than speech_size says, which speech_open needs: take the larger of both.
 */
int speech_size_with(const void *block, size_t block_bytes, const speech_settings *settings,
                     const void *grammar, size_t grammar_bytes, size_t *bytes);

/* Holds what is decoded from now on to another grammar. The stream goes on. Do not call it from the
 * listener.
 *
 * grammar: a block of `export_c --format=grammar` for the same model, aligned to 4 bytes. It must
 * outlive its use. NULL: the grammar of the recogniser's block, or none.
 * Returns SPEECH_OK; or SPEECH_ERROR_BLOCK, or SPEECH_ERROR_MEMORY if the buffer is smaller than
 * speech_size_with says, and the grammar before stays.
 */
int speech_use(speech *recognizer, const void *grammar, size_t grammar_bytes);

/* How the value of an event's slot was said: "seventy five" for "75". Valid as the event is. */
const char *speech_said(const speech *recognizer, const speech_slot *slot);

/* Takes the next samples: 16 kHz, mono. Returns SPEECH_OK or the last error of a model. */
int speech_feed(speech *recognizer, const int16_t *samples, size_t count);

/* Ends the stream. Returns as speech_feed. */
int speech_finish(speech *recognizer);

/* Most samples that speech_transcribe takes. */
size_t speech_window(const speech *recognizer);

/* Recognises a whole recording at once, from its first sample to its last, and tells its result. A
 * stream that has begun is dropped.
 *
 * Returns SPEECH_OK, SPEECH_ERROR_FRAMES if the recording is longer than the window, or the error
 * of a model.
 */
int speech_transcribe(speech *recognizer, const int16_t *samples, size_t count);

#ifdef __cplusplus
}
#endif

#endif
