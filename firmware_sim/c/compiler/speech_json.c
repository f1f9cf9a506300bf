/* See speech_json.h. */
#include "speech_json.h"

#define DEEPEST 20 /* arrays and objects in each other */

static int32_t hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* The number of \u and four digits at a place; -1: they are not there. */
static int32_t unit_at(const speech_span *s, uint32_t at) {
  int32_t value = 0, i;
  if (s->end - at < 6 || s->text[at] != '\\' || s->text[at + 1] != 'u') return -1;
  for (i = 2; i < 6; ++i) {
    int32_t digit = hexadecimal(s->text[at + (uint32_t)i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

static uint32_t next_escaped(speech_span *s) {
  static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
  int32_t unit = unit_at(s, s->at), low;
  uint32_t i;
  if (unit < 0) { /* the text is JSON: there is a character */
    char c = s->text[s->at + 1];
    s->at += 2;
    for (i = 0; i < 5; ++i) {
      if (from[i] == c) return (uint32_t)to[i];
    }
    return (uint8_t)c;
  }
  s->at += 6;
  if (unit < 0xd800 || unit > 0xdfff) return (uint32_t)unit;
  low = unit_at(s, s->at);
  if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff) return 0xfffd;
  s->at += 6;
  return 0x10000u + ((uint32_t)(unit - 0xd800) << 10 | (uint32_t)(low - 0xdc00));
}

uint32_t speech_next(speech_span *s) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  uint32_t count = 1, value, i;
  uint8_t first;
  if (s->at >= s->end) return SPEECH_NO_CHARACTER;
  first = (uint8_t)s->text[s->at];
  if (first == '\\' && s->escapes) return next_escaped(s);
  value = first;
  if (first >= 0x80) {
    count = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    value = first & (0x7fu >> count);
    if (first < 0xc2 || first > 0xf4 || count > s->end - s->at) return SPEECH_NO_CHARACTER;
  }
  for (i = 1; i < count; ++i) {
    uint8_t more = (uint8_t)s->text[s->at + i];
    if ((more & 0xc0) != 0x80) return SPEECH_NO_CHARACTER;
    value = value << 6 | (more & 0x3fu);
  }
  if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return SPEECH_NO_CHARACTER;
  if (count > 1 && value < least[count]) return SPEECH_NO_CHARACTER;
  s->at += count;
  return value;
}

int speech_is_utf8(const char *text, uint32_t bytes, uint32_t *place) {
  speech_span all = {NULL, 0, 0, 0};
  all.text = text;
  all.end = bytes;
  while (all.at < bytes) {
    *place = all.at;
    if (speech_next(&all) == SPEECH_NO_CHARACTER) return 0;
  }
  return 1;
}

uint32_t speech_skip_space(const char *text, uint32_t bytes, uint32_t at) {
  while (at < bytes &&
         (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) ++at;
  return at;
}

/* The place after a string that begins at a place; `bytes` + 1: it has no end, or no string. */
static uint32_t after_string(const char *text, uint32_t bytes, uint32_t at) {
  if (at >= bytes || text[at] != '"') return bytes + 1;
  for (++at; at < bytes; ++at) {
    if (text[at] == '"') return at + 1;
    if (text[at] != '\\') continue;
    if (++at == bytes) break;
    if (text[at] == 'u') {
      speech_span span = {NULL, 0, 0, 1};
      span.text = text;
      span.end = bytes;
      if (unit_at(&span, at - 1) < 0) break;
    }
  }
  return bytes + 1;
}

static int is_of_scalar(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
         c == '-' || c == '.';
}

/* The place after a string, number, true, false or null. */
static uint32_t after_scalar(const char *text, uint32_t bytes, uint32_t at) {
  uint32_t begin = at;
  if (at < bytes && text[at] == '"') return after_string(text, bytes, at);
  while (at < bytes && is_of_scalar(text[at])) ++at;
  return at > begin ? at : bytes + 1;
}

/* The value of a member whose name begins at a place; `bytes` + 1: there is none. */
static uint32_t value_after(const char *text, uint32_t bytes, uint32_t at) {
  uint32_t after = after_string(text, bytes, at);
  if (after > bytes) return bytes + 1;
  after = speech_skip_space(text, bytes, after);
  return after < bytes && text[after] == ':' ? speech_skip_space(text, bytes, after + 1)
                                             : bytes + 1;
}

int speech_is_json(const char *text, uint32_t bytes, uint32_t *place) {
  uint32_t objects = 0, depth = 0, at = speech_skip_space(text, bytes, *place), after;
  int open = 0; /* whether a bracket was just opened */
  for (;;) {
    int is_object = depth > 0 && (objects >> (depth - 1) & 1);
    *place = at < bytes ? at : bytes;
    if (at >= bytes) return 0;
    if (!open || text[at] != (is_object ? '}' : ']')) {
      if (is_object) at = value_after(text, bytes, at);
      if (at >= bytes) return 0;
      if (text[at] == '{' || text[at] == '[') {
        if (depth == DEEPEST) return 0;
        objects = (objects & ~(1u << depth)) | (uint32_t)(text[at] == '{') << depth;
        ++depth;
        open = 1;
        at = speech_skip_space(text, bytes, at + 1);
        continue;
      }
      after = after_scalar(text, bytes, at);
      if (after > bytes) return 0;
      at = speech_skip_space(text, bytes, after);
    }
    open = 0;
    while (depth > 0 && at < bytes && text[at] == (objects >> (depth - 1) & 1 ? '}' : ']')) {
      --depth;
      at = speech_skip_space(text, bytes, at + 1);
    }
    *place = at;
    if (depth == 0) return at == bytes;
    if (at >= bytes || text[at] != ',') return 0;
    at = speech_skip_space(text, bytes, at + 1);
  }
}

/* The place after a value. */
static uint32_t after_value(const char *text, uint32_t bytes, uint32_t at) {
  uint32_t depth = 0;
  do {
    char c = text[at];
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    at = c == '"' ? after_string(text, bytes, at) : at + 1;
  } while (depth > 0 && at < bytes);
  while (at < bytes && is_of_scalar(text[at])) ++at;
  return at;
}

int speech_next_value(const char *text, uint32_t bytes, uint32_t *at, uint32_t *value) {
  *value = speech_skip_space(text, bytes, *at);
  if (*value < bytes && text[*value] == ',') *value = speech_skip_space(text, bytes, *value + 1);
  if (*value >= bytes || text[*value] == ']' || text[*value] == '}') return 0;
  *at = after_value(text, bytes, *value);
  return 1;
}

int speech_next_member(const char *text, uint32_t bytes, uint32_t *at, speech_member *member) {
  uint32_t name;
  if (!speech_next_value(text, bytes, at, &name)) return 0;
  member->name = speech_string_at(text, bytes, name);
  member->value = value_after(text, bytes, name);
  *at = after_value(text, bytes, member->value);
  return 1;
}

speech_span speech_string_at(const char *text, uint32_t bytes, uint32_t at) {
  speech_span found = {NULL, 0, 0, 1};
  found.text = text;
  found.at = at + 1;
  found.end = after_string(text, bytes, at) - 1;
  return found;
}
