/* Phrases that are too large, endless or empty; see speech_phrases.h. */
#include <string.h>

#include "speech_read.h"

#define MOST_WORDS 200000 /* of all expressions, their slots written out */

/* Adds the size of a phrase to one of its alternatives. Returns the item after it. */
static uint32_t measure(const speech_phrases *p, uint32_t item, speech_name *size) {
  uint64_t silent = 1, empty = 0; /* by depth: this alternative so far; or one before it */
  int32_t depth = 0;
  for (; speech_kind(p, item) != SPEECH_ITEM_END; ++item) {
    const speech_name *slot;
    uint64_t here = (uint64_t)1 << depth;
    switch (speech_kind(p, item)) {
      case SPEECH_ITEM_OPEN:
      case SPEECH_ITEM_OPTIONAL:
        here <<= 1;
        silent |= here;
        empty = speech_kind(p, item) == SPEECH_ITEM_OPTIONAL ? empty | here : empty & ~here;
        if (++depth > size->depth) size->depth = depth;
        break;
      case SPEECH_ITEM_COMMA:
        empty |= silent & here;
        silent |= here;
        break;
      case SPEECH_ITEM_CLOSE:
        --depth;
        if (!((empty | silent) & here)) silent &= ~(here >> 1);
        break;
      case SPEECH_ITEM_SLOT:
        slot = speech_name_at(p, speech_number(p, item++));
        if (!slot->may_be_empty) silent &= ~here;
        if (depth + 1 + slot->depth > size->depth) size->depth = depth + 1 + slot->depth;
        size->words += slot->words;
        break;
      default:
        silent &= ~here;
        ++size->words;
    }
    if (size->words > MOST_WORDS) size->words = MOST_WORDS + 1;
  }
  size->may_be_empty |= (int32_t)(silent & 1);
  return item + 1;
}

static int refuse_circle(speech_phrases *p, int32_t slot, uint32_t position) {
  (void)speech_fail(p, SPEECH_GRAMMAR_SLOT, position, "");
  speech_quote_name(p, slot);
  speech_say(p, " contains itself: break the circle");
  return 0;
}

/* Sets the size of a slot that has none yet, and of those in it; refuses those that are endless. */
static int measure_slot(speech_phrases *p, int32_t slot) {
  int32_t above = 0;
  p->above[0].name = slot;
  p->above[0].item = (uint32_t)speech_name_at(p, slot)->list;
  while (above >= 0) {
    speech_name *n = speech_name_at(p, p->above[above].name);
    uint32_t item = p->above[above].item++;
    n->measured = 1;
    if (speech_kind(p, item) == SPEECH_ITEM_SLOT) {
      int32_t inner = speech_number(p, item);
      if (speech_name_at(p, inner)->measured == 2) continue;
      if (speech_name_at(p, inner)->measured == 1) {
        return refuse_circle(p, inner, p->items[item].position);
      }
      if (++above == SPEECH_DEEPEST + 2) {
        return speech_fail(p, SPEECH_GRAMMAR_SIZE, p->items[item].position,
                           "slots lie more than 60 deep: use fewer");
      }
      p->above[above].name = inner;
      p->above[above].item = (uint32_t)speech_name_at(p, inner)->list;
    } else if (speech_kind(p, item) == SPEECH_ITEM_LAST) {
      for (item = (uint32_t)n->list; speech_kind(p, item) != SPEECH_ITEM_LAST;) {
        item = measure(p, item, n);
      }
      if (n->words > MOST_WORDS || n->depth > SPEECH_DEEPEST) {
        (void)speech_fail(p, SPEECH_GRAMMAR_SIZE, p->items[n->list].position, "");
        speech_quote_name(p, p->above[above].name);
        speech_say(p, " holds more than 200000 words, or lies more than 60 deep: use fewer");
        return 0;
      }
      n->measured = 2;
      --above;
    }
  }
  return 1;
}

/* Refuses expressions that are too large, or may be silence. */
static int check_expressions(speech_phrases *p) {
  uint32_t item = p->intents_begin;
  int32_t words = 0;
  while (item < p->intents_end) {
    uint32_t position = p->items[item].position;
    speech_name size;
    if (speech_kind(p, item) == SPEECH_ITEM_INTENT || speech_kind(p, item) == SPEECH_ITEM_LAST) {
      ++item;
      continue;
    }
    memset(&size, 0, sizeof size);
    item = measure(p, item, &size);
    words += size.words;
    if (size.may_be_empty) {
      return speech_fail(p, SPEECH_GRAMMAR_SILENCE, position,
                         "a phrase that may be silence: add a word");
    }
    if (size.depth > SPEECH_DEEPEST || words > MOST_WORDS) {
      return speech_fail(p, SPEECH_GRAMMAR_SIZE, position,
                         "more than 200000 words up to here, or more than 60 deep: use fewer");
    }
  }
  return 1;
}

int speech_check_sizes(speech_phrases *p) {
  int32_t name;
  for (name = 0; name < p->name_count; ++name) {
    const speech_name *n = speech_name_at(p, name);
    if (n->list >= 0 && n->measured == 0 && !measure_slot(p, name)) return 0;
  }
  return check_expressions(p);
}
