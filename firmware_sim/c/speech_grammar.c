/* See speech_grammar.h. */
#include "speech_grammar.h"

#include <string.h>

static size_t set_size(const speech_core *core) {
  return (size_t)core->automaton->concurrent + 1;
}

void speech_grammar_lay(speech_grammar *grammar, const speech_core *core, speech_memory *memory) {
  uint64_t sets = (uint64_t)core->numbers->token_limit + 1;
  uint64_t size = set_size(core);
  grammar->following = (int32_t *)speech_take(memory, size, sizeof(int32_t));
  grammar->sets = (int32_t *)speech_take(memory, sets * size, sizeof(int32_t));
  grammar->readable = (uint8_t *)speech_take(memory, sets * size, 1);
}

/* The place of a state in a set; -1: it is not there. */
static int32_t place_of(const int32_t *set, int32_t state) {
  int32_t i;
  for (i = 1; i <= set[0]; ++i) {
    if (set[i] == state) return i;
  }
  return -1;
}

static void put(const speech_core *core, int32_t *set, int32_t state) {
  if (place_of(set, state) >= 0 || set[0] == core->automaton->concurrent) return;
  set[++set[0]] = state;
}

/* The first arc of a state by a token, or the place where it would be. */
static int32_t first_arc(const speech_core *core, int32_t state, uint16_t token) {
  int32_t low = speech_index(&core->first_arcs, state);
  int32_t high = speech_index(&core->first_arcs, state + 1);
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (core->arc_tokens[middle] < token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* Whether an arc belongs to a state and token. */
static int is_way(const speech_core *core, int32_t arc, int32_t state, uint16_t token) {
  return arc < speech_index(&core->first_arcs, state + 1) && core->arc_tokens[arc] == token;
}

/* Adds the states after a token from a state. */
static void lead(const speech_core *core, int32_t *set, int32_t state, uint16_t token) {
  int32_t arc = first_arc(core, state, token);
  for (; is_way(core, arc, state, token); ++arc) put(core, set, speech_index(&core->targets, arc));
}

void speech_grammar_begin(const speech_core *core, int32_t *set) {
  set[0] = 1;
  set[1] = core->automaton->start;
}

/* Marks the tokens of a state's arcs. */
static void allow(const speech_core *core, int32_t state, uint8_t *allowed) {
  int32_t end = speech_index(&core->first_arcs, state + 1);
  int32_t i;
  for (i = speech_index(&core->first_arcs, state); i < end; ++i) allowed[core->arc_tokens[i]] = 1;
}

void speech_grammar_allow(const speech_core *core, const int32_t *set, uint8_t *allowed) {
  const speech_automaton_numbers *a = core->automaton;
  int ended = 0;
  int32_t i;
  for (i = 1; i <= set[0]; ++i) {
    allow(core, set[i], allowed);
    ended |= core->finals[set[i]] >= 0;
  }
  if (!ended) return;
  allowed[core->numbers->token_end] = 1;
  if (a->between >= 0) {
    allowed[a->between] = 1;
  } else {
    allow(core, a->start, allowed);
  }
}

void speech_grammar_follow(const speech_grammar *grammar, const speech_core *core, int32_t *set,
                           uint16_t token) {
  const speech_automaton_numbers *a = core->automaton;
  int32_t *following = grammar->following;
  int32_t i;
  following[0] = 0;
  for (i = 1; i <= set[0]; ++i) {
    lead(core, following, set[i], token);
    if (core->finals[set[i]] < 0) continue;
    if (a->between < 0) {
      lead(core, following, a->start, token);
    } else if (token == a->between) {
      put(core, following, a->start);
    }
  }
  memcpy(set, following, set_size(core) * sizeof *set);
}

/* The set after `count` tokens of the parsed text. */
static int32_t *set_after(const speech_grammar *grammar, const speech_core *core, int32_t count) {
  return grammar->sets + (size_t)count * set_size(core);
}

/* Whether the rest of a text can be read from a state after `count` tokens. */
static int is_readable(const speech_grammar *grammar, const speech_core *core, int32_t count,
                       int32_t state) {
  int32_t place = place_of(set_after(grammar, core, count), state);
  return place >= 0 && grammar->readable[(size_t)count * set_size(core) + (size_t)place];
}

/* The first arc of a state by a token after which the rest can be read; -1: none. */
static int32_t readable_arc(const speech_grammar *grammar, const speech_core *core, int32_t count,
                            int32_t state, uint16_t token) {
  int32_t arc = first_arc(core, state, token);
  for (; is_way(core, arc, state, token); ++arc) {
    if (is_readable(grammar, core, count + 1, speech_index(&core->targets, arc))) return arc;
  }
  return -1;
}

/* Whether a command may begin at a token, and the rest be read after it. */
static int may_begin(const speech_grammar *grammar, const speech_core *core, int32_t count,
                     uint16_t token) {
  const speech_automaton_numbers *a = core->automaton;
  if (a->between < 0) return readable_arc(grammar, core, count, a->start, token) >= 0;
  return token == a->between && is_readable(grammar, core, count + 1, a->start);
}

/* Finds the states on every way through a text. Returns whether there is one. */
static int read_text(const speech_grammar *grammar, const speech_core *core,
                     const uint16_t *tokens, int32_t count) {
  size_t size = set_size(core);
  int32_t i, k;
  speech_grammar_begin(core, grammar->sets);
  for (i = 0; i < count; ++i) {
    int32_t *following = set_after(grammar, core, i + 1);
    memcpy(following, set_after(grammar, core, i), size * sizeof *following);
    speech_grammar_follow(grammar, core, following, tokens[i]);
  }
  for (i = count; i >= 0; --i) {
    const int32_t *set = set_after(grammar, core, i);
    uint8_t *readable = grammar->readable + (size_t)i * size;
    for (k = 1; k <= set[0]; ++k) {
      int final = core->finals[set[k]] >= 0;
      readable[k] = (uint8_t)(i == count ? final
                              : readable_arc(grammar, core, i, set[k], tokens[i]) >= 0 ||
                                    (final && may_begin(grammar, core, i, tokens[i])));
    }
  }
  return grammar->readable[1] != 0;
}

int32_t speech_grammar_parse(const speech_grammar *grammar, const speech_core *core,
                             const uint16_t *tokens, int32_t count, speech_command *commands,
                             int16_t *slots) {
  const speech_automaton_numbers *a = core->automaton;
  int32_t found = 0, first = 0, state = a->start;
  int32_t i;
  if (count == 0 || !read_text(grammar, core, tokens, count)) return 0;
  for (i = 0; i <= count; ++i) {
    int32_t arc = i < count ? readable_arc(grammar, core, i, state, tokens[i]) : -1;
    if (arc < 0) { /* a command ends here */
      if (found == a->commands) return 0;
      commands[found].intent = core->finals[state];
      commands[found].first = first;
      commands[found].last = i;
      commands[found++].confidence = 0;
      if (i == count) break;
      first = i + (a->between >= 0);
      if (a->between >= 0) {
        slots[i] = SPEECH_NO_SLOT;
        state = a->start;
        continue;
      }
      arc = readable_arc(grammar, core, i, a->start, tokens[i]);
    }
    slots[i] = core->arc_slots[arc];
    state = speech_index(&core->targets, arc);
  }
  return found;
}

int32_t speech_grammar_score(const speech_core *core, speech_command *commands, int32_t count,
                             const int32_t *scores, int32_t steps) {
  int32_t reached = 0, i;
  int64_t sum = 0;
  for (i = 0; i < count; ++i) {
    /* The last command's end is the text's. */
    int32_t score = scores[i < count - 1 ? commands[i].last - 1 : steps - 1];
    int32_t mean = (score - reached) / (commands[i].last - commands[i].first + 1);
    if (mean > 0) mean = 0;
    commands[i].confidence = speech_exponential(core, mean);
    sum += mean;
    reached = score;
  }
  return sum < INT32_MIN ? INT32_MIN : (int32_t)sum;
}

int32_t speech_exponential(const speech_core *core, int32_t x) {
  int64_t halvings = -(int64_t)x * 94548 >> 16; /* 94548 / 65536: 1 / log 2 */
  int32_t place = (int32_t)(halvings & 65535) >> 10;
  int32_t rest = (int32_t)(halvings & 1023);
  int32_t power = core->powers[place];
  if (halvings >> 16 > 16) return 0;
  power -= (power - core->powers[place + 1]) * rest >> 10;
  return power >> (halvings >> 16);
}
