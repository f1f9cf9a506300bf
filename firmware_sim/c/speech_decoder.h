/* The decoder loop: features in, text and commands out. speech.h has the way of use for a stream
 * of audio; this is for a firmware that finds and cuts utterances itself.
 *
 *   1. Once: ask for the size of the working memory, and hand it over with the block.
 *        size_t bytes; speech_decoder *decoder;
 *        speech_decoder_size(core, core_bytes, 0, &bytes);
 *        speech_decoder_open(&decoder, memory, bytes, core, core_bytes, 0, &runtime);
 *   2. For each frame of an utterance: store its features.
 *        decoder->features[frame * channels + channel] = speech_feature(&decoder->core, value);
 *   3. At its end: decode, and read the text or the commands.
 *        if (speech_decode(decoder, frames, 0) == SPEECH_OK) text = speech_decoder_text(decoder);
 *
 * Block and runtime must outlive the decoder. Results stay in the decoder until the next call of
 * speech_decode; after a failure there are none. A decoder belongs to one thread at a time.
 */
#ifndef SPEECH_DECODER_H
#define SPEECH_DECODER_H

#include "speech_align.h"
#include "speech_search.h"
#include "speech_sentence.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_NO_CONFIDENCE (-1)

/* The runtime of the two models. Both functions take pointers to all inputs and set pointers to
 * all outputs, in the order of the flatbuffers. They return 0 on success. The runtime owns the
 * outputs; they must not change until the next call of the function.
 */
typedef struct {
  void *context; /* argument of both functions */
  int (*invoke_encoder)(void *context, const void *const *inputs, const void **outputs);
  int (*invoke_decoder_step)(void *context, const void *const *inputs, const void **outputs);
} speech_runtime;

/* One utterance. Its memory lies behind it in the buffer. */
typedef struct {
  speech_core core;
  const speech_runtime *runtime;
  int8_t *features; /* in: frames * channels of the block */
  /* Out: search.tokens without start and end, search.token_count, and search.ended, which is 0 if
   * the limit on tokens cut the text off. */
  speech_search search;
  /* Out, with a grammar over phones, instead of the search's tokens. */
  speech_phones phones;
  /* Out. Without commands, the tokens are the likeliest text of the grammar, which was rejected. */
  speech_command *commands;
  int32_t command_count;
  /* Out: 0 to SPEECH_CERTAIN, of the text or of all commands together; SPEECH_NO_CONFIDENCE without
   * CTC. */
  int32_t confidence;
  /* The rest belongs to the decoder. */
  int16_t *token_slots;
  speech_command *other_commands; /* of another text */
  int16_t *other_slots;
  speech_slot *slots;
  const char **said; /* of each slot */
  int32_t *arcs, *other_arcs; /* of sentences over phones */
  int32_t arc_count;
  uint16_t *arc_phones;
  char *text, *values;
  size_t text_bytes;
  int32_t memory_frames; /* of the utterance */
  int8_t *encoder_mask, *memory_mask, *self_mask, *token;
  const void **encoder_inputs, **encoder_outputs, **step_inputs, **step_outputs;
  speech_alignment alignment;
} speech_decoder;

/* Bytes of working memory.
 *
 * beam: hypotheses that there is to be memory for, 0: as many as the block says.
 * Returns SPEECH_OK, SPEECH_ERROR_BLOCK or SPEECH_ERROR_BEAM.
 */
int speech_decoder_size(const void *block, size_t block_bytes, int32_t beam, size_t *bytes);

/* Makes a decoder in `memory`, which must be aligned to 8 bytes and outlive it.
 *
 * Returns what speech_decoder_size returns, or SPEECH_ERROR_MEMORY.
 */
int speech_decoder_open(speech_decoder **decoder, void *memory, size_t bytes, const void *block,
                        size_t block_bytes, int32_t beam, const speech_runtime *runtime);

/* The int8 feature for one value of the microfrontend. */
int8_t speech_feature(const speech_core *core, uint16_t value);

/* Finds the tokens for the first `frames` frames of decoder->features; pads the rest of the window.
 *
 * beam: hypotheses, 1 to those that there is memory for; 0: all. Fewer are faster, and less
 * accurate. Returns SPEECH_OK or one of speech_status.
 */
int speech_decode(speech_decoder *decoder, int32_t frames, int32_t beam);

/* The text of the decoded tokens: UTF-8, without spaces around it, ended by a zero byte. It is valid
 * until a text is asked for again. */
const char *speech_decoder_text(speech_decoder *decoder);

/* The text of a command. */
const char *speech_decoder_command(speech_decoder *decoder, int32_t command);

/* CTC's own text, which no grammar holds; empty without CTC. Call it before the runtime runs again.
 */
const char *speech_decoder_free_text(speech_decoder *decoder);

/* The slots of a command, in the order of the block's slots. A slot's confidence is the command's
 * times the share of its value among all texts of the beam, each weighted by its probability.
 *
 * Returns their number; `slots` is valid until slots are asked for again. It replaces the text.
 */
int32_t speech_decoder_slots(speech_decoder *decoder, int32_t command, const speech_slot **slots);

/* When a command was spoken: samples of the utterance at 16 kHz. */
void speech_decoder_times(const speech_decoder *decoder, int32_t command, int64_t *start,
                          int64_t *end);

/* How the value of one of these slots was said: "seventy five" for "75". */
const char *speech_decoder_said(const speech_decoder *decoder, const speech_slot *slot);

/* CTC's logits of the utterance: of tokens, or with a grammar over phones of these; NULL: none. */
const int8_t *speech_decoder_logits(const speech_decoder *decoder);

/* Takes the memory of a decoder whose core has been read, but for that of the search; a part of
 * `open`. */
void speech_decoder_lay(speech_decoder *decoder, speech_memory *memory);

/* Takes the memory of the search, which depends on the grammar. Returns SPEECH_OK or
 * SPEECH_ERROR_BEAM. */
int speech_decoder_lay_search(speech_decoder *decoder, int32_t beam, speech_memory *memory);

#ifdef __cplusplus
}
#endif

#endif
