/* See speech_spelling.h. */
#include "speech_spelling.h"

#include <string.h>

#define NONE (-1)

static int full(speech_spelling *c) { return speech_phrases_full(c->phrases); }

/* The phones lie at the upper end of the room. */
int speech_add_way(speech_spelling *c, int32_t word, const uint8_t *phones, int32_t count) {
  speech_way *added = (speech_way *)speech_room_low(c->phrases->room, 1, sizeof *added);
  uint8_t *kept = (uint8_t *)speech_room_high(c->phrases->room, (uint64_t)count, 1);
  if (added == NULL || kept == NULL) return full(c);
  if (c->way_count++ == 0) c->ways = added;
  memcpy(kept, phones, (size_t)count);
  added->place = (uint64_t)(kept - c->phrases->room->base);
  added->count = count;
  added->word = word;
  return 1;
}

static const uint8_t *phones_of(const speech_spelling *c, const speech_way *way) {
  return c->phrases->room->base + way->place;
}

static int compare_ways(const speech_spelling *c, const speech_way *a, const speech_way *b) {
  const uint8_t *one = phones_of(c, a), *other = phones_of(c, b);
  int32_t i;
  for (i = 0; i < a->count && i < b->count; ++i) {
    if (one[i] != other[i]) return one[i] < other[i] ? -1 : 1;
  }
  return a->count == b->count ? 0 : a->count < b->count ? -1 : 1;
}

static int is_way_before(const void *context, uint64_t a, uint64_t b) {
  const speech_spelling *c = (const speech_spelling *)context;
  int order = compare_ways(c, &c->ways[a], &c->ways[b]);
  return order != 0 ? order < 0 : c->ways[a].word < c->ways[b].word;
}

/* Sorts all ways by their phones, and notes the ranks of each word's. */
static int rank_ways(speech_spelling *c) {
  speech_room *room = c->phrases->room;
  uint32_t i, kept = 0;
  c->ranked = (uint64_t *)speech_room_low(room, c->way_count, sizeof *c->ranked);
  c->first_rank =
      (uint32_t *)speech_room_low(room, (uint64_t)c->word_count + 2, sizeof *c->first_rank);
  c->ranks = (uint32_t *)speech_room_low(room, c->way_count, sizeof *c->ranks);
  if (c->ranked == NULL || c->first_rank == NULL || c->ranks == NULL) return full(c);
  for (i = 0; i < c->way_count; ++i) c->ranked[i] = i;
  speech_sort_by(c->ranked, c->way_count, is_way_before, c);
  memset(c->first_rank, 0, ((size_t)c->word_count + 2) * sizeof *c->first_rank);
  for (i = 0; i < c->way_count; ++i) { /* a grammar may give one way twice */
    const speech_way *x = &c->ways[c->ranked[i]];
    const speech_way *last = kept > 0 ? &c->ways[c->ranked[kept - 1]] : NULL;
    if (last != NULL && last->word == x->word && compare_ways(c, last, x) == 0) continue;
    c->ranked[kept++] = c->ranked[i];
    ++c->first_rank[x->word + 2];
  }
  for (i = 0; i < (uint32_t)c->word_count; ++i) c->first_rank[i + 2] += c->first_rank[i + 1];
  for (i = 0; i < kept; ++i) c->ranks[c->first_rank[c->ways[c->ranked[i]].word + 1]++] = i;
  return 1;
}

/* The state with the arcs from a place on; it is added if it is new. -1: there is no room. */
static int32_t state_of(speech_spelling *c, int32_t final, const uint64_t *arcs, uint32_t count) {
  uint32_t hash = (2166136261u ^ (uint32_t)final) * 16777619u, i;
  int32_t found, *head;
  speech_phone_state *added;
  for (i = 0; i < count; ++i) {
    hash = (hash ^ (uint32_t)arcs[i]) * 16777619u;
    hash = (hash ^ (uint32_t)(arcs[i] >> 32)) * 16777619u;
    hash ^= hash >> 15;
  }
  head = &c->heads[hash & c->mask];
  for (found = *head; found >= 0; found = c->states[found].next) {
    const speech_phone_state *s = &c->states[found];
    if (s->final != final || s->end - s->first != count) continue;
    for (i = 0; i < count && c->arcs[-(ptrdiff_t)(s->first + i)] == arcs[i]; ++i) continue;
    if (i == count) return found;
  }
  if (c->state_count == SPEECH_MOST_INDEX - 1 || count >= SPEECH_MOST_INDEX - c->arc_count) {
    (void)speech_fail(c->phrases, SPEECH_GRAMMAR_SIZE, 0, "too many words and phones: use fewer");
    return NONE;
  }
  added = (speech_phone_state *)speech_room_low(c->phrases->room, 1, sizeof *added);
  if (added == NULL || speech_room_high(c->phrases->room, count, sizeof *arcs) == NULL) {
    return (void)full(c), NONE;
  }
  added->final = final;
  added->first = c->arc_count;
  added->shortest = final >= 0 ? 0 : INT32_MAX;
  added->number = NONE;
  added->next = *head;
  for (i = 0; i < count; ++i) {
    int32_t after = c->states[SPEECH_ARC_TARGET(arcs[i])].shortest + 1;
    if (after < added->shortest) added->shortest = after;
    c->arcs[-(ptrdiff_t)c->arc_count++] = arcs[i];
  }
  added->end = c->arc_count;
  *head = c->state_count;
  return c->state_count++;
}

/* Closes the nodes of a way that lie deeper than `depth`: each becomes a state, and an arc of the
 * node before it. */
static int close_nodes(speech_spelling *c, const speech_way *last, int32_t slot, int32_t depth) {
  int32_t open = last == NULL ? 0 : last->count - 1;
  for (; open > depth; --open) {
    const uint64_t *arcs = c->pending + c->begins[open];
    int32_t state = state_of(c, NONE, arcs, c->pending_count - c->begins[open]);
    if (state < 0) return 0;
    c->pending_count = c->begins[open];
    c->pending[c->pending_count++] =
        SPEECH_PHONE_ARC(phones_of(c, last)[open - 1], slot, 0) | (uint64_t)state;
  }
  return 1;
}

/* Phones that two ways have in common before the last one of each. */
static int32_t shared(const speech_spelling *c, const speech_way *a, const speech_way *b) {
  int32_t i = 0;
  if (a == NULL) return 0;
  while (i + 1 < a->count && i + 1 < b->count && phones_of(c, a)[i] == phones_of(c, b)[i]) ++i;
  return i;
}

/* Lists the ways from a state over words, in the order of slot and phones: rank and state after. */
static uint32_t list_ways(speech_spelling *c, const speech_word_state *s, const int32_t *found) {
  const speech_words *w = &c->words;
  uint32_t count = 0, i, k;
  for (i = s->first; i < s->end; ++i) {
    int32_t word = speech_name_at(c->phrases, speech_arc_word(w->arcs[i]))->number;
    uint64_t state = (uint64_t)found[w->merged[speech_arc_target(w->arcs[i])]];
    for (k = c->first_rank[word]; k < c->first_rank[word + 1]; ++k) {
      c->entries[count++] =
          (uint64_t)speech_arc_slot(w->arcs[i]) << 48 | (uint64_t)c->ranks[k] << 24 | state;
    }
  }
  speech_sort(c->entries, count);
  return count;
}

/* Spells the words of a state. Returns the state over phones; -1: there is no room. */
static int32_t spell(speech_spelling *c, const speech_word_state *s, const int32_t *found) {
  uint32_t count = list_ways(c, s, found), i;
  const speech_way *last = NULL;
  int32_t last_slot = 0, depth;
  c->pending_count = c->begins[0] = 0;
  for (i = 0; i < count; ++i) {
    const speech_way *next = &c->ways[c->ranked[c->entries[i] >> 24 & 0xffffff]];
    int32_t slot = (int32_t)(c->entries[i] >> 48);
    int32_t common = slot == last_slot ? shared(c, last, next) : 0;
    if (!close_nodes(c, last, last_slot, common)) return NONE;
    for (depth = common + 1; depth < next->count; ++depth) c->begins[depth] = c->pending_count;
    c->pending[c->pending_count++] =
        SPEECH_PHONE_ARC(phones_of(c, next)[next->count - 1], slot, next->word + 1) |
        (c->entries[i] & 0xffffff);
    last = next;
    last_slot = slot;
  }
  if (!close_nodes(c, last, last_slot, 0)) return NONE;
  return state_of(c, s->final, c->pending, c->pending_count);
}

/* The most ways from one state. */
static uint64_t most_ways(const speech_spelling *c) {
  const speech_words *w = &c->words;
  uint64_t most = 0;
  int32_t i;
  uint32_t k;
  for (i = 0; i < w->order_count; ++i) {
    const speech_word_state *s = &w->states[w->order[i]];
    uint64_t count = 0;
    for (k = s->first; k < s->end; ++k) {
      int32_t word = speech_name_at(c->phrases, speech_arc_word(w->arcs[k]))->number;
      count += c->first_rank[word + 1] - c->first_rank[word];
    }
    if (count > most) most = count;
  }
  return most;
}

int32_t speech_spell(speech_spelling *c) {
  const speech_words *w = &c->words;
  speech_room *room = c->phrases->room;
  uint64_t most, buckets = 64, i;
  int32_t *found, state = NONE;
  if (!rank_ways(c)) return NONE;
  most = most_ways(c);
  while (buckets < 2 * (uint64_t)c->way_count) buckets *= 2;
  found = (int32_t *)speech_room_low(room, (uint64_t)w->count, sizeof *found);
  c->entries = (uint64_t *)speech_room_low(room, most, sizeof *c->entries);
  c->pending =
      (uint64_t *)speech_room_low(room, most + SPEECH_MOST_PHONES, sizeof *c->pending);
  c->heads = (int32_t *)speech_room_low(room, buckets, sizeof *c->heads);
  if (found == NULL || c->entries == NULL || c->pending == NULL || c->heads == NULL) {
    return (void)full(c), NONE;
  }
  c->mask = (uint32_t)buckets - 1;
  for (i = 0; i < buckets; ++i) c->heads[i] = NONE;
  c->states = (speech_phone_state *)(void *)(room->base + room->low);
  c->arcs = (uint64_t *)(void *)(room->base + room->high) - 1;
  for (i = 0; i < (uint64_t)w->order_count; ++i) {
    state = spell(c, &w->states[w->order[i]], found);
    if (state < 0) return NONE;
    found[w->order[i]] = state;
  }
  return state;
}
