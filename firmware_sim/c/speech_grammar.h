/* The grammar of a bundle: which token may follow, and what a text means. It is a finite automaton
 * over tokens; a final state may go on at the start: several commands in one text. Integers only:
 * log probabilities are in 1/65536 nats. speech_phones.h has grammars over phones.
 *
 * A text leads to a set of states: their number, then the states. A set has room for as many as
 * the block says that a text leads to.
 */
#ifndef SPEECH_GRAMMAR_H
#define SPEECH_GRAMMAR_H

#include "speech_core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_CERTAIN 65536 /* a probability of 1 */
#define SPEECH_NO_SLOT (-1)
#define SPEECH_TEXTS 16 /* that are kept: slots are as certain as the other texts agree */

typedef struct {
  int32_t intent;      /* of the block's intents */
  int32_t first, last; /* its first token, and the one after its last */
  int32_t confidence;  /* 0 to SPEECH_CERTAIN: the geometric mean of its tokens' probabilities */
} speech_command;

/* The value of a slot in a command. */
typedef struct {
  const char *name;   /* in the block */
  const char *value;  /* UTF-8 */
  int32_t slot;       /* of the block's slots */
  int32_t confidence; /* 0 to SPEECH_CERTAIN */
} speech_slot;

/* Working memory of one search. */
typedef struct {
  int32_t *following; /* a set */
  int32_t *sets;      /* one after each token of a text, and one before it */
  uint8_t *readable;  /* of each state of these sets: whether the rest of the text can follow */
} speech_grammar;

/* Takes working memory. */
void speech_grammar_lay(speech_grammar *grammar, const speech_core *core, speech_memory *memory);

/* Sets the states of the empty text. */
void speech_grammar_begin(const speech_core *core, int32_t *set);

/* Marks by a 1 the tokens that may follow, the end among them. */
void speech_grammar_allow(const speech_core *core, const int32_t *set, uint8_t *allowed);

/* Sets the states after a token; none if it is not allowed. */
void speech_grammar_follow(const speech_grammar *grammar, const speech_core *core, int32_t *set,
                           uint16_t token);

/* Finds the commands of a text.
 *
 * commands: out, with room for as many as the block says; without confidence.
 * slots: out; the slot of each token, or SPEECH_NO_SLOT.
 * Returns the number of commands; 0 if the grammar does not allow the text.
 */
int32_t speech_grammar_parse(const speech_grammar *grammar, const speech_core *core,
                             const uint16_t *tokens, int32_t count, speech_command *commands,
                             int16_t *slots);

/* Sets the commands' confidence.
 *
 * scores: log probabilities of the text up to each token, and to its end if it ended: `steps`.
 * Returns the log probability of all commands together.
 */
int32_t speech_grammar_score(const speech_core *core, speech_command *commands, int32_t count,
                             const int32_t *scores, int32_t steps);

/* e^(x / 65536) in 1/65536, for x <= 0. */
int32_t speech_exponential(const speech_core *core, int32_t x);

#ifdef __cplusplus
}
#endif

#endif
