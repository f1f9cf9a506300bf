/* Commands of a bundle with a grammar. The search allows only texts of the grammar; they have
 * intents, slots and a confidence. Integers only: log probabilities are in 1/65536 nats.
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

#define SPEECH_CERTAIN 65536 /* a confidence of 1 */
#define SPEECH_NO_SLOT (-1)

typedef struct {
  int32_t intent;      /* of speech_intents */
  int32_t first, last; /* its first token, and the one after its last */
  int32_t confidence;  /* 0 to SPEECH_CERTAIN: the geometric mean of its tokens' probabilities */
} speech_command;

/* Sets the places of the empty text: states of the automaton after a text, a bit each. */
void speech_grammar_begin(uint8_t places[SPEECH_STATE_BYTES]);

/* Marks by a 1 the tokens that may follow, SPEECH_TOKEN_END among them. */
void speech_grammar_allow(const uint8_t places[SPEECH_STATE_BYTES],
                          uint8_t allowed[SPEECH_VOCABULARY]);

/* Sets the places after an allowed token. */
void speech_grammar_follow(uint8_t places[SPEECH_STATE_BYTES], int32_t token);

/* Finds the commands of a text of the grammar.
 *
 * scores: `steps` log probabilities: of the text up to each token, and to its end if it ended.
 * readable: working memory; the states from which the rest of the text can be read, by token.
 * token_slots: out; the slot of each token, or SPEECH_NO_SLOT.
 * Returns the number of commands; 0 if the text is no command, or has too little confidence.
 */
int32_t speech_grammar_commands(const int32_t *tokens, int32_t count, const int32_t *scores,
                                int32_t steps,
                                uint8_t readable[SPEECH_TOKENS + 1][SPEECH_STATE_BYTES],
                                int16_t *token_slots, speech_command commands[SPEECH_COMMANDS]);

#ifdef __cplusplus
}
#endif

#endif
