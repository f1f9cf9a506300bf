/* Equal states of an automaton over words, and sentences with two intents; see speech_words.h. */
#include "speech_words.h"

#include <string.h>

#define UNSEEN (-1)
#define OPEN (-2) /* on the way to the states after it */
#define SEVERAL (-2) /* intents */
#define MOST_FOLLOWED 1000000 /* pairs of ways */

/* A way from a state: where it goes on. */
typedef struct {
  int32_t state;
  uint32_t arc;
} step;

/* Two states that the same words lead to. */
typedef struct {
  int32_t one, other;
  int32_t before, word; /* the pair that it was found from, and how */
  int32_t next;         /* with the same hash */
  int32_t unused;
} pair;

static uint32_t hash_of(const speech_words *w, int32_t state) {
  const speech_word_state *s = &w->states[state];
  uint32_t hash = (2166136261u ^ (uint32_t)s->final) * 16777619u, i;
  for (i = s->first; i < s->end; ++i) {
    speech_word_arc a = w->arcs[i];
    hash = (hash ^ (uint32_t)(a >> 24)) * 16777619u;
    hash = (hash ^ (uint32_t)(a >> 39)) * 16777619u;
    hash = (hash ^ (uint32_t)w->merged[speech_arc_target(a)]) * 16777619u;
  }
  return hash ^ hash >> 15;
}

static int are_equal(const speech_words *w, int32_t one, int32_t other) {
  const speech_word_state *x = &w->states[one], *y = &w->states[other];
  uint32_t i;
  if (x->final != y->final || x->end - x->first != y->end - y->first) return 0;
  for (i = 0; i < x->end - x->first; ++i) {
    speech_word_arc a = w->arcs[x->first + i], b = w->arcs[y->first + i];
    if (a >> 24 != b >> 24) return 0;
    if (w->merged[speech_arc_target(a)] != w->merged[speech_arc_target(b)]) return 0;
  }
  return 1;
}

/* Makes a state one with an equal state before it; if there is none, it stays. */
static void merge(speech_words *w, int32_t state, int32_t *bucket, int32_t *chain) {
  int32_t found = *bucket;
  while (found >= 0 && !are_equal(w, found, state)) found = chain[found];
  w->merged[state] = found >= 0 ? found : state;
  if (found >= 0) return;
  chain[state] = *bucket;
  *bucket = state;
  w->order[w->order_count++] = state;
}

int speech_words_merge(speech_phrases *p, speech_words *w) {
  uint64_t count = (uint64_t)w->count, buckets = 16, i;
  int32_t *heads, *chain;
  step *steps;
  int32_t depth = 0;
  size_t low;
  while (buckets < count) buckets *= 2;
  w->merged = (int32_t *)speech_room_low(p->room, count, sizeof *w->merged);
  w->order = (int32_t *)speech_room_low(p->room, count, sizeof *w->order);
  low = p->room->low;
  heads = (int32_t *)speech_room_low(p->room, buckets, sizeof *heads);
  chain = (int32_t *)speech_room_low(p->room, count, sizeof *chain);
  steps = (step *)speech_room_low(p->room, count, sizeof *steps);
  if (w->merged == NULL || w->order == NULL || heads == NULL || chain == NULL || steps == NULL) {
    return speech_phrases_full(p);
  }
  for (i = 0; i < buckets; ++i) heads[i] = -1;
  for (i = 0; i < count; ++i) w->merged[i] = UNSEEN;
  w->order_count = 0;
  steps[0].state = 0;
  steps[0].arc = w->states[0].first;
  while (depth >= 0) { /* states after those that follow them */
    step *s = &steps[depth];
    if (s->arc < w->states[s->state].end) {
      int32_t target = speech_arc_target(w->arcs[s->arc++]);
      if (w->merged[target] != UNSEEN) continue;
      w->merged[target] = OPEN;
      steps[++depth].state = target;
      steps[depth].arc = w->states[target].first;
    } else {
      merge(w, s->state, &heads[hash_of(w, s->state) & (buckets - 1)], chain);
      --depth;
    }
  }
  p->room->low = low;
  return 1;
}

typedef struct {
  speech_phrases *phrases;
  const speech_words *words;
  int32_t *intents; /* of the sentences through each state; SEVERAL: more than one */
  int32_t *heads;
  uint32_t mask;
  pair *pairs;
  int32_t count;
  uint32_t followed;
} search;

/* Finds the intents of sentences through each state. */
static void find_intents(search *s) {
  const speech_words *w = s->words;
  int32_t i;
  uint32_t k;
  for (i = 0; i < w->order_count; ++i) {
    const speech_word_state *state = &w->states[w->order[i]];
    int32_t intent = state->final;
    for (k = state->first; k < state->end; ++k) {
      int32_t other = s->intents[w->merged[speech_arc_target(w->arcs[k])]];
      if (intent == -1) intent = other;
      if (other != intent) intent = SEVERAL;
    }
    s->intents[w->order[i]] = intent;
  }
}

static int refuse(search *s, int32_t number, int32_t one, int32_t other) {
  uint32_t count = 0;
  uint64_t *words = (uint64_t *)speech_room_low(s->phrases->room, 0, sizeof *words);
  for (; number > 0; number = s->pairs[number].before) {
    uint64_t *word = (uint64_t *)speech_room_low(s->phrases->room, 1, sizeof *word);
    if (word == NULL) return speech_phrases_full(s->phrases);
    *word = (uint64_t)s->pairs[number].word;
    ++count;
  }
  return speech_words_ambiguous(s->phrases, words, count, one < other ? one : other,
                                one < other ? other : one);
}

/* Adds the pair of two states after a word, if sentences through them may have two intents. Returns
 * whether it could, and they end no sentence with two. */
static int add_pair(search *s, int32_t before, int32_t word, int32_t one, int32_t other) {
  const speech_words *w = s->words;
  int32_t number, *head, ends[2];
  pair *added;
  if (one > other) {
    number = one;
    one = other;
    other = number;
  }
  if (s->intents[one] != SEVERAL && s->intents[one] == s->intents[other]) return 1;
  head = &s->heads[((uint32_t)one * 16777619u ^ (uint32_t)other * 40503u) & s->mask];
  for (number = *head; number >= 0; number = s->pairs[number].next) {
    if (s->pairs[number].one == one && s->pairs[number].other == other) return 1;
  }
  added = (pair *)speech_room_low(s->phrases->room, 1, sizeof *added);
  if (added == NULL) return speech_phrases_full(s->phrases);
  added->one = one;
  added->other = other;
  added->before = before;
  added->word = word;
  added->next = *head;
  *head = s->count++;
  ends[0] = w->states[one].final;
  ends[1] = w->states[other].final;
  if (ends[0] < 0 || ends[1] < 0 || ends[0] == ends[1]) return 1;
  return refuse(s, s->count - 1, ends[0], ends[1]);
}

/* The arc after all of a state by the word of an arc. */
static uint32_t after_word(const speech_words *w, const speech_word_state *state, uint32_t arc) {
  int32_t word = speech_arc_word(w->arcs[arc]);
  while (arc < state->end && speech_arc_word(w->arcs[arc]) == word) ++arc;
  return arc;
}

/* Follows all words that both states of a pair have. */
static int follow(search *s, int32_t number) {
  const speech_words *w = s->words;
  const speech_word_state *one = &w->states[s->pairs[number].one];
  const speech_word_state *other = &w->states[s->pairs[number].other];
  uint32_t i = one->first, k = other->first;
  while (i < one->end && k < other->end) {
    uint32_t end = after_word(w, one, i), other_end = after_word(w, other, k), m;
    int32_t word = speech_arc_word(w->arcs[i]), other_word = speech_arc_word(w->arcs[k]);
    for (; word == other_word && i < end; ++i) {
      for (m = k; m < other_end; ++m, ++s->followed) {
        int32_t x = w->merged[speech_arc_target(w->arcs[i])];
        int32_t y = w->merged[speech_arc_target(w->arcs[m])];
        if (!add_pair(s, number, word, x, y)) return 0;
      }
    }
    if (word <= other_word) i = end;
    if (other_word <= word) k = other_end;
  }
  if (s->followed <= MOST_FOLLOWED) return 1;
  return speech_fail(s->phrases, SPEECH_GRAMMAR_SIZE, 0,
                     "too many words mean several slots: use fewer of them side by side");
}

int speech_words_check(speech_phrases *p, const speech_words *w) {
  search s = {NULL, NULL, NULL, NULL, 0, NULL, 0, 0};
  uint64_t buckets = 16, i;
  size_t low = p->room->low;
  int32_t number, start = w->merged[0];
  while (buckets < (uint64_t)w->count) buckets *= 2;
  s.phrases = p;
  s.words = w;
  s.intents = (int32_t *)speech_room_low(p->room, (uint64_t)w->count, sizeof *s.intents);
  s.heads = (int32_t *)speech_room_low(p->room, buckets, sizeof *s.heads);
  s.mask = (uint32_t)buckets - 1;
  s.pairs = (pair *)speech_room_low(p->room, 0, sizeof *s.pairs);
  if (s.intents == NULL || s.heads == NULL) return speech_phrases_full(p);
  for (i = 0; i < buckets; ++i) s.heads[i] = -1;
  find_intents(&s);
  if (s.intents[start] != SEVERAL) {
    p->room->low = low;
    return 1;
  }
  if (!add_pair(&s, 0, 0, start, start)) return 0;
  for (number = 0; number < s.count; ++number) {
    if (!follow(&s, number)) return 0;
  }
  p->room->low = low;
  return 1;
}
