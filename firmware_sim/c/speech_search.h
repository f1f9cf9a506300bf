/* The search: a beam of hypotheses, scored by attention and CTC together, as in the reference
 * decoder. With one hypothesis, only attention chooses. Integers only: log probabilities are in
 * 1/65536 nats.
 */
#ifndef SPEECH_SEARCH_H
#define SPEECH_SEARCH_H

#include "speech_grammar.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An unfinished text. All that its pointers lead to is in one piece of memory. */
typedef struct {
  int8_t *caches;   /* token_limit rows of each cache, one cache after the other */
  int8_t *logits;   /* of its last step */
  int32_t *scores;  /* after each token */
  uint16_t *tokens; /* without the start */
  /* CTC's log probability that these tokens, and no others, were spoken up to each frame: for
   * alignments that end in the last token, and in a blank. */
  int32_t *label, *blank;
  int32_t *states;   /* set of the grammar after the tokens */
  int32_t attention; /* log probability of the tokens */
} speech_hypothesis;

/* A token that may follow a hypothesis. */
typedef struct {
  int32_t parent; /* of the hypotheses */
  uint16_t token;
  int32_t attention, score; /* of the extended text */
} speech_candidate;

/* A text that has ended. */
typedef struct {
  uint16_t *tokens;
  int32_t count;
  int32_t score;
} speech_text;

/* What the search needs in a step, for each hypothesis of the beam. */
typedef struct {
  const speech_candidate *candidate;
  int32_t home; /* hypothesis that it is made in; -1: none yet */
  int32_t place;
  uint8_t taken;
} speech_extension;

typedef struct {
  const speech_core *core;
  speech_grammar grammar;
  int32_t most;   /* hypotheses that there is memory for */
  int32_t beam;   /* hypotheses to keep */
  int32_t active; /* hypotheses now: those in extensions[].place, the likeliest first */
  speech_hypothesis *hypotheses;
  speech_extension *extensions;
  uint8_t *content; /* of the hypotheses */
  uint64_t content_place; /* in the memory */
  size_t content_bytes;
  /* The best text. */
  uint16_t *tokens;
  int32_t *scores; /* after each token, and after the end */
  int32_t token_count;
  int ended;
  /* Texts that have ended, the likeliest first; of a bundle with a grammar. */
  speech_text *texts;
  int32_t text_count;
  /* Candidates of a step, the likeliest first; the last place is for the one that is dropped. */
  speech_candidate *candidates;
  int32_t candidate_count;
  uint8_t *allowed;
  int joint; /* whether scores include CTC */
  int32_t memory_frames;
  const int8_t *ctc_logits;
  int32_t *normalizers; /* logits minus these are log probabilities */
} speech_search;

/* Takes memory for `most` hypotheses; `core` must outlive the search. */
void speech_search_lay(speech_search *search, const speech_core *core, int32_t most,
                       speech_memory *memory);

/* An empty text. beam: 1 to `most`.
 *
 * ctc_logits: of the encoder, or NULL; they must not change until the search has ended.
 */
void speech_search_start(speech_search *search, int32_t beam, const int8_t *ctc_logits,
                         int32_t memory_frames);

/* Hypothesis number i of the active ones. */
speech_hypothesis *speech_search_active(speech_search *search, int32_t i);

/* Makes the hypotheses of the next step, after step number `step` has written the logits and caches
 * of every active one. None is active when the search has ended. */
void speech_search_step(speech_search *search, int32_t step);

/* Takes the best of the active hypotheses, of `count` tokens, if no text has ended. */
void speech_search_cut(speech_search *search, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
