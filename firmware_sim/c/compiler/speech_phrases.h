/* A grammar's text as phrases: the words, slots and brackets of its expressions and values. The same
 * rules as those of grammar/reader.py of the Python side.
 */
#ifndef SPEECH_PHRASES_H
#define SPEECH_PHRASES_H

#include "speech_compiler.h"
#include "speech_core.h"
#include "speech_json.h"
#include "speech_lexicon.h"
#include "speech_room.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_DEEPEST 60 /* brackets and slots in each other */

/* An item's code is 16 times a number, plus its kind. */
enum speech_item_kind {
  SPEECH_ITEM_WORD,     /* number of the name */
  SPEECH_ITEM_SLOT,     /* likewise; the next item is its label */
  SPEECH_ITEM_LABEL,    /* 0, or 1 more than the name of the slot in results */
  SPEECH_ITEM_OPEN,     /* of alternatives */
  SPEECH_ITEM_OPTIONAL, /* of optional ones */
  SPEECH_ITEM_COMMA,
  SPEECH_ITEM_CLOSE,
  SPEECH_ITEM_END,    /* of a phrase */
  SPEECH_ITEM_LAST,   /* of a list of phrases, or of pronunciations */
  SPEECH_ITEM_INTENT, /* before its phrases; number of the name */
  SPEECH_ITEM_PHONES  /* where their number and they are, among the characters */
};

typedef struct {
  uint32_t code;
  uint32_t position; /* in the text */
} speech_item;

/* A word, a slot, an intent, or all of these: what is written once. */
typedef struct {
  uint32_t place, length; /* among the characters */
  int32_t next;           /* with the same hash; -1: none */
  int32_t list;           /* first item of a slot's values; -1: it is no slot */
  int32_t label;          /* number of the slot in results; -1: none has the name */
  int32_t number;         /* of a word that occurs; -1: it does not */
  int32_t own;            /* first item of its pronunciations in the grammar; -1: none */
  int32_t is_intent;
  /* Of a slot's values, all slots in them written out. */
  int32_t words, depth, may_be_empty;
  int32_t measured; /* 0, 1 while it is, 2 */
} speech_name;

typedef struct {
  const char *text;
  uint32_t bytes;
  speech_room *room;
  speech_grammar_error *error;
  int status;         /* why reading or compiling failed */
  speech_item *items; /* at the lower end of the room */
  uint32_t item_count;
  speech_name *names; /* at the upper end, downwards */
  int32_t name_count, intent_count;
  uint8_t *chars;
  uint32_t char_count, char_limit;
  int32_t *buckets;
  uint32_t bucket_mask;
  uint32_t intents_begin, intents_end; /* items */
  speech_pronunciation spoken;
  struct {
    int32_t name;
    uint32_t item;
  } above[SPEECH_DEEPEST + 2]; /* slots that contain each other */
} speech_phrases;

static inline speech_name *speech_name_at(const speech_phrases *p, int32_t number) {
  return p->names - number;
}

static inline uint32_t speech_kind(const speech_phrases *p, uint32_t item) {
  return p->items[item].code & 15;
}

static inline int32_t speech_number(const speech_phrases *p, uint32_t item) {
  return (int32_t)(p->items[item].code >> 4);
}

/* Reads and checks a text. Returns whether it could; if not, see `status`. */
int speech_phrases_read(speech_phrases *p);

/* Notes that there is too little memory; returns 0. */
int speech_phrases_full(speech_phrases *p);

/* Begins an error, whose message the next functions write. Returns 0. */
int speech_fail(speech_phrases *p, enum speech_grammar_fault fault, uint32_t position,
                const char *text);

/* Adds to the message a text, or at most 60 bytes of one in quotes. */
void speech_say(speech_phrases *p, const char *text);
void speech_quote(speech_phrases *p, const void *text, uint32_t length);
void speech_quote_name(speech_phrases *p, int32_t name);

/* The number of a name; it is added if it is new. -1: there is no room. */
int32_t speech_name_of(speech_phrases *p, uint32_t place);

#ifdef __cplusplus
}
#endif

#endif
