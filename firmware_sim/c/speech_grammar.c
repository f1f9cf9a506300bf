/* See speech_grammar.h. */
#include "speech_grammar.h"

#include <string.h>

#define IMPOSSIBLE (INT32_MIN / 2)
#define UNLIKELY (-10000 * 65536) /* a text too fast for CTC's frames: attention alone decides */

static int has(const uint8_t *states, int32_t state) {
  return states[state >> 3] >> (state & 7) & 1;
}

static void put(uint8_t *states, int32_t state) {
  states[state >> 3] |= (uint8_t)(1 << (state & 7));
}

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

/* log(e^a + e^b): the larger one, and a table of what the other adds. */
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

/* A log probability less likely by another; what is impossible stays so. */
static int32_t times(int32_t a, int32_t b) {
  int64_t product = (int64_t)a + b;
  return product < IMPOSSIBLE ? IMPOSSIBLE : (int32_t)product;
}

/* e^(a / 65536) in 1/65536, for a <= 0. */
static int32_t exponential(int32_t a) {
  int64_t halvings = -(int64_t)a * 94548 >> 16; /* 94548 / 65536: 1 / log 2 */
  int32_t place = (int32_t)(halvings & 65535) >> 10;
  int32_t rest = (int32_t)(halvings & 1023);
  int32_t power = speech_powers[place];
  if (halvings >> 16 > 16) return 0;
  power -= (power - speech_powers[place + 1]) * rest >> 10;
  return power >> (halvings >> 16);
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

static int32_t emission(const speech_search *search, int32_t frame, int32_t token) {
  int32_t logit = search->ctc_logits[(size_t)frame * SPEECH_VOCABULARY + (size_t)token];
  return level(logit, SPEECH_CTC_LOGIT_NATS) - search->normalizers[frame];
}

/* Adds the states that a token leads to from a state; from a final one a command may begin. */
static void lead(uint8_t *states, int32_t state, int32_t token) {
  int32_t i;
  for (i = speech_first_arcs[state]; i < speech_first_arcs[state + 1]; ++i) {
    if (speech_arcs[i].token == token) put(states, speech_arcs[i].to);
  }
  if (speech_finals[state] < 0) return;
  if (SPEECH_TOKEN_BETWEEN >= 0) {
    if (token == SPEECH_TOKEN_BETWEEN) put(states, SPEECH_STATE_START);
    return;
  }
  for (i = speech_first_arcs[SPEECH_STATE_START]; i < speech_first_arcs[SPEECH_STATE_START + 1];
       ++i) {
    if (speech_arcs[i].token == token) put(states, speech_arcs[i].to);
  }
}

void speech_search_start(speech_search *search, const int8_t *ctc_logits, int32_t memory_frames) {
  int32_t frame;
  int32_t blanks = 0;
  memset(search->places, 0, sizeof search->places);
  put(search->places, SPEECH_STATE_START);
  search->attention = 0;
  search->last_token = -1;
  search->memory_frames = memory_frames;
  search->ctc_logits = ctc_logits;
  for (frame = 0; frame < memory_frames; ++frame) {
    search->normalizers[frame] = normalizer(
        ctc_logits + (size_t)frame * SPEECH_VOCABULARY, SPEECH_CTC_LOGIT_NATS);
    blanks = times(blanks, emission(search, frame, SPEECH_TOKEN_BLANK));
    search->label[frame] = IMPOSSIBLE;
    search->blank[frame] = blanks;
  }
}

static int32_t better(const int8_t *logits, int32_t best, int32_t token) {
  if (best < 0 || logits[token] > logits[best]) return token;
  return logits[token] == logits[best] && token < best ? token : best;
}

int32_t speech_search_best(const speech_search *search, const int8_t *logits) {
  int32_t best = -1;
  int32_t state, i;
  int ended = 0;
  for (state = 0; state < SPEECH_STATES; ++state) {
    if (!has(search->places, state)) continue;
    for (i = speech_first_arcs[state]; i < speech_first_arcs[state + 1]; ++i) {
      best = better(logits, best, speech_arcs[i].token);
    }
    ended |= speech_finals[state] >= 0;
  }
  if (!ended) return best;
  best = better(logits, best, SPEECH_TOKEN_END);
  if (SPEECH_TOKEN_BETWEEN >= 0) return better(logits, best, SPEECH_TOKEN_BETWEEN);
  for (i = speech_first_arcs[SPEECH_STATE_START]; i < speech_first_arcs[SPEECH_STATE_START + 1];
       ++i) {
    best = better(logits, best, speech_arcs[i].token);
  }
  return best;
}

/* Puts a token to CTC's view; the log probability of all texts that begin with what there is now. */
static int32_t grow(speech_search *search, int32_t token) {
  int32_t score = IMPOSSIBLE, label = IMPOSSIBLE, blank = IMPOSSIBLE;
  int32_t before = search->last_token < 0 ? 0 : IMPOSSIBLE; /* said up to the frame before */
  int32_t frame;
  for (frame = 0; frame < search->memory_frames; ++frame) {
    int32_t said = emission(search, frame, token);
    int32_t following = search->blank[frame];
    int32_t earlier = label;
    /* A token like the last one must have a blank between. */
    if (token != search->last_token) following = log_add(following, search->label[frame]);
    score = log_add(score, times(before, said));
    label = times(log_add(label, before), said);
    blank = times(log_add(blank, earlier), emission(search, frame, SPEECH_TOKEN_BLANK));
    search->label[frame] = label;
    search->blank[frame] = blank;
    before = following;
  }
  search->last_token = token;
  return larger(score, UNLIKELY);
}

void speech_search_follow(speech_search *search, const int8_t *logits, int32_t step,
                          int32_t token) {
  uint8_t places[SPEECH_STATE_BYTES] = {0};
  int32_t last = search->memory_frames - 1;
  int32_t ctc, state;
  search->attention += level(logits[token], SPEECH_LOGIT_NATS);
  search->attention -= normalizer(logits, SPEECH_LOGIT_NATS);
  if (token == SPEECH_TOKEN_END) {
    ctc = larger(log_add(search->label[last], search->blank[last]), UNLIKELY);
  } else {
    ctc = grow(search, token);
    for (state = 0; state < SPEECH_STATES; ++state) {
      if (has(search->places, state)) lead(places, state, token);
    }
    memcpy(search->places, places, sizeof places);
  }
  search->scores[step] = (int32_t)(((int64_t)search->attention * (65536 - SPEECH_CTC_WEIGHT) +
                                    (int64_t)ctc * SPEECH_CTC_WEIGHT) >>
                                   16);
}

/* Whether a state leads by a token to one of those. */
static int leads(const uint8_t *states, int32_t state, int32_t token) {
  uint8_t found[SPEECH_STATE_BYTES] = {0};
  size_t i;
  lead(found, state, token);
  for (i = 0; i < sizeof found; ++i) {
    if (found[i] & states[i]) return 1;
  }
  return 0;
}

/* The first arc from a state by a token after which the rest can be read; -1: none. */
static int32_t readable_arc(const uint8_t *readable, int32_t state, int32_t token) {
  int32_t i;
  for (i = speech_first_arcs[state]; i < speech_first_arcs[state + 1]; ++i) {
    if (speech_arcs[i].token == token && has(readable, speech_arcs[i].to)) return i;
  }
  return -1;
}

int32_t speech_search_commands(speech_search *search, const int32_t *tokens, int32_t count,
                               int32_t steps, int16_t *token_slots,
                               speech_command commands[SPEECH_COMMANDS]) {
  int32_t found = 0, first = 0, reached = 0, state = SPEECH_STATE_START, sum = 0;
  int32_t i, s;
  memset(search->readable, 0, sizeof search->readable);
  for (s = 0; s < SPEECH_STATES; ++s) {
    if (speech_finals[s] >= 0) put(search->readable[count], s);
  }
  for (i = count - 1; i >= 0; --i) {
    for (s = 0; s < SPEECH_STATES; ++s) {
      if (leads(search->readable[i + 1], s, tokens[i])) put(search->readable[i], s);
    }
  }
  if (count == 0 || !has(search->readable[0], SPEECH_STATE_START)) return 0;
  for (i = 0; i <= count; ++i) {
    int32_t arc = i < count ? readable_arc(search->readable[i + 1], state, tokens[i]) : -1;
    if (arc < 0) { /* a command ends here */
      speech_command *command = &commands[found++];
      int32_t score = search->scores[i < count ? i - 1 : steps - 1];
      int32_t mean = (score - reached) / (i - first + 1);
      if (mean > 0) mean = 0;
      command->intent = speech_finals[state];
      command->first = first;
      command->last = i;
      command->confidence = exponential(mean);
      sum += mean;
      reached = score;
      if (i == count) break;
      first = i + (SPEECH_TOKEN_BETWEEN >= 0);
      if (SPEECH_TOKEN_BETWEEN >= 0) {
        token_slots[i] = SPEECH_NO_SLOT;
        state = SPEECH_STATE_START;
        continue;
      }
      arc = readable_arc(search->readable[i + 1], SPEECH_STATE_START, tokens[i]);
    }
    token_slots[i] = speech_arcs[arc].slot;
    state = speech_arcs[arc].to;
  }
  return sum < SPEECH_REJECT_BELOW ? 0 : found;
}
