/* How the words of a grammar are said: from the lexicon, or by their letters, with the ways in which
 * people differ. The same as grammar/pronunciation.py and variants.py of the Python side, for words
 * of letters a to z and apostrophes.
 */
#ifndef SPEECH_PRONUNCIATION_H
#define SPEECH_PRONUNCIATION_H

#include "speech_lexicon.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Working memory. */
typedef struct {
  const speech_lexicon *lexicon;
  speech_guess guess;
  speech_ways ways;    /* out: of the word */
  speech_ways guesses; /* or other ways that are not all taken */
  speech_pronunciation said, changed;
} speech_pronouncer;

/* Finds the ways to say a word of at most SPEECH_MOST_LETTERS, one of which is no apostrophe.
 * Returns whether it could; if not, the lexicon is damaged. */
int speech_pronounce(speech_pronouncer *pronouncer, const char *word, int32_t length);

/* Adds the variants of a word whose usual pronunciation is `usual`, the more common first. */
void speech_variants(speech_pronouncer *pronouncer, const char *word, int32_t length,
                     const speech_pronunciation *usual);

/* Reads names of phones, with spaces between them and in capitals; digits of stress may follow
 * each. Returns whether they are phones, and not too many. */
int speech_read_phones(speech_pronunciation *read, const char *names, int32_t length);

/* Number of the phone with a name; -1: there is none. */
int32_t speech_phone(const char *name, int32_t length);

#ifdef __cplusplus
}
#endif

#endif
