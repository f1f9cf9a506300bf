/* Phrases as the smallest deterministic automaton of their sentences, over words and their slots.
 * The same as compiler.build and ambiguity.py of the Python side: a network of places with free arcs
 * comes first, then a state for each set of places, then states with the same continuations are one.
 */
#ifndef SPEECH_WORDS_H
#define SPEECH_WORDS_H

#include "speech_phrases.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int32_t final; /* intent of a sentence that ends here, or -1 */
  uint32_t first, end; /* arcs */
} speech_word_state;

/* An arc: a name, 1 more than the label of its slot or 0, and the state that it leads to. */
typedef uint64_t speech_word_arc;

static inline speech_word_arc speech_arc(uint64_t word, uint64_t slot, uint64_t target) {
  return word << 39 | slot << 24 | target;
}

static inline int32_t speech_arc_word(speech_word_arc arc) { return (int32_t)(arc >> 39); }
static inline int32_t speech_arc_slot(speech_word_arc arc) { return (int32_t)(arc >> 24 & 0x7fff); }
static inline int32_t speech_arc_target(speech_word_arc arc) { return (int32_t)(arc & 0xffffff); }

typedef struct {
  speech_word_state *states;
  speech_word_arc *arcs; /* those of a state ascend */
  int32_t count;   /* of states, before equal ones are one */
  int32_t *merged; /* the one state for all that are equal */
  int32_t *order;  /* of the states that are left, each after those that follow it */
  int32_t order_count;
  int32_t label_count;
} speech_words;

/* Makes the automaton at the lower end of the room; refuses a sentence with two intents. Returns
 * whether it could. */
int speech_words_build(speech_phrases *p, speech_words *w);

/* The second half of it: makes equal states one. */
int speech_words_merge(speech_phrases *p, speech_words *w);

/* Refuses a sentence whose words have two intents. Returns whether there is none. */
int speech_words_check(speech_phrases *p, const speech_words *w);

/* Writes the error of a sentence with two intents; returns 0. `words`: the last one first. */
int speech_words_ambiguous(speech_phrases *p, const uint64_t *words, uint32_t count, int32_t one,
                           int32_t other);

#ifdef __cplusplus
}
#endif

#endif
