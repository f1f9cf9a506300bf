/* An automaton over words as one over phones, as compiler.pronounced of the Python side makes it: the
 * last phone of a word says which it is, and equal states are one.
 */
#ifndef SPEECH_SPELLING_H
#define SPEECH_SPELLING_H

#include "speech_pronunciation.h"
#include "speech_words.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_MOST_INDEX (1 << 24) /* of states and arcs */

/* An arc over phones, as one number: those of a state ascend as the block has them. */
#define SPEECH_PHONE_ARC(phone, slot, word) \
  ((uint64_t)(phone) << 57 | (uint64_t)(slot) << 42 | (uint64_t)(word) << 24)
#define SPEECH_ARC_PHONE(arc) ((uint32_t)((arc) >> 57))
#define SPEECH_ARC_SLOT(arc) ((int32_t)((arc) >> 42 & 0x7fff))  /* 1 more than its number, or 0 */
#define SPEECH_ARC_WORD(arc) ((uint32_t)((arc) >> 24 & 0x3ffff)) /* likewise, of the word that ends */
#define SPEECH_ARC_TARGET(arc) ((int32_t)((arc)&0xffffff))

typedef struct {
  int32_t final;
  uint32_t first, end; /* arcs */
  int32_t shortest;    /* phones to the end of a sentence */
  int32_t next;        /* with the same hash */
  int32_t number;      /* in the block */
} speech_phone_state;

/* A way to say a word. */
typedef struct {
  uint64_t place; /* of the phones, from the room's base */
  int32_t count;
  int32_t word;
} speech_way;

typedef struct {
  speech_phrases *phrases;
  speech_words words;
  speech_lexicon lexicon;
  speech_pronouncer pronouncer;
  int32_t *names; /* of the words that occur, by their number */
  int32_t word_count;
  speech_way *ways;
  uint64_t *ranked; /* ways in the order of their phones */
  uint32_t *first_rank, *ranks; /* of each word's ways */
  uint32_t way_count;
  speech_phone_state *states;
  int32_t state_count;
  uint64_t *arcs; /* downwards */
  uint32_t arc_count;
  int32_t *heads;
  uint32_t mask;
  /* Of a state over words: its ways, then arcs of the nodes that are open, by depth. */
  uint64_t *entries, *pending;
  uint32_t pending_count;
  uint32_t begins[SPEECH_MOST_PHONES + 1];
  int32_t *order; /* of the states in the block */
} speech_spelling;

/* The arcs of a state. */
static inline uint64_t *speech_arcs_of(const speech_spelling *c, const speech_phone_state *state) {
  return c->arcs - (ptrdiff_t)state->end + 1;
}

/* Adds a way to say a word. Returns whether there is room. */
int speech_add_way(speech_spelling *c, int32_t word, const uint8_t *phones, int32_t count);

/* Makes the automaton over phones. Returns its first state; -1: it could not. */
int32_t speech_spell(speech_spelling *c);

#ifdef __cplusplus
}
#endif

#endif
