/* Commands: what a bundle with a grammar adds to the search. Its texts are held to the grammar,
 * and have intents, slots and a confidence. Integers only: log probabilities are in 1/65536 nats.
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

/* Places are the states of the automaton that a text leads to, a bit each; these where it begins. */
void speech_grammar_begin(uint8_t places[SPEECH_STATE_BYTES]);

/* Marks the tokens that may follow, SPEECH_TOKEN_END among them, by a 1. */
void speech_grammar_allow(const uint8_t places[SPEECH_STATE_BYTES],
                          uint8_t allowed[SPEECH_VOCABULARY]);

/* Where an allowed token leads to. */
void speech_grammar_follow(uint8_t places[SPEECH_STATE_BYTES], int32_t token);

/* What a text of the grammar means.
 *
 * scores: log probabilities of the text up to each token, and to its end if it ended; `steps` in all.
 * readable: for the work; states from which the rest of the text, from each token on, can be read.
 * token_slots: out; the slot of each token, or SPEECH_NO_SLOT.
 * Returns the number of commands; 0 if the text is no command, or less sure than the bundle wants.
 */
int32_t speech_grammar_commands(const int32_t *tokens, int32_t count, const int32_t *scores,
                                int32_t steps,
                                uint8_t readable[SPEECH_TOKENS + 1][SPEECH_STATE_BYTES],
                                int16_t *token_slots, speech_command commands[SPEECH_COMMANDS]);

#ifdef __cplusplus
}
#endif

#endif
