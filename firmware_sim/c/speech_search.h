/* The search: a beam of hypotheses, scored by attention and CTC together, as in the reference
 * decoder. With one hypothesis, only attention chooses. Integers only: log probabilities are in
 * 1/65536 nats.
 */
#ifndef SPEECH_SEARCH_H
#define SPEECH_SEARCH_H

#include "speech_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An unfinished text. */
typedef struct {
  int8_t caches[SPEECH_CACHE_BYTES];
  int8_t logits[SPEECH_VOCABULARY]; /* of its last step */
  int32_t tokens[SPEECH_TOKENS];    /* without the start */
  int32_t scores[SPEECH_TOKENS];    /* after each token */
  int32_t attention;                /* log probability of the tokens */
#if SPEECH_CTC
  /* CTC's log probability that these tokens, and no others, were spoken up to each frame: for
   * alignments that end in the last token, and in a blank. */
  int32_t label[SPEECH_MEMORY_FRAMES];
  int32_t blank[SPEECH_MEMORY_FRAMES];
#endif
#if SPEECH_STATES > 0
  uint8_t places[SPEECH_STATE_BYTES]; /* states of the grammar after the tokens, a bit each */
#endif
} speech_hypothesis;

/* A token that may follow a hypothesis. */
typedef struct {
  int32_t parent; /* of the hypotheses */
  int32_t token;
  int32_t attention, score; /* of the extended text */
} speech_candidate;

typedef struct {
  int32_t beam;                /* hypotheses to keep */
  int32_t active;              /* hypotheses now */
  int32_t places[SPEECH_BEAM]; /* their positions, the likeliest first */
  speech_hypothesis hypotheses[SPEECH_BEAM];
  /* The best text. */
  int32_t tokens[SPEECH_TOKENS];
  int32_t scores[SPEECH_TOKENS + 1]; /* after each token, and after the end */
  int32_t token_count;
  int ended;
  /* Candidates of a step, the likeliest first; the last place is for the one that is dropped. */
  speech_candidate candidates[2 * SPEECH_BEAM + 1];
  int32_t candidate_count;
  uint8_t allowed[SPEECH_VOCABULARY];
#if SPEECH_CTC
  int joint; /* whether scores include CTC */
  int32_t memory_frames;
  const int8_t *ctc_logits;
  int32_t normalizers[SPEECH_MEMORY_FRAMES]; /* logits minus these are log probabilities */
#endif
} speech_search;

/* An empty text. beam: 1 to SPEECH_BEAM. */
void speech_search_start(speech_search *search, int32_t beam);

#if SPEECH_CTC
/* Takes the encoder's CTC logits before the first step; they must not change until the search has
 * ended. */
void speech_search_hear(speech_search *search, const int8_t *ctc_logits, int32_t memory_frames);
#endif

/* Makes the hypotheses of the next step, after step number `step` has written the logits and caches
 * of every active one. None is active when the search has ended. */
void speech_search_step(speech_search *search, int32_t step);

/* Takes the best of the active hypotheses, of `count` tokens, if no text has ended. */
void speech_search_cut(speech_search *search, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
