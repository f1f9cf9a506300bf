/* The decoder loop: features in, text out; integers only, no dynamic memory. The search is in
 * speech_search.h. A bundle with a grammar also gives commands, see speech_grammar.h.
 *
 *   static speech_decoder decoder; speech_runtime runtime; char text[SPEECH_TEXT_BYTES];
 *
 *   1. Once: load the models. Or fill in a runtime of your own.
 *      speech_tflm_start(&runtime);
 *   2. For each frame of an utterance: store the microfrontend's values, see speech_frontend.h.
 *      decoder.features[frame * SPEECH_CHANNELS + channel] = speech_feature(value);
 *   3. At its end: decode.
 *      if (speech_decode(&decoder, &runtime, frames) == SPEECH_OK) speech_text(&decoder, text);
 *
 * The caller owns all memory. Results stay in `decoder` until the next call of speech_decode; after
 * a failure there are none. One call takes at most SPEECH_FRAMES frames: cut longer audio in its
 * pauses, and reset the microfrontend at each cut. A decoder belongs to one thread at a time.
 */
#ifndef SPEECH_DECODER_H
#define SPEECH_DECODER_H

#include "speech_search.h"

#if SPEECH_STATES > 0
#include "speech_grammar.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum speech_status {
  SPEECH_OK = 0,
  SPEECH_ERROR_FRAMES,       /* frames is not 1 to SPEECH_FRAMES */
  SPEECH_ERROR_ENCODER,      /* invoke_encoder failed */
  SPEECH_ERROR_DECODER_STEP, /* invoke_decoder_step failed */
  SPEECH_ERROR_MISMATCH,     /* of the self-test */
  SPEECH_ERROR_RUNTIME,      /* TensorFlow Lite Micro cannot load the models */
  SPEECH_ERROR_BEAM          /* beam is not 1 to SPEECH_BEAM */
};

/* The runtime of the two models. Both functions take pointers to all inputs and set pointers to
 * all outputs, in the order of speech_encoder_inputs and the other tables. They return 0 on
 * success. The runtime owns the outputs; they must not change until the next call of the function.
 */
typedef struct {
  void *context; /* argument of both functions */
  int (*invoke_encoder)(void *context, const void *const *inputs, const void **outputs);
  int (*invoke_decoder_step)(void *context, const void *const *inputs, const void **outputs);
} speech_runtime;

/* One utterance, and all memory that the loop needs. */
typedef struct {
  int8_t features[SPEECH_FRAMES * SPEECH_CHANNELS]; /* in */
  /* Out: search.tokens without start and end, search.token_count, and search.ended, which is 0 if
   * the limit on tokens cut the text off. */
  speech_search search;
#if SPEECH_STATES > 0
  /* Out. Without commands, the tokens are the likeliest text of the grammar, which was rejected. */
  speech_command commands[SPEECH_COMMANDS];
  int32_t command_count;
  int16_t token_slots[SPEECH_TOKENS]; /* of a command's tokens, or SPEECH_NO_SLOT */
#endif
  /* The rest belongs to the loop. */
  int8_t encoder_memory_mask[SPEECH_MEMORY_FRAMES];
  int8_t memory_mask[SPEECH_MEMORY_FRAMES];
  int8_t self_mask[SPEECH_TOKENS + 1]; /* the last position is the step's own */
  int8_t token[SPEECH_VOCABULARY]; /* one-hot */
#if SPEECH_STATES > 0
  uint8_t readable[SPEECH_TOKENS + 1][SPEECH_STATE_BYTES];
#endif
} speech_decoder;

/* The int8 feature for one value of the microfrontend. */
int8_t speech_feature(uint16_t value);

/* Finds the tokens for decoder->features[0 .. frames * SPEECH_CHANNELS).
 *
 * frames: feature frames of the utterance; this function pads the rest of the window.
 * Returns SPEECH_OK or one of speech_status.
 */
int speech_decode(speech_decoder *decoder, const speech_runtime *runtime, int32_t frames);

/* The same with a beam of 1 to SPEECH_BEAM hypotheses: fewer are faster, and less accurate. */
int speech_decode_beam(speech_decoder *decoder, const speech_runtime *runtime, int32_t frames,
                       int32_t beam);

/* The text of the decoded tokens: UTF-8, without spaces around it, ended by a zero byte. */
void speech_text(const speech_decoder *decoder, char text[SPEECH_TEXT_BYTES]);

#if SPEECH_STATES > 0
/* The value of a slot of speech_slots in a command of decoder->commands, as speech_text writes it.
 * Returns 0, and an empty text, if the command has no such slot.
 */
int speech_slot_text(const speech_decoder *decoder, int32_t command, int16_t slot,
                     char text[SPEECH_TEXT_BYTES]);
#endif

#ifdef __cplusplus
}
#endif

#endif
