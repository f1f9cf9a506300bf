/* Commands: what a bundle with a grammar adds to the decoder loop. The text is held to the grammar,
 * and has intents, slots and a confidence. Integers only: log probabilities are in 1/65536 nats.
 *
 *   if (speech_decode(&decoder, &runtime, frames) == SPEECH_OK) {
 *     for (i = 0; i < decoder.command_count; ++i) {
 *       switch (decoder.commands[i].intent) { ... }  (of speech_intents)
 *       if (speech_slot_text(&decoder, i, slot, text)) ...  (of speech_slots)
 *     }
 *   }
 */
#ifndef SPEECH_GRAMMAR_H
#define SPEECH_GRAMMAR_H

#include "speech_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_CERTAIN 65536 /* the confidence of what is certain */
#define SPEECH_NO_SLOT (-1)

typedef struct {
  int32_t intent;      /* of speech_intents */
  int32_t first, last; /* its tokens: from first on, and before last */
  int32_t confidence;  /* 0 to SPEECH_CERTAIN: the geometric mean of its tokens' probabilities */
} speech_command;

/* What the loop knows of a text that is not whole yet. */
typedef struct {
  uint8_t places[SPEECH_STATE_BYTES]; /* states that the tokens lead to, a bit each */
  int32_t attention;                  /* log probability of the tokens so far */
  int32_t scores[SPEECH_TOKENS + 1];  /* attention and CTC, after each token and after the end */
  /* CTC's view, as in the reference decoder: that these tokens, and nothing more, were said up to
   * each frame; alignments that end in the last token, and in a blank. */
  int32_t last_token; /* -1: none yet */
  int32_t memory_frames;
  const int8_t *ctc_logits;
  int32_t normalizers[SPEECH_MEMORY_FRAMES]; /* what makes logits of a frame log probabilities */
  int32_t label[SPEECH_MEMORY_FRAMES];
  int32_t blank[SPEECH_MEMORY_FRAMES];
  /* For the meaning: states from which the rest of the text, from each token on, can be read. */
  uint8_t readable[SPEECH_TOKENS + 1][SPEECH_STATE_BYTES];
} speech_search;

/* An empty text; ctc_logits is an output of the encoder and must stay until the text is whole. */
void speech_search_start(speech_search *search, const int8_t *ctc_logits, int32_t memory_frames);

/* The most likely token, or SPEECH_TOKEN_END, that the grammar allows; of equals the lowest. */
int32_t speech_search_best(const speech_search *search, const int8_t *logits);

/* Puts a token, the step-th one, or SPEECH_TOKEN_END to the text. */
void speech_search_follow(speech_search *search, const int8_t *logits, int32_t step,
                          int32_t token);

/* What a text of the grammar means.
 *
 * steps: scores that there are, one more than tokens if the text ended.
 * token_slots: out; the slot of each token, or SPEECH_NO_SLOT.
 * Returns the number of commands; 0 if the text is no command, or less sure than the bundle wants.
 */
int32_t speech_search_commands(speech_search *search, const int32_t *tokens, int32_t count,
                               int32_t steps, int16_t *token_slots,
                               speech_command commands[SPEECH_COMMANDS]);

#ifdef __cplusplus
}
#endif

#endif
