/* The search: which texts are kept while the decoder steps. Attention and CTC together score a beam of
 * hypotheses, as in the reference decoder; a beam of one chooses by attention. Integers only: log
 * probabilities are in 1/65536 nats.
 */
#ifndef SPEECH_SEARCH_H
#define SPEECH_SEARCH_H

#include "speech_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A text that is not whole yet. */
typedef struct {
  int8_t caches[SPEECH_CACHE_BYTES];
  int8_t logits[SPEECH_VOCABULARY]; /* of its last step */
  int32_t tokens[SPEECH_TOKENS];    /* without the start */
  int32_t scores[SPEECH_TOKENS];    /* after each token */
  int32_t attention;                /* log probability of the tokens */
#if SPEECH_CTC
  /* CTC's view: that these tokens, and nothing more, were said up to each frame; alignments that end
   * in the last token, and in a blank. */
  int32_t label[SPEECH_MEMORY_FRAMES];
  int32_t blank[SPEECH_MEMORY_FRAMES];
#endif
#if SPEECH_STATES > 0
  uint8_t places[SPEECH_STATE_BYTES]; /* states of the grammar that the tokens lead to, a bit each */
#endif
} speech_hypothesis;

/* A token that may follow a hypothesis. */
typedef struct {
  int32_t parent; /* of the hypotheses */
  int32_t token;
  int32_t attention, score; /* of the text with it */
} speech_candidate;

typedef struct {
  int32_t beam;                /* hypotheses that are kept */
  int32_t active;              /* hypotheses that there are */
  int32_t places[SPEECH_BEAM]; /* where they are, the likeliest first */
  speech_hypothesis hypotheses[SPEECH_BEAM];
  /* The best text. */
  int32_t tokens[SPEECH_TOKENS];
  int32_t scores[SPEECH_TOKENS + 1]; /* after each token, and after the end */
  int32_t token_count;
  int ended;
  /* Candidates of a step, the likeliest first; the last place is for one that falls out. */
  speech_candidate candidates[2 * SPEECH_BEAM + 1];
  int32_t candidate_count;
  uint8_t allowed[SPEECH_VOCABULARY];
#if SPEECH_CTC
  int joint; /* whether CTC has a say in the scores */
  int32_t memory_frames;
  const int8_t *ctc_logits;
  int32_t normalizers[SPEECH_MEMORY_FRAMES]; /* what makes logits of a frame log probabilities */
#endif
} speech_search;

/* An empty text. beam: 1 to SPEECH_BEAM. */
void speech_search_start(speech_search *search, int32_t beam);

#if SPEECH_CTC
/* What CTC heard, before the first step: an output of the encoder; it must stay until the text is
 * whole. */
void speech_search_hear(speech_search *search, const int8_t *ctc_logits, int32_t memory_frames);
#endif

/* After the step-th step of every active hypothesis, whose logits and caches are there: the
 * hypotheses of the next step. None are active when the best text is found. */
void speech_search_step(speech_search *search, int32_t step);

/* Takes the best of the active hypotheses, of `count` tokens, if no text has ended. */
void speech_search_cut(speech_search *search, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
