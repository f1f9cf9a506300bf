/* See speech_compiler.h. */
#include "speech_compiler.h"

#include <string.h>

#include "speech_spelling.h"

#define REJECT_BELOW (-150902) /* log 0.1 in 1/65536: grammar/source.py has the same */

/* Where the next bytes of the block go; with a base of NULL they are only counted. */
typedef struct {
  uint8_t *base;
  size_t at;
} writer;

/* Whether the text of one name stands before that of another. */
static int is_text_before(const void *context, uint64_t a, uint64_t b) {
  const speech_phrases *p = (const speech_phrases *)context;
  const speech_name *x = speech_name_at(p, (int32_t)a), *y = speech_name_at(p, (int32_t)b);
  uint32_t i;
  for (i = 0; i < x->length && i < y->length; ++i) {
    uint8_t one = p->chars[x->place + i], other = p->chars[y->place + i];
    if (one != other) return one < other;
  }
  return x->length < y->length;
}

/* Numbers the words that occur, in the order of their letters. */
static int number_words(speech_spelling *c) {
  speech_phrases *p = c->phrases;
  const speech_words *w = &c->words;
  uint64_t *sorted;
  int32_t i;
  uint32_t k;
  c->word_count = 0;
  for (i = 0; i < w->order_count; ++i) {
    const speech_word_state *s = &w->states[w->order[i]];
    for (k = s->first; k < s->end; ++k) {
      speech_name *name = speech_name_at(p, speech_arc_word(w->arcs[k]));
      c->word_count += name->number < 0;
      name->number = 0;
    }
  }
  c->names = (int32_t *)speech_room_low(p->room, (uint64_t)c->word_count, sizeof *c->names);
  sorted = (uint64_t *)speech_room_low(p->room, (uint64_t)c->word_count, sizeof *sorted);
  if (c->names == NULL || sorted == NULL) return speech_phrases_full(p);
  for (i = 0, k = 0; i < p->name_count; ++i) {
    if (speech_name_at(p, i)->number == 0) sorted[k++] = (uint64_t)i;
  }
  speech_sort_by(sorted, k, is_text_before, p);
  for (i = 0; i < c->word_count; ++i) {
    c->names[i] = (int32_t)sorted[i];
    speech_name_at(p, c->names[i])->number = i;
  }
  p->room->low -= ((size_t)c->word_count * sizeof *sorted + 7) & ~(size_t)7;
  return 1;
}

/* Finds the ways to say a word: those of the grammar before others. */
static int pronounce(speech_spelling *c, int32_t word) {
  speech_phrases *p = c->phrases;
  const speech_name *name = speech_name_at(p, c->names[word]);
  const uint8_t *chars = p->chars;
  uint32_t item = (uint32_t)name->own;
  int32_t i;
  if (name->own >= 0) {
    for (; speech_kind(p, item) != SPEECH_ITEM_LAST; ++item) {
      const uint8_t *own = chars + speech_number(p, item);
      if (!speech_add_way(c, word, own + 2, own[0] | own[1] << 7)) return 0;
    }
    return 1;
  }
  if (!speech_pronounce(&c->pronouncer, (const char *)chars + name->place, (int32_t)name->length)) {
    p->status = SPEECH_ERROR_LEXICON;
    return 0;
  }
  for (i = 0; i < c->pronouncer.ways.count; ++i) {
    const speech_pronunciation *found = &c->pronouncer.ways.ways[i];
    if (!speech_add_way(c, word, found->phones, found->count)) return 0;
  }
  return 1;
}


/* Numbers the states that the first one reaches, in the order of their arcs, which it sorts. Returns
 * their number; -1: there is no room. */
static int32_t number_states(speech_spelling *c, int32_t first, uint32_t *arcs) {
  int32_t count = 1, i;
  c->order = (int32_t *)speech_room_low(c->phrases->room, (uint64_t)c->state_count,
                                        sizeof *c->order);
  if (c->order == NULL) return (void)speech_phrases_full(c->phrases), -1;
  c->order[0] = first;
  c->states[first].number = 0;
  *arcs = 0;
  for (i = 0; i < count; ++i) {
    const speech_phone_state *s = &c->states[c->order[i]];
    uint32_t size = s->end - s->first, k;
    uint64_t *sorted = speech_arcs_of(c, s);
    speech_sort(sorted, size);
    for (k = 0; k < size; ++k) {
      int32_t target = SPEECH_ARC_TARGET(sorted[k]);
      if (c->states[target].number >= 0) continue;
      c->states[target].number = count;
      c->order[count++] = target;
    }
    *arcs += size;
  }
  return count;
}

static void put(writer *w, const void *bytes, size_t count) {
  if (w->base != NULL) memcpy(w->base + w->at, bytes, count);
  w->at += count;
}

/* Goes on at a multiple of 4 bytes. */
static void align(writer *w) {
  static const uint8_t zeros[4] = {0, 0, 0, 0};
  put(w, zeros, (4 - w->at % 4) % 4);
}

static void put_number(writer *w, int32_t number, int32_t width) {
  int16_t narrow = (int16_t)number;
  put(w, width == 2 ? (const void *)&narrow : (const void *)&number, (size_t)width);
}

/* The strings of some names. */
static void put_strings(writer *w, const speech_phrases *p, const int32_t *names, int32_t count) {
  static const uint8_t zero = 0;
  uint32_t place = 0;
  int32_t i;
  for (i = 0; i < count; ++i) place += speech_name_at(p, names[i])->length + 1;
  put_number(w, count, 4);
  put_number(w, (int32_t)place, 4);
  for (i = 0, place = 0; i < count; ++i) {
    put_number(w, (int32_t)place, 4);
    place += speech_name_at(p, names[i])->length + 1;
  }
  put_number(w, (int32_t)place, 4);
  for (i = 0; i < count; ++i) {
    const speech_name *name = speech_name_at(p, names[i]);
    put(w, p->chars + name->place, name->length);
    put(w, &zero, 1);
  }
  align(w);
}

/* A column of the table of arcs. */
enum column { TARGETS, PHONES, SLOTS, WORDS };

static void put_column(writer *w, const speech_spelling *c, int32_t states, enum column column,
                       int32_t width) {
  int32_t i;
  for (i = 0; i < states; ++i) {
    const speech_phone_state *s = &c->states[c->order[i]];
    const uint64_t *arcs = speech_arcs_of(c, s);
    uint32_t k;
    for (k = 0; k < s->end - s->first; ++k) {
      int32_t value = c->states[SPEECH_ARC_TARGET(arcs[k])].number;
      if (column == PHONES) value = (int32_t)SPEECH_ARC_PHONE(arcs[k]);
      if (column == SLOTS) value = SPEECH_ARC_SLOT(arcs[k]) - 1;
      if (column == WORDS) value = (int32_t)SPEECH_ARC_WORD(arcs[k]);
      put_number(w, value, width);
    }
  }
  align(w);
}

/* The intents, then the slots of results, as names. NULL: there is no room. */
static int32_t *list_names(speech_spelling *c) {
  speech_phrases *p = c->phrases;
  int32_t *names = (int32_t *)speech_room_low(
      p->room, (uint64_t)p->intent_count + (uint64_t)c->words.label_count, sizeof *names);
  int32_t count = 0, i;
  uint32_t item;
  if (names == NULL) return NULL;
  for (item = p->intents_begin; item < p->intents_end; ++item) {
    if (speech_kind(p, item) == SPEECH_ITEM_INTENT) names[count++] = speech_number(p, item);
  }
  for (i = 0; i < p->name_count; ++i) {
    int32_t label = speech_name_at(p, i)->label;
    if (label >= 0) names[count + label] = i;
  }
  return names;
}

/* The section of the grammar; see speech_core.h. */
static void put_section(writer *w, const speech_spelling *c, const speech_automaton_numbers *numbers,
                        const int32_t *names) {
  speech_word_numbers words = {0, 0, 0};
  int32_t i, arcs = 0;
  put(w, numbers, sizeof *numbers);
  for (i = 0; i <= numbers->states; ++i) {
    put_number(w, arcs, numbers->width);
    if (i == numbers->states) break;
    arcs += (int32_t)(c->states[c->order[i]].end - c->states[c->order[i]].first);
  }
  align(w);
  put_column(w, c, numbers->states, TARGETS, numbers->width);
  put_column(w, c, numbers->states, PHONES, 2);
  put_column(w, c, numbers->states, SLOTS, 2);
  for (i = 0; i < numbers->states; ++i) put_number(w, c->states[c->order[i]].final, 2);
  align(w);
  put_strings(w, c->phrases, names, numbers->intents + numbers->slots);
  words.words = c->word_count;
  put(w, &words, sizeof words);
  put_column(w, c, numbers->states, WORDS, numbers->width);
  put_strings(w, c->phrases, c->names, c->word_count);
  put_strings(w, c->phrases, NULL, 0);
  put_strings(w, c->phrases, NULL, 0);
}

/* Writes the block to the beginning of the room. Returns whether it could. */
static int write_block(speech_spelling *c, int32_t first, int32_t frames, size_t *size) {
  speech_automaton_numbers n;
  writer counted = {NULL, 0}, w = {NULL, 0};
  uint32_t arcs, head[7];
  speech_room *room = c->phrases->room;
  int32_t *names = list_names(c);
  memset(&n, 0, sizeof n);
  n.states = number_states(c, first, &arcs);
  if (n.states < 0 || names == NULL) return speech_phrases_full(c->phrases);
  n.arcs = (int32_t)arcs;
  n.intents = c->phrases->intent_count;
  n.slots = c->words.label_count;
  n.between = -1;
  n.commands = frames / c->states[first].shortest;
  if (n.commands < 1) n.commands = 1;
  n.concurrent = 1;
  n.reject_below = REJECT_BELOW;
  n.width = n.states < 65536 && n.arcs < 65536 && c->word_count < 65536 ? 2 : 4;
  put_section(&counted, c, &n, names);
  head[0] = SPEECH_BLOCK_MAGIC;
  head[1] = SPEECH_BLOCK_VERSION;
  head[2] = (uint32_t)(sizeof head + counted.at);
  head[3] = 1;
  head[4] = SPEECH_SECTION_PHONE_AUTOMATON | 1u << 16;
  head[5] = sizeof head;
  head[6] = (uint32_t)counted.at;
  w.base = (uint8_t *)speech_room_low(room, head[2], 1);
  if (w.base == NULL) return speech_phrases_full(c->phrases);
  put(&w, head, sizeof head);
  put_section(&w, c, &n, names);
  *size = w.at;
  memmove(room->base, w.base, w.at);
  return 1;
}

/* Compiles what was read. Returns whether it could. */
static int compile(speech_phrases *p, speech_spelling *c, int32_t frames, size_t *size) {
  int32_t first, i;
  if (!speech_phrases_read(p) || !speech_words_build(p, &c->words) ||
      !speech_words_check(p, &c->words) || !number_words(c)) return 0;
  for (i = 0; i < c->word_count; ++i) {
    if (!pronounce(c, i)) return 0;
  }
  first = speech_spell(c);
  return first >= 0 && write_block(c, first, frames, size);
}

int speech_compile(const void *block, size_t block_bytes, const void *lexicon,
                   size_t lexicon_bytes, const char *text, size_t text_bytes, void *buffer,
                   size_t bytes, size_t *size, speech_grammar_error *error) {
  speech_room room = {NULL, 0, 0};
  speech_core core;
  speech_phrases *p;
  speech_spelling *c;
  memset(error, 0, sizeof *error);
  if (speech_core_read(&core, block, block_bytes) != SPEECH_OK || core.phones == NULL ||
      core.phones->count != SPEECH_PHONES) return SPEECH_ERROR_BLOCK;
  if (buffer == NULL || (uintptr_t)buffer % 8 != 0) return SPEECH_ERROR_MEMORY;
  room.base = (uint8_t *)buffer;
  room.high = bytes & ~(size_t)7;
  p = (speech_phrases *)speech_room_low(&room, 1, sizeof *p);
  c = (speech_spelling *)speech_room_low(&room, 1, sizeof *c);
  if (p == NULL || c == NULL) return SPEECH_ERROR_MEMORY;
  memset(p, 0, sizeof *p);
  memset(c, 0, sizeof *c);
  if (!speech_lexicon_open(&c->lexicon, lexicon, lexicon_bytes)) return SPEECH_ERROR_LEXICON;
  c->pronouncer.lexicon = &c->lexicon;
  c->phrases = p;
  p->room = &room;
  p->error = error;
  p->status = SPEECH_OK;
  p->text = text;
  p->bytes = text_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)text_bytes;
  return compile(p, c, core.numbers->memory_frames, size) ? SPEECH_OK : p->status;
}
