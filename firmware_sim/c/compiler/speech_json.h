/* A grammar's text: UTF-8, and JSON that is read in place. */
#ifndef SPEECH_JSON_H
#define SPEECH_JSON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_NO_CHARACTER 0xffffffffu

/* A part of a text: a line, or what a string of JSON holds. */
typedef struct {
  const char *text;
  uint32_t at, end; /* bytes */
  int escapes;      /* whether it has those of JSON */
} speech_span;

/* A member of an object. */
typedef struct {
  speech_span name;
  uint32_t value; /* where it begins */
} speech_member;

/* The next code point of a span; SPEECH_NO_CHARACTER: its end, or no UTF-8. */
uint32_t speech_next(speech_span *span);

/* Whether a text is in UTF-8. `place`: out, where it is not. */
int speech_is_utf8(const char *text, uint32_t bytes, uint32_t *place);

/* Whether a text is a value of JSON, from a place on. `place`: out, where it is not. All functions
 * below need such a text. */
int speech_is_json(const char *text, uint32_t bytes, uint32_t *place);

/* The place after white space. */
uint32_t speech_skip_space(const char *text, uint32_t bytes, uint32_t at);

/* Takes the next member of an object, or value of an array. `at` is behind the bracket first.
 * Returns whether there is one. */
int speech_next_member(const char *text, uint32_t bytes, uint32_t *at, speech_member *member);
int speech_next_value(const char *text, uint32_t bytes, uint32_t *at, uint32_t *value);

/* What the string holds that begins at a place. */
speech_span speech_string_at(const char *text, uint32_t bytes, uint32_t at);

#ifdef __cplusplus
}
#endif

#endif
