/* See speech_search.h. */
#include "speech_search.h"

#include <string.h>

#define IMPOSSIBLE (INT32_MIN / 2)
#define UNLIKELY (-10000 * 65536) /* a text too fast for CTC's frames: only attention decides */
#define MARGIN (4 * 65536)        /* e^-4 times as likely as the best: dropped */

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

/* log(e^a + e^b): the larger one, plus the other's part from a table. */
static int32_t log_add(const speech_core *core, int32_t a, int32_t b) {
  int32_t bits = core->tables->log_add_bits;
  int32_t high = larger(a, b);
  int32_t apart = high - (a > b ? b : a);
  int32_t place = apart >> bits;
  int32_t added;
  if (place >= core->tables->log_adds - 1) return high;
  added = core->log_add[place];
  added -= (int32_t)((int64_t)(added - core->log_add[place + 1]) * (apart & ((1 << bits) - 1)) >>
                     bits);
  return high + added;
}

/* A logit in 1/65536 nats; nats: of one unit, in 2^-24. */
static int32_t level(int32_t logit, int32_t nats) {
  return (int32_t)((int64_t)logit * nats >> 8);
}

/* The logarithm of the sum of the powers of the logits. */
static int32_t normalizer(const speech_core *core, const int8_t *logits, int32_t nats) {
  int32_t sum = IMPOSSIBLE;
  int32_t token;
  for (token = 0; token < core->numbers->vocabulary; ++token) {
    sum = log_add(core, sum, level(logits[token], nats));
  }
  return sum;
}

/* The sum of two log probabilities; an impossible one stays impossible. */
static int32_t times(int32_t a, int32_t b) {
  int64_t product = (int64_t)a + b;
  return product < IMPOSSIBLE ? IMPOSSIBLE : (int32_t)product;
}

static int32_t emission(const speech_search *search, int32_t frame, int32_t token) {
  const speech_numbers *n = search->core->numbers;
  int32_t logit = search->ctc_logits[(size_t)frame * (size_t)n->vocabulary + (size_t)token];
  return level(logit, n->ctc_logit_nats) - search->normalizers[frame];
}

/* CTC's log probability that a hypothesis, and no further token, was spoken up to a frame; it ends
 * in a blank, if its last token follows again. */
static int32_t reached(const speech_search *search, const speech_hypothesis *hypothesis,
                       int32_t frame, int again) {
  if (again) return hypothesis->blank[frame];
  return log_add(search->core, hypothesis->blank[frame], hypothesis->label[frame]);
}

static int is_last(const speech_hypothesis *hypothesis, int32_t count, uint16_t token) {
  return count > 0 && hypothesis->tokens[count - 1] == token;
}

/* The log probability of all texts that begin with a hypothesis of `count` tokens and one more; if
 * that is the end, of this one text. */
static int32_t prefix_score(const speech_search *search, const speech_hypothesis *hypothesis,
                            int32_t count, uint16_t token) {
  int again = is_last(hypothesis, count, token);
  int32_t score = IMPOSSIBLE;
  int32_t before = count > 0 ? IMPOSSIBLE : 0; /* up to the frame before */
  int32_t frame;
  if (token == search->core->numbers->token_end) {
    return larger(reached(search, hypothesis, search->memory_frames - 1, 0), UNLIKELY);
  }
  for (frame = 0; frame < search->memory_frames; ++frame) {
    score = log_add(search->core, score, times(before, emission(search, frame, token)));
    before = reached(search, hypothesis, frame, again);
  }
  return larger(score, UNLIKELY);
}

/* Extends CTC's log probabilities of a hypothesis of `count` tokens by one. */
static void grow(const speech_search *search, speech_hypothesis *hypothesis, int32_t count,
                 uint16_t token) {
  int again = is_last(hypothesis, count, token);
  int32_t label = IMPOSSIBLE, blank = IMPOSSIBLE;
  int32_t before = count > 0 ? IMPOSSIBLE : 0;
  int32_t frame;
  for (frame = 0; frame < search->memory_frames; ++frame) {
    int32_t following = reached(search, hypothesis, frame, again);
    int32_t earlier = label;
    label = times(log_add(search->core, label, before), emission(search, frame, token));
    blank = times(log_add(search->core, blank, earlier),
                  emission(search, frame, search->core->numbers->token_blank));
    hypothesis->label[frame] = label;
    hypothesis->blank[frame] = blank;
    before = following;
  }
}

static size_t cache_bytes(const speech_core *core) {
  size_t bytes = 0;
  int32_t i;
  for (i = 0; i < core->tensors->caches; ++i) {
    bytes += (size_t)core->caches[i].row_bytes * (size_t)core->numbers->token_limit;
  }
  return bytes;
}

/* Takes the content of a hypothesis. */
static void lay_hypothesis(speech_hypothesis *hypothesis, const speech_core *core,
                           speech_memory *memory) {
  uint64_t tokens = (uint64_t)core->numbers->token_limit;
  uint64_t frames = core->numbers->ctc_logit_nats > 0 ? (uint64_t)core->numbers->memory_frames : 0;
  uint64_t states = core->automaton == NULL ? 0 : (uint64_t)core->automaton->concurrent + 1;
  hypothesis->caches = (int8_t *)speech_take(memory, cache_bytes(core), 1);
  hypothesis->logits = (int8_t *)speech_take(memory, (uint64_t)core->numbers->vocabulary, 1);
  hypothesis->scores = (int32_t *)speech_take(memory, tokens, sizeof(int32_t));
  hypothesis->tokens = (uint16_t *)speech_take(memory, tokens, sizeof(uint16_t));
  hypothesis->label = (int32_t *)speech_take(memory, frames, sizeof(int32_t));
  hypothesis->blank = (int32_t *)speech_take(memory, frames, sizeof(int32_t));
  hypothesis->states = (int32_t *)speech_take(memory, states, sizeof(int32_t));
}

void speech_search_lay(speech_search *search, const speech_core *core, int32_t most,
                       speech_memory *memory) {
  const speech_numbers *n = core->numbers;
  uint64_t tokens = (uint64_t)n->token_limit, beam = (uint64_t)most;
  speech_hypothesis ignored;
  int32_t i;
  search->core = core;
  search->most = most;
  search->hypotheses =
      (speech_hypothesis *)speech_take(memory, beam, sizeof *search->hypotheses);
  search->extensions = (speech_extension *)speech_take(memory, beam, sizeof *search->extensions);
  search->candidates =
      (speech_candidate *)speech_take(memory, 2 * beam + 1, sizeof *search->candidates);
  search->allowed = (uint8_t *)speech_take(memory, (uint64_t)n->vocabulary, 1);
  search->normalizers = (int32_t *)speech_take(memory, (uint64_t)n->memory_frames, 4);
  search->tokens = (uint16_t *)speech_take(memory, tokens, sizeof(uint16_t));
  search->scores = (int32_t *)speech_take(memory, tokens + 1, sizeof(int32_t));
  if (core->automaton != NULL) {
    speech_grammar_lay(&search->grammar, core, memory);
    search->texts = (speech_text *)speech_take(memory, SPEECH_TEXTS, sizeof *search->texts);
    for (i = 0; i < SPEECH_TEXTS; ++i) {
      uint16_t *text = (uint16_t *)speech_take(memory, tokens, sizeof(uint16_t));
      if (memory->base != NULL) search->texts[i].tokens = text;
    }
  }
  search->content_place = memory->used;
  search->content = (uint8_t *)speech_take(memory, 0, 1);
  for (i = 0; i < most; ++i) {
    lay_hypothesis(memory->base == NULL ? &ignored : &search->hypotheses[i], core, memory);
  }
  search->content_bytes = (size_t)((memory->used - search->content_place) / beam);
}

void speech_search_start(speech_search *search, int32_t beam, const int8_t *ctc_logits,
                         int32_t memory_frames) {
  const speech_core *core = search->core;
  speech_hypothesis *hypothesis = &search->hypotheses[0];
  int32_t blanks = 0, frame;
  if (core->automaton != NULL) speech_grammar_begin(core, hypothesis->states);
  hypothesis->attention = 0;
  search->beam = beam;
  search->active = 1;
  search->extensions[0].place = 0;
  search->token_count = 0;
  search->text_count = 0;
  search->ended = 0;
  /* The confidence of a grammar's commands is joint. */
  search->joint = ctc_logits != NULL && (beam > 1 || core->automaton != NULL);
  search->memory_frames = memory_frames;
  search->ctc_logits = ctc_logits;
  for (frame = 0; search->joint && frame < memory_frames; ++frame) {
    search->normalizers[frame] =
        normalizer(core, ctc_logits + (size_t)frame * (size_t)core->numbers->vocabulary,
                   core->numbers->ctc_logit_nats);
    blanks = times(blanks, emission(search, frame, core->numbers->token_blank));
    hypothesis->label[frame] = IMPOSSIBLE;
    hypothesis->blank[frame] = blanks;
  }
}

speech_hypothesis *speech_search_active(speech_search *search, int32_t i) {
  return &search->hypotheses[search->extensions[i].place];
}

/* The score of a hypothesis of `count` tokens, extended by one. */
static int32_t joint_score(const speech_search *search, const speech_hypothesis *hypothesis,
                           int32_t count, uint16_t token, int32_t attention) {
  int64_t weight = search->core->numbers->ctc_weight;
  int64_t ctc;
  if (!search->joint) return attention;
  ctc = prefix_score(search, hypothesis, count, token);
  return (int32_t)((attention * (65536 - weight) + ctc * weight) >> 16);
}

/* The most likely of the allowed tokens, of equals the lowest; -1: none. */
static int32_t likeliest(const speech_search *search, const int8_t *logits) {
  int32_t best = -1;
  int32_t token;
  for (token = 0; token < search->core->numbers->vocabulary; ++token) {
    if (search->allowed[token] && (best < 0 || logits[token] > logits[best])) best = token;
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

/* Marks the tokens that may follow a hypothesis. */
static void allow(speech_search *search, const speech_hypothesis *hypothesis) {
  const speech_numbers *n = search->core->numbers;
  memset(search->allowed, search->core->automaton == NULL, (size_t)n->vocabulary);
  if (search->core->automaton != NULL) {
    speech_grammar_allow(search->core, hypothesis->states, search->allowed);
  }
  search->allowed[n->token_start] = search->allowed[n->token_blank] = 0;
}

/* The likeliest tokens that may follow a hypothesis of `count` tokens. */
static void consider(speech_search *search, int32_t place, int32_t count) {
  const speech_hypothesis *hypothesis = &search->hypotheses[place];
  const int8_t *logits = hypothesis->logits;
  int32_t nats = search->core->numbers->logit_nats;
  int32_t sum = normalizer(search->core, logits, nats);
  int32_t left = search->beam == 1 ? 1 : 2 * search->beam;
  int32_t first, token;
  allow(search, hypothesis);
  first = likeliest(search, logits);
  for (token = first; token >= 0 && left > 0; token = likeliest(search, logits), --left) {
    speech_candidate candidate;
    if (level(logits[first] - logits[token], nats) >= MARGIN) break;
    search->allowed[token] = 0;
    candidate.parent = place;
    candidate.token = (uint16_t)token;
    candidate.attention = times(hypothesis->attention, level(logits[token], nats) - sum);
    candidate.score =
        joint_score(search, hypothesis, count, candidate.token, candidate.attention);
    insert(search, &candidate);
  }
}

/* Makes a hypothesis of `count` tokens the best text. */
static void keep(speech_search *search, const speech_hypothesis *hypothesis, int32_t count) {
  memcpy(search->tokens, hypothesis->tokens, (size_t)count * sizeof search->tokens[0]);
  memcpy(search->scores, hypothesis->scores, (size_t)count * sizeof search->scores[0]);
  search->token_count = count;
}

/* Inserts a text that has ended among the others, behind equal ones; the worst makes room. */
static void note(speech_search *search, const speech_hypothesis *hypothesis, int32_t count,
                 int32_t score) {
  int32_t place = search->text_count;
  uint16_t *tokens;
  if (place == SPEECH_TEXTS) {
    if (search->texts[--place].score >= score) return;
  } else {
    ++search->text_count;
  }
  tokens = search->texts[place].tokens;
  for (; place > 0 && search->texts[place - 1].score < score; --place) {
    search->texts[place] = search->texts[place - 1];
  }
  memcpy(tokens, hypothesis->tokens, (size_t)count * sizeof *tokens);
  search->texts[place].tokens = tokens;
  search->texts[place].count = count;
  search->texts[place].score = score;
}

/* A candidate that ends a text of `step` tokens. */
static void end(speech_search *search, const speech_candidate *candidate, int32_t step) {
  const speech_hypothesis *hypothesis = &search->hypotheses[candidate->parent];
  if (search->core->automaton != NULL) note(search, hypothesis, step, candidate->score);
  if (search->ended && candidate->score <= search->scores[search->token_count]) return;
  keep(search, hypothesis, step);
  search->scores[step] = candidate->score;
  search->ended = 1;
}

/* Ends texts, and chooses the candidates that go on. Returns their number. */
static int32_t choose(speech_search *search, int32_t step) {
  int32_t count = 0, i;
  int32_t least = INT32_MIN; /* that score no candidate may fall to */
  for (i = 0; i < search->candidate_count && count < search->beam; ++i) {
    const speech_candidate *candidate = &search->candidates[i];
    if (candidate->score < search->candidates[0].score - MARGIN) break;
    if (candidate->token == search->core->numbers->token_end) {
      end(search, candidate, step);
    } else {
      search->extensions[count++].candidate = candidate;
    }
  }
  /* A score only falls: a hypothesis no better than an ended text stays so. With a grammar, texts
   * that are nearly as likely tell how certain the best one is. */
  if (search->ended) {
    least = search->scores[search->token_count] - (search->core->automaton != NULL ? MARGIN : 0);
  }
  while (count > 0 && search->extensions[count - 1].candidate->score <= least) --count;
  return count;
}

/* Finds a hypothesis for each extension: the first one takes its parent's place, others copies. */
static void house(speech_search *search, int32_t count) {
  speech_extension *x = search->extensions;
  int32_t unused = 0, i;
  for (i = 0; i < search->most; ++i) x[i].taken = 0;
  for (i = 0; i < count; ++i) {
    int32_t parent = x[i].candidate->parent;
    x[i].home = x[parent].taken ? -1 : parent;
    x[parent].taken = 1;
  }
  for (i = 0; i < count; ++i) {
    if (x[i].home >= 0) continue;
    while (x[unused].taken) ++unused;
    x[unused].taken = 1;
    x[i].home = unused;
    memcpy(search->content + (size_t)unused * search->content_bytes,
           search->content + (size_t)x[i].candidate->parent * search->content_bytes,
           search->content_bytes);
    search->hypotheses[unused].attention = search->hypotheses[x[i].candidate->parent].attention;
  }
}

/* Extends a hypothesis of `count` tokens by one. */
static void extend(speech_search *search, speech_hypothesis *hypothesis, int32_t count,
                   const speech_candidate *candidate) {
  if (search->joint) grow(search, hypothesis, count, candidate->token);
  if (search->core->automaton != NULL) {
    speech_grammar_follow(&search->grammar, search->core, hypothesis->states, candidate->token);
  }
  hypothesis->tokens[count] = candidate->token;
  hypothesis->scores[count] = candidate->score;
  hypothesis->attention = candidate->attention;
}

void speech_search_step(speech_search *search, int32_t step) {
  int32_t count, i;
  search->candidate_count = 0;
  for (i = 0; i < search->active; ++i) consider(search, search->extensions[i].place, step);
  count = choose(search, step);
  house(search, count);
  for (i = 0; i < count; ++i) {
    const speech_extension *x = &search->extensions[i];
    extend(search, &search->hypotheses[x->home], step, x->candidate);
  }
  for (i = 0; i < count; ++i) search->extensions[i].place = search->extensions[i].home;
  search->active = count;
}

void speech_search_cut(speech_search *search, int32_t count) {
  if (!search->ended && search->active > 0) keep(search, speech_search_active(search, 0), count);
}
