/* Letters to phones: how a word that the lexicon lacks is said. See speech_lexicon.h.
 *
 * Each letter takes a label, which is a letter and its phones. N-grams of labels give the cost of a
 * label after those before it, and a beam finds the cheapest labels of a word.
 */
#include "speech_lexicon.h"

#include <string.h>

#define STRIDE 32       /* n-grams from one sum to the next */
#define MARGIN (8 * 16) /* a hypothesis that costs so much more than the best is dropped */

/* An end of a context, as a node of the trie, and its children. */
typedef struct {
  uint32_t length; /* labels */
  int32_t node;    /* among those of its level with children; -1: it is none */
  uint32_t begin, end;
} suffix;

static uint32_t bit(const uint8_t *values, uint32_t place) {
  return values[place / 8] >> place % 8 & 1;
}

static uint32_t nibble(const uint8_t *values, uint32_t place) {
  return values[place / 2] >> 4 * (place % 2) & 15;
}

static int32_t cost_at(const speech_level *level, uint32_t place) {
  return level->cost_of[nibble(level->costs, place)];
}

/* Number of an n-gram among those with children; -1: it has none. */
static int32_t parent_of(const speech_level *level, uint32_t place) {
  uint32_t number, i;
  if (!bit(level->branching, place)) return -1;
  number = speech_lexicon_number(level->before + 4 * (size_t)(place / STRIDE));
  for (i = place / STRIDE * STRIDE; i < place; ++i) number += bit(level->branching, i);
  return number < level->parents ? (int32_t)number : -1;
}

/* Where the siblings end that begin at a place. */
static uint32_t end_of(const speech_level *level, uint32_t place) {
  while (place < level->count && !bit(level->last, place)) ++place;
  return place < level->count ? place + 1 : level->count;
}

/* Sets the children of a node of a level. */
static void find_children(const speech_level *level, suffix *s) {
  uint32_t node = (uint32_t)s->node, i;
  s->begin = speech_lexicon_number(level->first + 4 * (size_t)(node / STRIDE));
  for (i = node / STRIDE * STRIDE; i < node; ++i) s->begin = end_of(level + 1, s->begin);
  if (s->begin > level[1].count) s->begin = level[1].count;
  s->end = end_of(level + 1, s->begin);
}

/* The place of a label among children, whose labels ascend; -1: it is not there. */
static int32_t child_of(const speech_level *below, const suffix *s, uint32_t label) {
  uint32_t low = s->begin, high = s->end;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (below->labels[middle] < label) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < s->end && below->labels[low] == label ? (int32_t)low : -1;
}

/* Finds the node of some labels. */
static suffix find_node(const speech_lexicon *lexicon, const uint8_t *labels, uint32_t length) {
  suffix s = {0, -1, 0, 0};
  uint32_t place = labels[0], i;
  if (length >= lexicon->level_count || place > lexicon->labels) return s;
  for (i = 0; i < length; ++i) {
    int32_t child;
    if (i > 0) {
      child = child_of(&lexicon->levels[i], &s, labels[i]);
      s.node = -1;
      if (child < 0) return s;
      place = (uint32_t)child;
    }
    s.node = parent_of(&lexicon->levels[i], place);
    if (s.node < 0) return s;
    find_children(&lexicon->levels[i], &s);
  }
  s.length = length;
  return s;
}

/* Keeps the most of the last labels that the trie has something after. */
static void shorten(const speech_lexicon *lexicon, speech_labelling *h) {
  while (h->count > 0 && find_node(lexicon, h->labels, h->count).node < 0) {
    memmove(h->labels, h->labels + 1, --h->count);
  }
}

/* The nodes of a context and its ends. Returns their number. */
static int32_t find_suffixes(const speech_lexicon *lexicon, const speech_labelling *h,
                             suffix *suffixes) {
  int32_t i;
  for (i = 0; i < h->count; ++i) {
    suffixes[i] = find_node(lexicon, h->labels + i, (uint32_t)(h->count - i));
  }
  return h->count;
}

/* The cost of a label after a context. */
static int32_t cost_after(const speech_lexicon *lexicon, const suffix *suffixes, int32_t count,
                          uint32_t label) {
  int32_t cost = 0, i;
  for (i = 0; i < count; ++i) {
    const suffix *s = &suffixes[i];
    int32_t child;
    if (s->node < 0) continue;
    child = child_of(&lexicon->levels[s->length], s, label);
    if (child >= 0) return cost + cost_at(&lexicon->levels[s->length], (uint32_t)child);
    cost += (int8_t)lexicon->levels[s->length - 1]
                .backoff_of[nibble(lexicon->levels[s->length - 1].backoffs, (uint32_t)s->node)];
  }
  return cost + cost_at(&lexicon->levels[0], label);
}

/* Keeps a hypothesis among the cheapest ones, behind those that cost the same. */
static void keep(speech_guess *g, int32_t cost, int32_t rank, uint32_t label) {
  int32_t i = g->count;
  if (i == SPEECH_BEAM && g->next[--i].cost <= cost) return;
  for (; i > 0 && g->next[i - 1].cost > cost; --i) g->next[i] = g->next[i - 1];
  g->next[i].cost = cost;
  g->next[i].rank = (uint8_t)rank;
  g->next[i].label = (uint8_t)label;
  if (g->count < SPEECH_BEAM) ++g->count;
}

/* Goes on by labels from `first` to `last`. Returns the number of hypotheses after them. */
static int32_t extend(const speech_lexicon *lexicon, speech_guess *g, int32_t count,
                      uint32_t first, uint32_t last) {
  suffix suffixes[SPEECH_MOST_LEVELS];
  int32_t rank;
  uint32_t label;
  g->count = 0;
  for (rank = 0; rank < count; ++rank) {
    int32_t ends = find_suffixes(lexicon, &g->now[rank], suffixes);
    for (label = first; label <= last; ++label) {
      int32_t cost = g->now[rank].cost + cost_after(lexicon, suffixes, ends, label);
      keep(g, cost, rank, label);
    }
  }
  return g->count;
}

/* Makes the kept hypotheses those of the next letter; returns how many stay. */
static int32_t advance(const speech_lexicon *lexicon, speech_guess *g, int32_t letter) {
  int32_t i, limit = g->next[0].cost + MARGIN;
  for (i = 0; i < g->count && g->next[i].cost <= limit; ++i) {
    speech_labelling *h = &g->next[i];
    const speech_labelling *before = &g->now[h->rank];
    memcpy(h->labels, before->labels, sizeof h->labels);
    h->count = before->count;
    h->labels[h->count++] = h->label;
    shorten(lexicon, h);
    g->ranks[letter][i] = h->rank;
    g->labels[letter][i] = h->label;
  }
  memcpy(g->now, g->next, sizeof g->now);
  return i;
}

/* The phones of a hypothesis for a whole word. */
static void speak(const speech_lexicon *lexicon, speech_guess *g, int32_t rank, int32_t length) {
  uint8_t chosen[SPEECH_MOST_LETTERS];
  int32_t i;
  for (i = length; i > 0; --i) {
    chosen[i - 1] = g->labels[i - 1][rank];
    rank = g->ranks[i - 1][rank];
  }
  g->spoken.count = 0;
  for (i = 0; i < length; ++i) {
    const uint8_t *phones = lexicon->phones + 2 * (size_t)chosen[i];
    if (phones[0] != SPEECH_NO_PHONE) g->spoken.phones[g->spoken.count++] = phones[0];
    if (phones[1] != SPEECH_NO_PHONE) g->spoken.phones[g->spoken.count++] = phones[1];
  }
}

int speech_lexicon_guess(const speech_lexicon *lexicon, speech_guess *g, const char *word,
                         int32_t length, int32_t most, int32_t margin, speech_ways *ways) {
  int32_t count = 1, i, limit = 0, begin = ways->count;
  g->now[0].cost = 0;
  g->now[0].count = 1;
  g->now[0].labels[0] = (uint8_t)lexicon->labels;
  shorten(lexicon, &g->now[0]);
  for (i = 0; i < length; ++i) {
    const uint8_t *first = lexicon->first_label + speech_letter(word[i]);
    if (first[0] == first[1]) return 0;
    (void)extend(lexicon, g, count, first[0], (uint32_t)first[1] - 1);
    count = advance(lexicon, g, i);
  }
  count = extend(lexicon, g, count, lexicon->labels, lexicon->labels);
  for (i = 0; i < count && ways->count < begin + most; ++i) {
    speak(lexicon, g, g->next[i].rank, length);
    if (g->spoken.count == 0) continue;
    if (ways->count == begin) limit = g->next[i].cost + margin;
    if (g->next[i].cost > limit) break;
    speech_ways_add(ways, &g->spoken);
  }
  return 1;
}
