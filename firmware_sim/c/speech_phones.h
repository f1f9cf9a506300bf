/* The first pass: the sentences of a grammar over phones, by CTC. No decoder runs.
 *
 * Paths go through the automaton frame by frame: each is the best alignment of a sentence's
 * beginning with the speech so far. Those of the same words meet at an arc, however the words were
 * pronounced, and the better one goes on. Scores are sums of logits, so they are exact.
 */
#ifndef SPEECH_PHONES_H
#define SPEECH_PHONES_H

#include "speech_grammar.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_WAYS 4 /* beginnings that a place of the automaton keeps */

/* The beginning of a sentence. */
typedef struct {
  int32_t place;  /* an arc; after a blank the number of arcs plus the state */
  int32_t score;  /* sum of logits */
  uint32_t key;   /* of its words and slots: tells sentences apart */
  int32_t record; /* of its last arc; twice that while paths are chosen, plus 1 for one to come */
} speech_path;

/* An arc of a path, and the record of the arcs before it; record 0 is the start. */
typedef struct {
  int32_t parent, arc;
} speech_record;

/* A complete sentence. */
typedef struct {
  int32_t record, score;
  uint32_t key;
} speech_sentence;

typedef struct {
  const speech_core *core;
  speech_record *records;
  int32_t *moved; /* where records go when those without a path are dropped */
  int32_t record_count;
  speech_path *paths; /* those at arcs first, by their place; the likeliest of a place first */
  speech_path *others;
  int32_t count;
  int32_t labels;   /* of the paths, those at arcs */
  uint32_t *levels; /* how many paths have each score, down from the best there may be */
  uint64_t content_place; /* in the memory, of paths, others and levels: unused after the search */
  /* Out: the likeliest sentences, the best first. */
  speech_sentence sentences[SPEECH_TEXTS];
  int32_t sentence_count;
} speech_phones;

/* Takes memory; `core` has a grammar over phones, and must outlive the search. */
void speech_phones_lay(speech_phones *phones, const speech_core *core, speech_memory *memory);

/* Finds the sentences in the logits of phones: int8 [frames, phones and blank]. */
void speech_phones_find(speech_phones *phones, const int8_t *logits, int32_t frames);

/* Sets the arcs of a sentence, at most one for a frame. Returns their number. */
int32_t speech_phones_arcs(const speech_phones *phones, int32_t sentence, int32_t *arcs);

#ifdef __cplusplus
}
#endif

#endif
