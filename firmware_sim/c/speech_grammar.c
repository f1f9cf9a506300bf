/* See speech_grammar.h. */
#include "speech_grammar.h"

#include <string.h>

static int has(const uint8_t *states, int32_t state) {
  return states[state >> 3] >> (state & 7) & 1;
}

static void put(uint8_t *states, int32_t state) {
  states[state >> 3] |= (uint8_t)(1 << (state & 7));
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

/* Adds the states after a token from a state; from a final state a command may begin. */
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

void speech_grammar_begin(uint8_t places[SPEECH_STATE_BYTES]) {
  memset(places, 0, SPEECH_STATE_BYTES);
  put(places, SPEECH_STATE_START);
}

/* Marks the tokens of a state's arcs. */
static void allow(int32_t state, uint8_t *allowed) {
  int32_t i;
  for (i = speech_first_arcs[state]; i < speech_first_arcs[state + 1]; ++i) {
    allowed[speech_arcs[i].token] = 1;
  }
}

void speech_grammar_allow(const uint8_t places[SPEECH_STATE_BYTES],
                          uint8_t allowed[SPEECH_VOCABULARY]) {
  int32_t state;
  int ended = 0;
  for (state = 0; state < SPEECH_STATES; ++state) {
    if (!has(places, state)) continue;
    allow(state, allowed);
    ended |= speech_finals[state] >= 0;
  }
  if (!ended) return;
  allowed[SPEECH_TOKEN_END] = 1;
  if (SPEECH_TOKEN_BETWEEN >= 0) {
    allowed[SPEECH_TOKEN_BETWEEN] = 1;
  } else {
    allow(SPEECH_STATE_START, allowed);
  }
}

void speech_grammar_follow(uint8_t places[SPEECH_STATE_BYTES], int32_t token) {
  uint8_t following[SPEECH_STATE_BYTES] = {0};
  int32_t state;
  for (state = 0; state < SPEECH_STATES; ++state) {
    if (has(places, state)) lead(following, state, token);
  }
  memcpy(places, following, sizeof following);
}

/* Whether a token leads from a state to one of `states`. */
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

int32_t speech_grammar_commands(const int32_t *tokens, int32_t count, const int32_t *scores,
                                int32_t steps,
                                uint8_t readable[SPEECH_TOKENS + 1][SPEECH_STATE_BYTES],
                                int16_t *token_slots, speech_command commands[SPEECH_COMMANDS]) {
  int32_t found = 0, first = 0, reached = 0, state = SPEECH_STATE_START, sum = 0;
  int32_t i, s;
  memset(readable, 0, (size_t)(SPEECH_TOKENS + 1) * SPEECH_STATE_BYTES);
  for (s = 0; s < SPEECH_STATES; ++s) {
    if (speech_finals[s] >= 0) put(readable[count], s);
  }
  for (i = count - 1; i >= 0; --i) {
    for (s = 0; s < SPEECH_STATES; ++s) {
      if (leads(readable[i + 1], s, tokens[i])) put(readable[i], s);
    }
  }
  if (count == 0 || !has(readable[0], SPEECH_STATE_START)) return 0;
  for (i = 0; i <= count; ++i) {
    int32_t arc = i < count ? readable_arc(readable[i + 1], state, tokens[i]) : -1;
    if (arc < 0) { /* a command ends here */
      speech_command *command = &commands[found++];
      int32_t score = scores[i < count ? i - 1 : steps - 1];
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
      arc = readable_arc(readable[i + 1], SPEECH_STATE_START, tokens[i]);
    }
    token_slots[i] = speech_arcs[arc].slot;
    state = speech_arcs[arc].to;
  }
  return sum < SPEECH_REJECT_BELOW ? 0 : found;
}
