/* See speech_phrases.h. */
#include "speech_phrases.h"

#include <string.h>

#include "speech_pronunciation.h"
#include "speech_read.h"

/* What speech_next gives for what Python takes as white space. */
static int is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

static int is_bracket(uint32_t c) {
  return c == '[' || c == ']' || c == '(' || c == ')' || c == ',';
}

/* Letters of any language, digits and underlines; punctuation is below 0xc0, or from 0x2000 on. */
static int is_of_label(uint32_t c) {
  if (c >= 0x80) return c >= 0xc0 && c != SPEECH_NO_CHARACTER && !is_space(c) &&
                        !(c >= 0x2000 && c < 0x2070) && c != 0xd7 && c != 0xf7;
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

int speech_phrases_full(speech_phrases *p) {
  p->status = SPEECH_ERROR_MEMORY;
  return 0;
}

int speech_fail(speech_phrases *p, enum speech_grammar_fault fault, uint32_t position,
                const char *text) {
  uint32_t i;
  p->status = SPEECH_ERROR_GRAMMAR;
  p->error->fault = fault;
  p->error->position = position;
  p->error->line = 1;
  p->error->message[0] = '\0';
  for (i = 0; i < position && i < p->bytes; ++i) p->error->line += p->text[i] == '\n';
  speech_say(p, text);
  return 0;
}

/* Adds bytes to the message, as far as there is room. */
static void add_message(speech_phrases *p, const char *text, uint32_t length) {
  char *message = p->error->message;
  uint32_t at = speech_length(message);
  if (length > SPEECH_MESSAGE - 1 - at) length = SPEECH_MESSAGE - 1 - at;
  memcpy(message + at, text, length);
  message[at + length] = '\0';
}

void speech_say(speech_phrases *p, const char *text) {
  add_message(p, text, speech_length(text));
}

void speech_quote(speech_phrases *p, const void *text, uint32_t length) {
  const char *bytes = (const char *)text;
  uint32_t shown = length > 60 ? 60 : length;
  while (shown > 0 && shown < length && ((uint8_t)bytes[shown] & 0xc0) == 0x80) --shown;
  speech_say(p, "\"");
  add_message(p, bytes, shown);
  speech_say(p, shown < length ? "...\"" : "\"");
}

void speech_quote_name(speech_phrases *p, int32_t name) {
  const speech_name *n = speech_name_at(p, name);
  speech_quote(p, p->chars + n->place, n->length);
}

int32_t speech_name_of(speech_phrases *p, uint32_t place) {
  uint32_t hash = 2166136261u, length = p->char_count - place, i;
  int32_t *bucket, number;
  speech_name *added;
  for (i = 0; i < length; ++i) hash = (hash ^ p->chars[place + i]) * 16777619u;
  bucket = &p->buckets[(hash ^ hash >> 15) & p->bucket_mask];
  for (number = *bucket; number >= 0; number = speech_name_at(p, number)->next) {
    const speech_name *n = speech_name_at(p, number);
    if (n->length != length) continue;
    for (i = 0; i < length && p->chars[n->place + i] == p->chars[place + i]; ++i) continue;
    if (i < length) continue;
    p->char_count = place;
    return number;
  }
  added = (speech_name *)speech_room_high(p->room, 1, sizeof *added);
  if (added == NULL) return (void)speech_phrases_full(p), -1;
  if (p->name_count == 0) p->names = added;
  memset(added, 0, sizeof *added);
  added->place = place;
  added->length = length;
  added->next = *bucket;
  added->list = added->label = added->number = added->own = -1;
  *bucket = p->name_count;
  return p->name_count++;
}

int speech_add_item(speech_phrases *p, enum speech_item_kind kind, int32_t number,
                    uint32_t position) {
  speech_item *added = (speech_item *)speech_room_low(p->room, 1, sizeof *added);
  if (added == NULL) return speech_phrases_full(p);
  if (p->item_count == 0) p->items = added;
  added->code = (uint32_t)number << 4 | (uint32_t)kind;
  added->position = position;
  ++p->item_count;
  return 1;
}

int speech_add_char(speech_phrases *p, uint32_t c) {
  uint8_t bytes[4];
  uint32_t count = 1;
  bytes[0] = (uint8_t)c;
  if (c >= 0x80) {
    count = c >= 0x10000 ? 4 : c >= 0x800 ? 3 : 2;
    bytes[0] = (uint8_t)((0xf00u >> count & 0xf0u) | c >> 6 * (count - 1));
    bytes[1] = (uint8_t)(0x80u | (c >> 6 * (count - 2) & 0x3fu));
    if (count > 2) bytes[2] = (uint8_t)(0x80u | (c >> 6 * (count - 3) & 0x3fu));
    if (count > 3) bytes[3] = (uint8_t)(0x80u | (c & 0x3fu));
  }
  if (count > p->char_limit - p->char_count) return speech_phrases_full(p);
  memcpy(p->chars + p->char_count, bytes, count);
  p->char_count += count;
  return 1;
}

/* A character of a word: a letter or an apostrophe; else 0. */
static uint32_t letter_of(uint32_t c) {
  if (c >= 'A' && c <= 'Z') return c + ('a' - 'A');
  if (c == 0x2019) return '\'';
  return (c >= 'a' && c <= 'z') || c == '\'' ? c : 0;
}

/* Refuses what a span has before its place; returns -1. */
static int32_t refuse_word(speech_phrases *p, speech_span span, uint32_t begin, uint32_t place,
                           const char *reason) {
  span.end = span.at;
  span.at = begin;
  p->char_count = place;
  while (span.at < span.end) {
    if (!speech_add_char(p, speech_next(&span))) return -1;
  }
  (void)speech_fail(p, SPEECH_GRAMMAR_WORD, begin, "");
  speech_quote(p, p->chars + place, p->char_count - place);
  speech_say(p, reason);
  return -1;
}

int32_t speech_read_word(speech_phrases *p, speech_span *span) {
  uint32_t begin = span->at, place = p->char_count, letters = 0;
  int is_word = 1;
  while (span->at < span->end) {
    uint32_t at = span->at, c = speech_next(span);
    if (is_space(c) || is_bracket(c) || c == '$' || c == '@') {
      span->at = at;
      break;
    }
    c = letter_of(c);
    is_word = is_word && c != 0;
    letters += c != '\'';
    if (is_word && !speech_add_char(p, c)) return -1;
  }
  if (!is_word || letters == 0) {
    return refuse_word(p, *span, begin, place,
                       " cannot be said as it is written: spell it in the letters a to z");
  }
  if (p->char_count - place > SPEECH_MOST_LETTERS) {
    return refuse_word(p, *span, begin, place, " has more than 30 letters: write several words");
  }
  return speech_name_of(p, place);
}

/* Reads letters, digits and underlines; periods too where they may be. Returns whether there are
 * some. */
static int read_label(speech_phrases *p, speech_span *span, int periods) {
  uint32_t begin = span->at;
  while (span->at < span->end) {
    uint32_t at = span->at, c = speech_next(span);
    if (!is_of_label(c) && !(periods && c == '.')) {
      span->at = at;
      break;
    }
    if (!speech_add_char(p, c)) return 0;
  }
  return span->at > begin;
}

/* Reads $slot, $slot:name or @macro, behind its first character. */
static int read_slot(speech_phrases *p, speech_span *span, uint32_t first, int is_value) {
  uint32_t position = span->at - 1, place = p->char_count;
  speech_span ahead;
  int32_t slot, label;
  if (first == '@' && !speech_add_char(p, '@')) return 0;
  if (!read_label(p, span, 1)) {
    if (p->status != SPEECH_OK) return 0;
    return speech_fail(p, SPEECH_GRAMMAR_SYNTAX, position,
                       first == '$' ? "\"$\" without a name: write that of a slot after it"
                                    : "\"@\" without a name: write that of a macro after it");
  }
  slot = speech_name_of(p, place);
  if (slot < 0) return 0;
  label = first == '@' || is_value ? 0 : slot + 1;
  ahead = *span;
  if (first == '$' && speech_next(&ahead) == ':') {
    place = p->char_count;
    if (read_label(p, &ahead, 0)) {
      label = speech_name_of(p, place) + 1;
      if (label == 0) return 0;
      *span = ahead;
    }
  }
  return p->status == SPEECH_OK && speech_add_item(p, SPEECH_ITEM_SLOT, slot, position) &&
         speech_add_item(p, SPEECH_ITEM_LABEL, label, position);
}

/* The brackets around a place in a phrase, as bits. */
typedef struct {
  uint32_t depth;
  uint64_t optional;
  uint64_t filled; /* whether the alternative has a word */
} brackets;

static int read_bracket(speech_phrases *p, brackets *b, uint32_t c, uint32_t position) {
  uint64_t here = (uint64_t)1 << b->depth;
  int is_optional = (b->optional & here) != 0;
  if (c == '[' || c == '(') {
    if (b->depth == SPEECH_DEEPEST) {
      return speech_fail(p, SPEECH_GRAMMAR_SIZE, position,
                         "brackets lie more than 60 deep: use fewer");
    }
    b->filled |= here;
    ++b->depth;
    b->filled &= ~(here << 1);
    b->optional = (b->optional & ~(here << 1)) | (c == '(' ? here << 1 : 0);
    return speech_add_item(p, c == '(' ? SPEECH_ITEM_OPTIONAL : SPEECH_ITEM_OPEN, 0, position);
  }
  if (b->depth == 0 || (c != ',' && c != (uint32_t)(is_optional ? ')' : ']'))) {
    char shown = (char)c;
    (void)speech_fail(p, SPEECH_GRAMMAR_SYNTAX, position, "");
    speech_quote(p, &shown, 1);
    speech_say(p, " has no beginning: open a bracket before it, or remove it");
    return 0;
  }
  if (!(b->filled & here)) {
    return speech_fail(p, SPEECH_GRAMMAR_SYNTAX, position,
                       "an alternative has no words: write some, or remove the comma");
  }
  if (c == ',') {
    b->filled &= ~here;
    return speech_add_item(p, SPEECH_ITEM_COMMA, 0, position);
  }
  --b->depth;
  return speech_add_item(p, SPEECH_ITEM_CLOSE, 0, position);
}

int speech_read_phrase(speech_phrases *p, speech_span span, int is_value) {
  brackets b = {0, 0, 0};
  uint32_t begin = span.at;
  while (span.at < span.end) {
    uint32_t position = span.at, c = speech_next(&span);
    if (is_space(c)) continue;
    if (is_bracket(c)) {
      if (!read_bracket(p, &b, c, position)) return 0;
      continue;
    }
    b.filled |= (uint64_t)1 << b.depth;
    if (c == '$' || c == '@') {
      if (!read_slot(p, &span, c, is_value)) return 0;
    } else {
      int32_t word;
      span.at = position;
      word = speech_read_word(p, &span);
      if (word < 0 || !speech_add_item(p, SPEECH_ITEM_WORD, word, position)) return 0;
    }
  }
  if (b.depth > 0) {
    return speech_fail(p, SPEECH_GRAMMAR_SYNTAX, span.end,
                       (b.optional >> b.depth & 1) ? "\")\" is missing: close the bracket"
                                                   : "\"]\" is missing: close the bracket");
  }
  if (!(b.filled & 1)) {
    return speech_fail(p, SPEECH_GRAMMAR_SYNTAX, begin, "a text without words: write some");
  }
  return speech_add_item(p, SPEECH_ITEM_END, 0, begin);
}

int speech_is_blank(speech_span span) {
  while (span.at < span.end) {
    if (!is_space(speech_next(&span))) return 0;
  }
  return 1;
}
