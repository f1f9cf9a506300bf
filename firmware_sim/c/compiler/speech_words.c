/* See speech_words.h. */
#include "speech_words.h"

#include <string.h>

#define MOST_STATES 100000
#define MOST_PLACES 2000000
#define MOST_STEPS 3000000 /* places looked at */
#define FREE (-1)          /* instead of a word */

typedef struct {
  int32_t arc;    /* the last one; -1: none */
  int32_t intent; /* of a sentence that ends here, or -1 */
} place;

typedef struct {
  int32_t word, slot, target;
  int32_t next; /* of the same place */
} arc;

/* Alternatives around a part of a phrase: of brackets or of a slot. */
typedef struct {
  int32_t begin, end; /* places */
  uint32_t item;      /* after a slot */
  int32_t slot;       /* around it */
  int is_slot;
} frame;

/* A state as a set of places; they follow it. */
typedef struct {
  int32_t next; /* with the same hash, in units of 8 bytes from the room's base; -1: none */
  int32_t before, word; /* the state that it was found from, likewise, and how */
  int32_t number, intent;
  uint32_t first; /* arc */
  int32_t count;
  int32_t places[1];
} set;

typedef struct {
  speech_phrases *phrases;
  frame frames[SPEECH_DEEPEST + 2];
  place *places;
  arc *arcs; /* downwards */
  int32_t place_count, arc_count, labelled;
  int32_t label_count;
  /* Of the deterministic automaton. */
  uint32_t *marks, mark;
  uint64_t *list, *keys;
  int32_t *buckets;
  uint32_t bucket_mask;
  int32_t state_count;
  uint32_t steps;
  speech_word_arc *found; /* downwards */
  uint32_t found_count;
} network;

static int32_t add_place(network *n) {
  place *added;
  if (n->place_count == MOST_PLACES) {
    (void)speech_fail(n->phrases, SPEECH_GRAMMAR_SIZE, 0,
                      "the phrases are too many or too long: use fewer");
    return -1;
  }
  added = (place *)speech_room_low(n->phrases->room, 1, sizeof *added);
  if (added == NULL) return (void)speech_phrases_full(n->phrases), -1;
  if (n->place_count == 0) n->places = added;
  added->arc = added->intent = -1;
  return n->place_count++;
}

static int add_arc(network *n, int32_t from, int32_t word, int32_t slot, int32_t to) {
  arc *added = (arc *)speech_room_high(n->phrases->room, 1, sizeof *added);
  if (added == NULL) return speech_phrases_full(n->phrases);
  if (n->arc_count == 0) n->arcs = added;
  added->word = word;
  added->slot = slot;
  added->target = to;
  added->next = n->places[from].arc;
  n->places[from].arc = n->arc_count++;
  n->labelled += word != FREE;
  return 1;
}

static const arc *arc_at(const network *n, int32_t number) { return n->arcs - number; }

/* The number of a name among the slots of results; -1: there are too many. */
static int32_t label_of(network *n, int32_t name) {
  speech_name *slot = speech_name_at(n->phrases, name);
  if (slot->label < 0 && n->label_count < INT16_MAX) slot->label = n->label_count++;
  return slot->label;
}

static int begin_frame(network *n, int32_t depth, int32_t at, int is_slot) {
  frame *f = &n->frames[depth];
  f->begin = at;
  f->end = add_place(n);
  f->is_slot = is_slot;
  return f->end >= 0;
}

/* Adds a word to a place. Returns the place after it; -1: it could not. */
static int32_t lay_word(network *n, int32_t at, uint32_t item, int32_t slot) {
  int32_t label = slot < 0 ? -1 : label_of(n, slot), next = add_place(n);
  if (slot >= 0 && label < 0) {
    (void)speech_fail(n->phrases, SPEECH_GRAMMAR_SIZE, n->phrases->items[item].position,
                      "more than 32767 names of slots: use fewer");
    return -1;
  }
  if (next < 0 || !add_arc(n, at, speech_number(n->phrases, item), label, next)) return -1;
  return next;
}

/* Adds the arcs of an expression, which begins at place 0. Returns the item after it; 0: it could
 * not. */
static uint32_t lay_phrase(network *n, uint32_t item, int32_t intent) {
  speech_phrases *p = n->phrases;
  int32_t depth = -1, at = 0, slot = -1;
  for (;; ++item) {
    frame *f = &n->frames[depth < 0 ? 0 : depth];
    uint32_t kind = speech_kind(p, item);
    if (kind == SPEECH_ITEM_WORD) {
      at = lay_word(n, at, item, slot);
      if (at < 0) return 0;
    } else if (kind == SPEECH_ITEM_SLOT) {
      int32_t label = speech_number(p, item + 1);
      if (!begin_frame(n, ++depth, at, 1)) return 0;
      n->frames[depth].item = item + 1;
      n->frames[depth].slot = slot;
      if (label > 0) slot = label - 1;
      item = (uint32_t)speech_name_at(p, speech_number(p, item))->list - 1;
    } else if (kind == SPEECH_ITEM_OPEN || kind == SPEECH_ITEM_OPTIONAL) {
      if (!begin_frame(n, ++depth, at, 0)) return 0;
      if (kind == SPEECH_ITEM_OPTIONAL && !add_arc(n, at, FREE, -1, n->frames[depth].end)) return 0;
    } else if (depth < 0) { /* the end */
      n->places[at].intent = intent;
      return item + 1;
    } else { /* of an alternative */
      if (!add_arc(n, at, FREE, -1, f->end)) return 0;
      at = f->begin;
      if (kind == SPEECH_ITEM_CLOSE || (f->is_slot && speech_kind(p, item + 1) == SPEECH_ITEM_LAST)) {
        at = f->end;
        --depth;
        if (f->is_slot) {
          item = f->item;
          slot = f->slot;
        }
      }
    }
  }
}

/* A place where a phrase ends may have been reached by others: each phrase has its own last place. */
static int lay_all(network *n) {
  speech_phrases *p = n->phrases;
  uint32_t item = p->intents_begin;
  int32_t intent = -1;
  if (add_place(n) < 0) return 0;
  while (item < p->intents_end) {
    uint32_t kind = speech_kind(p, item);
    if (kind == SPEECH_ITEM_INTENT || kind == SPEECH_ITEM_LAST) {
      intent += kind == SPEECH_ITEM_INTENT;
      ++item;
      continue;
    }
    item = lay_phrase(n, item, intent);
    if (item == 0) return 0;
  }
  return 1;
}

static set *set_at(const network *n, int32_t place_of_set) {
  return (set *)(void *)(n->phrases->room->base + 8 * (size_t)place_of_set);
}

/* Takes all places that free arcs reach from the first `count` of the list, sorts them, and leaves
 * out those with only free arcs. Returns their number. */
static int32_t reach(network *n, int32_t count) {
  int32_t i, kept = 0;
  for (i = 0; i < count; ++i) {
    int32_t number = n->places[n->list[i]].arc;
    for (; number >= 0; number = arc_at(n, number)->next) {
      int32_t target = arc_at(n, number)->target;
      if (arc_at(n, number)->word != FREE || n->marks[target] == n->mark) continue;
      n->marks[target] = n->mark;
      n->list[count++] = (uint64_t)target;
    }
  }
  n->steps += (uint32_t)count;
  for (i = 0; i < count; ++i) {
    const place *x = &n->places[n->list[i]];
    int32_t number = x->arc;
    while (number >= 0 && arc_at(n, number)->word == FREE) number = arc_at(n, number)->next;
    if (number >= 0 || x->intent >= 0) n->list[kept++] = n->list[i];
  }
  speech_sort(n->list, (size_t)kept);
  return kept;
}

/* The number of the state of the first `count` places of the list; -1: it could not be added. */
static int32_t state_of(network *n, int32_t count, int32_t before, int32_t word) {
  uint32_t hash = 2166136261u;
  int32_t i, found, *bucket;
  size_t bytes = sizeof(set) + sizeof(int32_t) * (size_t)count;
  set *added;
  for (i = 0; i < count; ++i) hash = (hash ^ (uint32_t)n->list[i]) * 16777619u;
  bucket = &n->buckets[(hash ^ hash >> 15) & n->bucket_mask];
  for (found = *bucket; found >= 0; found = set_at(n, found)->next) {
    const set *s = set_at(n, found);
    if (s->count != count) continue;
    for (i = 0; i < count && s->places[i] == (int32_t)n->list[i]; ++i) continue;
    if (i == count) return s->number;
  }
  if (n->state_count == MOST_STATES) {
    (void)speech_fail(n->phrases, SPEECH_GRAMMAR_SIZE, 0,
                      "more than 100000 states: use fewer alternatives side by side");
    return -1;
  }
  found = (int32_t)(n->phrases->room->low / 8);
  added = (set *)speech_room_low(n->phrases->room, bytes, 1);
  if (added == NULL) return (void)speech_phrases_full(n->phrases), -1;
  added->next = *bucket;
  added->before = before;
  added->word = word;
  added->intent = -1;
  added->number = n->state_count;
  added->count = count;
  for (i = 0; i < count; ++i) added->places[i] = (int32_t)n->list[i];
  *bucket = found;
  return n->state_count++;
}

int speech_words_ambiguous(speech_phrases *p, const uint64_t *words, uint32_t count, int32_t one,
                           int32_t other) {
  uint32_t item, written = 0;
  int32_t intent = -1, names[2] = {-1, -1};
  for (item = p->intents_begin; item < p->intents_end; ++item) {
    if (speech_kind(p, item) != SPEECH_ITEM_INTENT) continue;
    ++intent;
    if (intent == one) names[0] = speech_number(p, item);
    if (intent != other) continue;
    names[1] = speech_number(p, item);
    (void)speech_fail(p, SPEECH_GRAMMAR_AMBIGUITY, p->items[item].position, "\"");
  }
  for (; count > 0 && written < 120; --count) {
    const speech_name *word = speech_name_at(p, (int32_t)words[count - 1]);
    char shown[SPEECH_MOST_LETTERS + 2];
    uint32_t length = word->length;
    memcpy(shown, p->chars + word->place, length);
    if (count > 1) shown[length++] = ' ';
    shown[length] = '\0';
    speech_say(p, shown);
    written += length;
  }
  speech_say(p, count > 0 ? "...\" is both " : "\" is both ");
  speech_quote_name(p, names[0]);
  speech_say(p, " and ");
  speech_quote_name(p, names[1]);
  speech_say(p, ": take it out of one of them");
  return 0;
}

/* Sets the intent of a state; refuses two. */
static int set_intent(network *n, set *s, int32_t own) {
  int32_t one = -1, other = -1, i;
  for (i = 0; i < s->count; ++i) {
    int32_t intent = n->places[s->places[i]].intent;
    if (intent < 0 || intent == one || intent == other) continue;
    if (one < 0 || intent < one) {
      other = one;
      one = intent;
    } else if (other < 0 || intent < other) {
      other = intent;
    }
  }
  s->intent = one;
  if (other < 0) return 1;
  for (i = 0; set_at(n, own)->before >= 0; own = set_at(n, own)->before) {
    n->list[i++] = (uint64_t)set_at(n, own)->word;
  }
  return speech_words_ambiguous(n->phrases, n->list, (uint32_t)i, one, other);
}

/* Adds the arcs of a state, and the states that they lead to. */
static int expand(network *n, int32_t own) {
  set *s = set_at(n, own);
  size_t keys = 0, i;
  int32_t k;
  s->first = n->found_count;
  if (!set_intent(n, s, own)) return 0;
  for (k = 0; k < s->count; ++k) {
    int32_t number = n->places[s->places[k]].arc;
    for (; number >= 0; number = arc_at(n, number)->next) {
      const arc *a = arc_at(n, number);
      if (a->word == FREE) continue;
      n->keys[keys++] =
          speech_arc((uint64_t)a->word, (uint64_t)(a->slot + 1), (uint64_t)a->target);
    }
  }
  speech_sort(n->keys, keys);
  for (i = 0; i < keys;) {
    speech_word_arc label = n->keys[i] >> 24, *added;
    int32_t count = 0;
    ++n->mark;
    for (; i < keys && n->keys[i] >> 24 == label; ++i) {
      int32_t target = speech_arc_target(n->keys[i]);
      if (n->marks[target] == n->mark) continue;
      n->marks[target] = n->mark;
      n->list[count++] = (uint64_t)target;
    }
    count = state_of(n, reach(n, count), own, speech_arc_word(label << 24));
    if (count < 0) return 0;
    if (n->steps > MOST_STEPS) {
      return speech_fail(n->phrases, SPEECH_GRAMMAR_SIZE, 0,
                         "too much is left open: use fewer optional words side by side, or fewer "
                         "ways to say the same");
    }
    added = (speech_word_arc *)speech_room_high(n->phrases->room, 1, sizeof *added);
    if (added == NULL) return speech_phrases_full(n->phrases);
    if (n->found_count++ == 0) n->found = added;
    *added = label << 24 | (uint64_t)count;
  }
  return 1;
}

/* Makes a state for each set of places that the same labels reach. */
static int determine(network *n, int32_t *first) {
  speech_room *room = n->phrases->room;
  uint64_t places = (uint64_t)n->place_count, buckets = 16, i;
  int32_t own, count;
  while (buckets < places / 2) buckets *= 2;
  n->marks = (uint32_t *)speech_room_low(room, places, sizeof *n->marks);
  n->list = (uint64_t *)speech_room_low(room, places, sizeof *n->list);
  n->keys = (uint64_t *)speech_room_low(room, (uint64_t)n->labelled, sizeof *n->keys);
  n->buckets = (int32_t *)speech_room_low(room, buckets, sizeof *n->buckets);
  if (n->marks == NULL || n->list == NULL || n->keys == NULL || n->buckets == NULL) {
    return speech_phrases_full(n->phrases);
  }
  n->bucket_mask = (uint32_t)buckets - 1;
  for (i = 0; i < buckets; ++i) n->buckets[i] = -1;
  memset(n->marks, 0, (size_t)places * sizeof *n->marks);
  *first = own = (int32_t)(room->low / 8);
  n->list[0] = 0;
  n->marks[0] = n->mark = 1;
  if (state_of(n, reach(n, 1), -1, 0) < 0) return 0;
  for (count = 0; count < n->state_count; ++count) {
    if (!expand(n, own)) return 0;
    own += (int32_t)((sizeof(set) + sizeof(int32_t) * (size_t)set_at(n, own)->count + 7) / 8);
  }
  return 1;
}

/* Leaves of the network only the states and their arcs, at `low`. */
static int compact(network *n, int32_t own, size_t low, size_t high, speech_words *w) {
  speech_room *room = n->phrases->room;
  speech_word_arc *last = n->found_count == 0 ? NULL : n->found - (n->found_count - 1), *arcs;
  uint32_t i;
  w->count = n->state_count;
  w->states = (speech_word_state *)(void *)(room->base + low);
  for (i = 0; i < (uint32_t)w->count; ++i) { /* a set is larger than a state, and behind it */
    const set *s = set_at(n, own);
    speech_word_state state = {-1, 0, 0};
    state.final = s->intent;
    state.first = s->first;
    own += (int32_t)((sizeof *s + sizeof(int32_t) * (size_t)s->count + 7) / 8);
    w->states[i] = state;
    if (i > 0) w->states[i - 1].end = state.first;
  }
  w->states[w->count - 1].end = n->found_count;
  room->low = low;
  (void)speech_room_low(room, (uint64_t)w->count, sizeof *w->states);
  for (i = 0; i < n->found_count / 2; ++i) { /* they lie downwards */
    speech_word_arc swapped = last[i];
    last[i] = n->found[-(ptrdiff_t)i];
    n->found[-(ptrdiff_t)i] = swapped;
  }
  room->high = high;
  arcs = (speech_word_arc *)speech_room_low(room, n->found_count, sizeof *arcs);
  if (arcs == NULL) return speech_phrases_full(n->phrases);
  if (n->found_count > 0) memmove(arcs, last, n->found_count * sizeof *arcs);
  w->arcs = arcs;
  return 1;
}

int speech_words_build(speech_phrases *p, speech_words *w) {
  network *n = (network *)speech_room_low(p->room, 1, sizeof *n);
  size_t low = p->room->low, high = p->room->high;
  int32_t first = 0;
  if (n == NULL) return speech_phrases_full(p);
  memset(n, 0, sizeof *n);
  n->phrases = p;
  if (!lay_all(n) || !determine(n, &first) || !compact(n, first, low, high, w)) return 0;
  w->label_count = n->label_count;
  return speech_words_merge(p, w);
}
