/* Whole texts as phrases; see speech_phrases.h. */
#include "speech_read.h"

#include "speech_pronunciation.h"

#define MOST_BYTES 1000000 /* of a text */

#define ONES "one, two, three, four, five, six, seven, eight, nine"
#define TEENS \
  "ten, eleven, twelve, thirteen, fourteen, fifteen, sixteen, seventeen, eighteen, nineteen"
#define TENS "twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety"
#define FIRSTS "first, second, third, fourth, fifth, sixth, seventh, eighth, ninth"
#define TENTHS                                                                               \
  "tenth, eleventh, twelfth, thirteenth, fourteenth, fifteenth, sixteenth, seventeenth, "     \
  "eighteenth, nineteenth, twentieth, thirtieth, fortieth, fiftieth, sixtieth, seventieth, " \
  "eightieth, ninetieth"
#define TWO_DIGITS "zero, " ONES ", " TEENS ", [" TENS "] (" ONES ")"

/* Slots that a text need not define. */
static const struct {
  const char *name, *values;
} BUILT_IN[] = {
    {"pv.SingleDigitInteger", "[zero, " ONES "]"},
    {"pv.SingleDigitOrdinal", "[" FIRSTS "]"},
    {"pv.TwoDigitInteger", "[" TWO_DIGITS "]"},
    {"pv.TwoDigitOrdinal", "[" FIRSTS ", " TENTHS ", [" TENS "] [" FIRSTS "]]"},
    {"pv.Percent", "[" TWO_DIGITS ", [one, a] hundred] percent"},
};
#define BUILT_IN_CHARS 700 /* of their words */

/* The characters of a span as a name, behind a prefix; -1: they are not printable, or no room. */
static int32_t read_name(speech_phrases *p, speech_span span, const char *prefix,
                         const char *what) {
  uint32_t place = p->char_count, begin = span.at;
  int is_printable = !speech_is_blank(span);
  for (; *prefix != '\0'; ++prefix) {
    if (!speech_add_char(p, (uint32_t)*prefix)) return -1;
  }
  while (span.at < span.end && is_printable) {
    uint32_t c = speech_next(&span);
    is_printable = c >= 32 && !(c >= 127 && c < 160);
    if (!speech_add_char(p, c)) return -1;
  }
  if (!is_printable) {
    (void)speech_fail(p, SPEECH_GRAMMAR_FORM, begin, what);
    speech_say(p, " has no name, or one that cannot be printed: give it another");
    return -1;
  }
  return speech_name_of(p, place);
}

static int has_name(speech_span span, const char *name) {
  while (*name != '\0') {
    if (speech_next(&span) != (uint32_t)*name++) return 0;
  }
  return span.at == span.end;
}

/* Finds the member of an object. Its place; 0: there is none, or an error in `status`. */
static uint32_t find_member(speech_phrases *p, uint32_t object, const char *name, int is_needed) {
  speech_member member;
  uint32_t at = object + 1, found = 0;
  if (p->text[object] != '{') {
    (void)speech_fail(p, SPEECH_GRAMMAR_FORM, object, "it must be an object with \"");
    speech_say(p, name);
    speech_say(p, "\": write one");
    return 0;
  }
  while (speech_next_member(p->text, p->bytes, &at, &member)) {
    if (!has_name(member.name, name)) continue;
    if (found != 0) {
      (void)speech_fail(p, SPEECH_GRAMMAR_FORM, member.name.at, "\"");
      speech_say(p, name);
      speech_say(p, "\" is there twice: keep one");
      return 0;
    }
    found = member.value;
  }
  if (found == 0 && is_needed) {
    (void)speech_fail(p, SPEECH_GRAMMAR_FORM, object, "no \"");
    speech_say(p, name);
    speech_say(p, "\": add it with what people say");
  }
  if (found != 0 && !is_needed && p->text[found] == 'n') found = 0; /* null */
  return found;
}

/* Reads a list of phrases. */
static int read_list(speech_phrases *p, uint32_t list, int32_t name, int is_value) {
  uint32_t at = list + 1, value, count = 0;
  if (p->text[list] == '[') {
    for (; speech_next_value(p->text, p->bytes, &at, &value); ++count) {
      if (p->text[value] != '"') {
        (void)speech_fail(p, SPEECH_GRAMMAR_FORM, value, "");
        speech_quote_name(p, name);
        speech_say(p, " holds something else than texts: write it in quotes");
        return 0;
      }
      if (!speech_read_phrase(p, speech_string_at(p->text, p->bytes, value), is_value)) return 0;
    }
  }
  if (count == 0) {
    (void)speech_fail(p, SPEECH_GRAMMAR_FORM, list, "");
    speech_quote_name(p, name);
    speech_say(p, " must be a list: write what people say in it");
    return 0;
  }
  return speech_add_item(p, SPEECH_ITEM_LAST, 0, list);
}

static int is_twice(speech_phrases *p, uint32_t position, int32_t name) {
  (void)speech_fail(p, SPEECH_GRAMMAR_FORM, position, "");
  speech_quote_name(p, name);
  speech_say(p, " is there twice: keep one");
  return 0;
}

/* Takes the next member of an object; 0: there is none, or it is no object. */
static int next_of(speech_phrases *p, uint32_t object, const char *what, uint32_t *at,
                   speech_member *member) {
  if (p->text[object] != '{') {
    (void)speech_fail(p, SPEECH_GRAMMAR_FORM, object, what);
    speech_say(p, " must be an object: write one, with names");
    return 0;
  }
  return speech_next_member(p->text, p->bytes, at, member);
}

/* Reads slots, or macros. */
static int read_slots(speech_phrases *p, uint32_t object, const char *prefix, const char *what) {
  speech_member member;
  uint32_t at = object + 1;
  while (next_of(p, object, what, &at, &member)) {
    int32_t name = read_name(p, member.name, prefix, "a slot");
    if (name < 0) return 0;
    if (speech_name_at(p, name)->list >= 0) return is_twice(p, member.name.at, name);
    speech_name_at(p, name)->list = (int32_t)p->item_count;
    if (!read_list(p, member.value, name, *prefix == '\0')) return 0;
  }
  return p->status == SPEECH_OK;
}

static int begin_intent(speech_phrases *p, int32_t name, uint32_t position) {
  if (name < 0) return 0;
  if (speech_name_at(p, name)->is_intent) return is_twice(p, position, name);
  if (p->intent_count == INT16_MAX) {
    return speech_fail(p, SPEECH_GRAMMAR_SIZE, position, "more than 32767 intents: use fewer");
  }
  speech_name_at(p, name)->is_intent = 1;
  ++p->intent_count;
  return speech_add_item(p, SPEECH_ITEM_INTENT, name, position);
}

static int read_intents(speech_phrases *p, uint32_t object) {
  speech_member member;
  uint32_t at = object + 1;
  p->intents_begin = p->item_count;
  while (next_of(p, object, "\"expressions\"", &at, &member)) {
    int32_t name = read_name(p, member.name, "", "an intent");
    if (!begin_intent(p, name, member.name.at)) return 0;
    if (!read_list(p, member.value, name, 0)) return 0;
  }
  p->intents_end = p->item_count;
  if (p->status == SPEECH_OK && p->intent_count == 0) {
    return speech_fail(p, SPEECH_GRAMMAR_FORM, object, "no expressions: add an intent with some");
  }
  return p->status == SPEECH_OK;
}

static int refuse_phones(speech_phrases *p, uint32_t position, int32_t word) {
  (void)speech_fail(p, SPEECH_GRAMMAR_PHONES, position, "");
  speech_quote_name(p, word);
  speech_say(p, " needs its phones, those of cmudict: write them as in \"mocha\": \"M OW K AH\"");
  return 0;
}

/* Reads a pronunciation of a word: the names of its phones. */
static int read_way(speech_phrases *p, uint32_t value, int32_t word) {
  uint32_t place = p->char_count, i, length;
  int is_way = p->text[value] == '"';
  if (is_way) {
    speech_span span = speech_string_at(p->text, p->bytes, value);
    is_way = !speech_is_blank(span);
    while (span.at < span.end) {
      uint32_t c = speech_next(&span);
      if (c >= 'a' && c <= 'z') c -= 'a' - 'A';
      if (!speech_add_char(p, c < 128 && c > ' ' ? c : c <= ' ' ? ' ' : '?')) return 0;
    }
  }
  length = p->char_count - place;
  p->char_count = place;
  is_way = is_way && speech_read_phones(&p->spoken, (const char *)p->chars + place,
                                        (int32_t)length);
  if (!is_way) return refuse_phones(p, value, word);
  if (!speech_add_char(p, (uint32_t)p->spoken.count & 127) ||
      !speech_add_char(p, (uint32_t)p->spoken.count >> 7)) return 0;
  for (i = 0; i < (uint32_t)p->spoken.count; ++i) {
    if (!speech_add_char(p, p->spoken.phones[i])) return 0;
  }
  return speech_add_item(p, SPEECH_ITEM_PHONES, (int32_t)place, value);
}

static int read_pronunciations(speech_phrases *p, uint32_t object) {
  speech_member member;
  uint32_t at = object + 1;
  while (next_of(p, object, "\"pronunciations\"", &at, &member)) {
    uint32_t inner = member.value + 1, value;
    int32_t word;
    word = speech_read_word(p, &member.name);
    if (word < 0) return 0;
    if (member.name.at < member.name.end) {
      (void)speech_fail(p, SPEECH_GRAMMAR_WORD, member.name.at, "");
      speech_quote_name(p, word);
      speech_say(p, " is not all of a name in \"pronunciations\": write one word");
      return 0;
    }
    speech_name_at(p, word)->own = (int32_t)p->item_count;
    if (p->text[member.value] != '[') {
      if (!read_way(p, member.value, word)) return 0;
    } else {
      uint32_t count = 0;
      for (; speech_next_value(p->text, p->bytes, &inner, &value); ++count) {
        if (!read_way(p, value, word)) return 0;
      }
      if (count == 0) return refuse_phones(p, member.value, word);
    }
    if (!speech_add_item(p, SPEECH_ITEM_LAST, 0, member.value)) return 0;
  }
  return p->status == SPEECH_OK;
}

static int read_json(speech_phrases *p, uint32_t at) {
  uint32_t place = at, context, part;
  if (!speech_is_json(p->text, p->bytes, &place)) {
    return speech_fail(p, SPEECH_GRAMMAR_FORM, place, "not JSON from here on: mend it");
  }
  context = find_member(p, at, "context", 1);
  if (context == 0) return 0;
  part = find_member(p, context, "slots", 0);
  if (p->status != SPEECH_OK || (part != 0 && !read_slots(p, part, "", "\"slots\""))) return 0;
  part = find_member(p, context, "macros", 0);
  if (p->status != SPEECH_OK || (part != 0 && !read_slots(p, part, "@", "\"macros\""))) return 0;
  part = find_member(p, context, "expressions", 1);
  if (part == 0 || !read_intents(p, part)) return 0;
  part = find_member(p, context, "pronunciations", 0);
  return p->status == SPEECH_OK && (part == 0 || read_pronunciations(p, part));
}

/* Reads a phrase a line. */
static int read_lines(speech_phrases *p, uint32_t at) {
  speech_span name = {"phrase", 0, 6, 0}, line = {NULL, 0, 0, 0};
  uint32_t count = 0;
  line.text = p->text;
  p->intents_begin = p->item_count;
  if (!begin_intent(p, read_name(p, name, "", ""), 0)) return 0;
  while (at < p->bytes) {
    line.at = at;
    while (at < p->bytes && p->text[at] != '\n') ++at;
    line.end = at++;
    if (speech_is_blank(line)) continue;
    if (!speech_read_phrase(p, line, 0)) return 0;
    ++count;
  }
  if (count == 0) {
    return speech_fail(p, SPEECH_GRAMMAR_FORM, 0, "there are no phrases: write one in each line");
  }
  if (!speech_add_item(p, SPEECH_ITEM_LAST, 0, p->bytes)) return 0;
  p->intents_end = p->item_count;
  return 1;
}

/* Adds a built-in slot. Returns whether there is one with the name. */
static int add_built_in(speech_phrases *p, int32_t name) {
  speech_name *n = speech_name_at(p, name);
  size_t i;
  for (i = 0; i < sizeof BUILT_IN / sizeof *BUILT_IN; ++i) {
    speech_span wanted = {NULL, 0, 0, 0}, values = {NULL, 0, 0, 0};
    wanted.text = (const char *)p->chars;
    wanted.at = n->place;
    wanted.end = n->place + n->length;
    if (!has_name(wanted, BUILT_IN[i].name)) continue;
    values.text = BUILT_IN[i].values;
    values.end = speech_length(values.text);
    n->list = (int32_t)p->item_count;
    return speech_read_phrase(p, values, 1) && speech_add_item(p, SPEECH_ITEM_LAST, 0, 0);
  }
  return 0;
}

/* Refuses slots that are not there. */
static int find_slots(speech_phrases *p) {
  uint32_t i;
  for (i = 0; i < p->item_count; ++i) { /* built-in ones are added behind the others */
    int32_t name = speech_number(p, i);
    if (speech_kind(p, i) != SPEECH_ITEM_SLOT || speech_name_at(p, name)->list >= 0) continue;
    if (add_built_in(p, name)) continue;
    if (p->status != SPEECH_OK) return 0;
    (void)speech_fail(p, SPEECH_GRAMMAR_SLOT, p->items[i].position, "");
    speech_quote_name(p, name);
    speech_say(p, " is not defined: add it under \"slots\" or \"macros\", or rename it");
    return 0;
  }
  return 1;
}

static int lay(speech_phrases *p) {
  uint32_t buckets = 16, i;
  p->char_limit = p->bytes + BUILT_IN_CHARS;
  p->chars = (uint8_t *)speech_room_low(p->room, p->char_limit, 1);
  while (buckets < p->bytes / 16) buckets *= 2;
  p->buckets = (int32_t *)speech_room_low(p->room, buckets, sizeof *p->buckets);
  if (p->chars == NULL || p->buckets == NULL) return speech_phrases_full(p);
  p->bucket_mask = buckets - 1;
  for (i = 0; i < buckets; ++i) p->buckets[i] = -1;
  return 1;
}

int speech_phrases_read(speech_phrases *p) {
  speech_span first = {NULL, 0, 0, 0};
  uint32_t at = 0, place = 0;
  if (p->bytes > MOST_BYTES) {
    return speech_fail(p, SPEECH_GRAMMAR_SIZE, 0, "more than 1000000 bytes: make it smaller");
  }
  if (!speech_is_utf8(p->text, p->bytes, &place)) {
    return speech_fail(p, SPEECH_GRAMMAR_FORM, place, "no UTF-8 from here on: save it as such");
  }
  first.text = p->text;
  first.end = p->bytes;
  if (speech_next(&first) == 0xfeff) at = first.at; /* byte order mark */
  if (!lay(p)) return 0;
  place = speech_skip_space(p->text, p->bytes, at);
  if (!(place < p->bytes && p->text[place] == '{' ? read_json(p, place) : read_lines(p, at)) ||
      !find_slots(p)) return 0;
  return speech_check_sizes(p);
}
