/* See speech_search.h. */
#include "speech_search.h"

#include <string.h>

#if SPEECH_STATES > 0
#include "speech_grammar.h"
#endif

#define IMPOSSIBLE (INT32_MIN / 2)
#define UNLIKELY (-10000 * 65536) /* a text too fast for CTC's frames: only attention decides */
#define MARGIN (4 * 65536)        /* e^-4 times as likely as the best: dropped */

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

/* log(e^a + e^b): the larger one, plus the other's part from a table. */
static int32_t log_add(int32_t a, int32_t b) {
  int32_t high = larger(a, b);
  int32_t apart = high - (a > b ? b : a);
  int32_t place = apart >> SPEECH_LOG_ADD_BITS;
  int32_t rest = apart & ((1 << SPEECH_LOG_ADD_BITS) - 1);
  int32_t added;
  if (place >= SPEECH_LOG_ADDS - 1) return high;
  added = speech_log_add[place];
  added -= (added - speech_log_add[place + 1]) * rest >> SPEECH_LOG_ADD_BITS;
  return high + added;
}

/* A logit in 1/65536 nats; nats: of one unit, in 2^-24. */
static int32_t level(int32_t logit, int32_t nats) {
  return (int32_t)((int64_t)logit * nats >> 8);
}

/* The logarithm of the sum of the powers of the logits. */
static int32_t normalizer(const int8_t *logits, int32_t nats) {
  int32_t sum = IMPOSSIBLE;
  int32_t token;
  for (token = 0; token < SPEECH_VOCABULARY; ++token) {
    sum = log_add(sum, level(logits[token], nats));
  }
  return sum;
}

#if SPEECH_CTC
/* The sum of two log probabilities; an impossible one stays impossible. */
static int32_t times(int32_t a, int32_t b) {
  int64_t product = (int64_t)a + b;
  return product < IMPOSSIBLE ? IMPOSSIBLE : (int32_t)product;
}

static int32_t emission(const speech_search *search, int32_t frame, int32_t token) {
  int32_t logit = search->ctc_logits[(size_t)frame * SPEECH_VOCABULARY + (size_t)token];
  return level(logit, SPEECH_CTC_LOGIT_NATS) - search->normalizers[frame];
}

/* CTC's log probability that a hypothesis, and no further token, was spoken up to a frame; it ends
 * in a blank, if its last token follows again. */
static int32_t said(const speech_hypothesis *hypothesis, int32_t frame, int again) {
  if (again) return hypothesis->blank[frame];
  return log_add(hypothesis->blank[frame], hypothesis->label[frame]);
}

static int is_last(const speech_hypothesis *hypothesis, int32_t count, int32_t token) {
  return count > 0 && hypothesis->tokens[count - 1] == token;
}

/* The log probability of all texts that begin with a hypothesis of `count` tokens and one more; if
 * that is the end, of this one text. */
static int32_t prefix_score(const speech_search *search, const speech_hypothesis *hypothesis,
                            int32_t count, int32_t token) {
  int again = is_last(hypothesis, count, token);
  int32_t score = IMPOSSIBLE;
  int32_t before = count > 0 ? IMPOSSIBLE : 0; /* up to the frame before */
  int32_t frame;
  if (token == SPEECH_TOKEN_END) {
    return larger(said(hypothesis, search->memory_frames - 1, 0), UNLIKELY);
  }
  for (frame = 0; frame < search->memory_frames; ++frame) {
    score = log_add(score, times(before, emission(search, frame, token)));
    before = said(hypothesis, frame, again);
  }
  return larger(score, UNLIKELY);
}

/* Extends CTC's log probabilities of a hypothesis of `count` tokens by one. */
static void grow(const speech_search *search, speech_hypothesis *hypothesis, int32_t count,
                 int32_t token) {
  int again = is_last(hypothesis, count, token);
  int32_t label = IMPOSSIBLE, blank = IMPOSSIBLE;
  int32_t before = count > 0 ? IMPOSSIBLE : 0;
  int32_t frame;
  for (frame = 0; frame < search->memory_frames; ++frame) {
    int32_t following = said(hypothesis, frame, again);
    int32_t earlier = label;
    label = times(log_add(label, before), emission(search, frame, token));
    blank = times(log_add(blank, earlier), emission(search, frame, SPEECH_TOKEN_BLANK));
    hypothesis->label[frame] = label;
    hypothesis->blank[frame] = blank;
    before = following;
  }
}
#endif

void speech_search_start(speech_search *search, int32_t beam) {
#if SPEECH_STATES > 0
  speech_grammar_begin(search->hypotheses[0].places);
#endif
  search->hypotheses[0].attention = 0;
  search->beam = beam;
  search->active = 1;
  search->places[0] = 0;
  search->token_count = 0;
  search->ended = 0;
}

#if SPEECH_CTC
void speech_search_hear(speech_search *search, const int8_t *ctc_logits, int32_t memory_frames) {
  speech_hypothesis *hypothesis = &search->hypotheses[0];
  int32_t frame;
  int32_t blanks = 0;
  search->joint = search->beam > 1 || SPEECH_STATES > 0; /* a grammar's confidence is joint */
  search->memory_frames = memory_frames;
  search->ctc_logits = ctc_logits;
  for (frame = 0; search->joint && frame < memory_frames; ++frame) {
    search->normalizers[frame] = normalizer(
        ctc_logits + (size_t)frame * SPEECH_VOCABULARY, SPEECH_CTC_LOGIT_NATS);
    blanks = times(blanks, emission(search, frame, SPEECH_TOKEN_BLANK));
    hypothesis->label[frame] = IMPOSSIBLE;
    hypothesis->blank[frame] = blanks;
  }
}
#endif

/* The score of a hypothesis of `count` tokens, extended by one. */
static int32_t joint_score(const speech_search *search, const speech_hypothesis *hypothesis,
                           int32_t count, int32_t token, int32_t attention) {
#if SPEECH_CTC
  if (search->joint) {
    int64_t ctc = prefix_score(search, hypothesis, count, token);
    int64_t sum = (int64_t)attention * (65536 - SPEECH_CTC_WEIGHT) + ctc * SPEECH_CTC_WEIGHT;
    return (int32_t)(sum >> 16);
  }
#else
  (void)search;
  (void)hypothesis;
  (void)count;
  (void)token;
#endif
  return attention;
}

/* The most likely of the allowed tokens, of equals the lowest; -1: none. */
static int32_t likeliest(const int8_t *logits, const uint8_t *allowed) {
  int32_t best = -1;
  int32_t token;
  for (token = 0; token < SPEECH_VOCABULARY; ++token) {
    if (allowed[token] && (best < 0 || logits[token] > logits[best])) best = token;
  }
  return best;
}

/* Inserts a candidate by its score, behind equal ones, and drops the worst. */
static void insert(speech_search *search, const speech_candidate *candidate) {
  int32_t place = search->candidate_count;
  while (place > 0 && search->candidates[place - 1].score < candidate->score) {
    search->candidates[place] = search->candidates[place - 1];
    --place;
  }
  search->candidates[place] = *candidate;
  if (search->candidate_count < 2 * search->beam) ++search->candidate_count;
}

/* The likeliest tokens that may follow a hypothesis of `count` tokens. */
static void consider(speech_search *search, int32_t place, int32_t count) {
  const speech_hypothesis *hypothesis = &search->hypotheses[place];
  const int8_t *logits = hypothesis->logits;
  int32_t sum = normalizer(logits, SPEECH_LOGIT_NATS);
  int32_t most = search->beam == 1 ? 1 : 2 * search->beam;
  int32_t first, token;
#if SPEECH_STATES > 0
  memset(search->allowed, 0, sizeof search->allowed);
  speech_grammar_allow(hypothesis->places, search->allowed);
#else
  memset(search->allowed, 1, sizeof search->allowed);
  search->allowed[SPEECH_TOKEN_START] = search->allowed[SPEECH_TOKEN_BLANK] = 0;
#endif
  first = likeliest(logits, search->allowed);
  for (token = first; token >= 0 && most > 0; token = likeliest(logits, search->allowed), --most) {
    speech_candidate candidate;
    if (level(logits[first] - logits[token], SPEECH_LOGIT_NATS) >= MARGIN) break;
    search->allowed[token] = 0;
    candidate.parent = place;
    candidate.token = token;
    candidate.attention = hypothesis->attention + level(logits[token], SPEECH_LOGIT_NATS) - sum;
    candidate.score = joint_score(search, hypothesis, count, token, candidate.attention);
    insert(search, &candidate);
  }
}

/* Makes a hypothesis of `count` tokens the best text. */
static void keep(speech_search *search, const speech_hypothesis *hypothesis, int32_t count) {
  memcpy(search->tokens, hypothesis->tokens, (size_t)count * sizeof search->tokens[0]);
  memcpy(search->scores, hypothesis->scores, (size_t)count * sizeof search->scores[0]);
  search->token_count = count;
}

/* Extends a hypothesis of `count` tokens by one. */
static void extend(speech_search *search, speech_hypothesis *hypothesis, int32_t count,
                   const speech_candidate *candidate) {
#if SPEECH_CTC
  if (search->joint) grow(search, hypothesis, count, candidate->token);
#else
  (void)search;
#endif
#if SPEECH_STATES > 0
  speech_grammar_follow(hypothesis->places, candidate->token);
#endif
  hypothesis->tokens[count] = candidate->token;
  hypothesis->scores[count] = candidate->score;
  hypothesis->attention = candidate->attention;
}

void speech_search_step(speech_search *search, int32_t step) {
  const speech_candidate *chosen[SPEECH_BEAM];
  int32_t homes[SPEECH_BEAM];
  uint8_t taken[SPEECH_BEAM] = {0};
  int32_t count = 0, unused = 0;
  int32_t i, best;

  search->candidate_count = 0;
  for (i = 0; i < search->active; ++i) consider(search, search->places[i], step);
  for (i = 0; i < search->candidate_count && count < search->beam; ++i) {
    const speech_candidate *candidate = &search->candidates[i];
    if (candidate->score < search->candidates[0].score - MARGIN) break;
    if (candidate->token != SPEECH_TOKEN_END) {
      chosen[count++] = candidate;
    } else if (!search->ended || candidate->score > search->scores[search->token_count]) {
      keep(search, &search->hypotheses[candidate->parent], step);
      search->scores[step] = candidate->score;
      search->ended = 1;
    }
  }
  /* A score only falls: a hypothesis no better than an ended text stays so. */
  best = search->ended ? search->scores[search->token_count] : INT32_MIN;
  while (count > 0 && chosen[count - 1]->score <= best) --count;

  /* The first extension of a hypothesis takes its place; others get copies. */
  for (i = 0; i < count; ++i) {
    homes[i] = taken[chosen[i]->parent] ? -1 : chosen[i]->parent;
    taken[chosen[i]->parent] = 1;
  }
  for (i = 0; i < count; ++i) {
    if (homes[i] >= 0) continue;
    while (taken[unused]) ++unused;
    taken[unused] = 1;
    homes[i] = unused;
    search->hypotheses[unused] = search->hypotheses[chosen[i]->parent];
  }
  for (i = 0; i < count; ++i) {
    extend(search, &search->hypotheses[homes[i]], step, chosen[i]);
    search->places[i] = homes[i];
  }
  search->active = count;
}

void speech_search_cut(speech_search *search, int32_t count) {
  if (!search->ended) keep(search, &search->hypotheses[search->places[0]], count);
}
