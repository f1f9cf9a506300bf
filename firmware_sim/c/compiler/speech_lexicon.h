/* A bundle's lexicon, read in place: how frequent words are said, and n-grams that say the letters
 * of other words. grammar/lexicon.py of the Python side describes the file.
 */
#ifndef SPEECH_LEXICON_H
#define SPEECH_LEXICON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_PHONES 39
#define SPEECH_NO_PHONE 255    /* of a label with fewer than two */
#define SPEECH_MOST_LETTERS 30 /* of a word in a grammar */
#define SPEECH_MOST_PHONES 255 /* of a pronunciation */
#define SPEECH_MOST_WAYS 6     /* to say a word */
#define SPEECH_MOST_LEVELS 8   /* of n-grams */
#define SPEECH_BEAM 16         /* hypotheses for the letters of a word */

/* How a word is said. */
typedef struct {
  int32_t count;
  uint8_t phones[SPEECH_MOST_PHONES];
} speech_pronunciation;

/* Different ways to say a word, the best first. */
typedef struct {
  int32_t count;
  speech_pronunciation ways[SPEECH_MOST_WAYS];
} speech_ways;

/* N-grams of one length. */
typedef struct {
  uint32_t count, parents;
  const uint8_t *before, *first; /* sums for every 32nd n-gram, and for every 32nd parent */
  const uint8_t *cost_of, *backoff_of;
  const uint8_t *branching, *last; /* bits */
  const uint8_t *labels, *costs, *backoffs;
} speech_level;

typedef struct {
  const uint8_t *data;
  uint32_t bytes, words, labels, level_count;
  const uint8_t *first_label; /* of each letter, and the number of labels */
  const uint8_t *phones;      /* two of each label */
  const uint8_t *label_bits, *letter_bits;
  const uint8_t *blocks; /* places of the blocks of words */
  speech_level levels[SPEECH_MOST_LEVELS];
} speech_lexicon;

/* A beginning of a word with its labels; the last ones matter to what follows. */
typedef struct {
  int32_t cost;
  uint8_t rank, label; /* of the hypothesis before it, and its last label */
  uint8_t count, labels[SPEECH_MOST_LEVELS];
} speech_labelling;

/* Working memory of speech_lexicon_guess. */
typedef struct {
  speech_labelling now[SPEECH_BEAM], next[SPEECH_BEAM];
  int32_t count;
  uint8_t ranks[SPEECH_MOST_LETTERS][SPEECH_BEAM], labels[SPEECH_MOST_LETTERS][SPEECH_BEAM];
  speech_pronunciation spoken;
} speech_guess;

/* Finds everything in a file. Returns whether it is a whole and sound one. */
int speech_lexicon_open(speech_lexicon *lexicon, const void *data, size_t bytes);

/* Adds the ways to say a word of the lexicon. Returns 1, 0 for a word that it lacks, or -1: it is
 * damaged. */
int speech_lexicon_find(const speech_lexicon *lexicon, const char *word, int32_t length,
                        speech_ways *ways);

/* Adds up to `most` ways to say letters a to z and apostrophes, at most SPEECH_MOST_LETTERS, that
 * cost at most `margin` more than the best: steps of 1/16 nat. Returns whether it could. */
int speech_lexicon_guess(const speech_lexicon *lexicon, speech_guess *guess, const char *word,
                         int32_t length, int32_t most, int32_t margin, speech_ways *ways);

/* Adds a way, unless it is there, has no phone, or there is no room for it. */
void speech_ways_add(speech_ways *ways, const speech_pronunciation *way);

static inline uint32_t speech_lexicon_number(const uint8_t *place) {
  return (uint32_t)place[0] | (uint32_t)place[1] << 8 | (uint32_t)place[2] << 16 |
         (uint32_t)place[3] << 24;
}

/* Number of a letter a to z, or of an apostrophe. */
uint32_t speech_letter(char letter);

#ifdef __cplusplus
}
#endif

#endif
