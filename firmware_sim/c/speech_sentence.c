/* See speech_sentence.h. */
#include "speech_sentence.h"

#define ANY_SLOT (-2)

/* Whether an arc leaves the start. */
static int begins(const speech_core *core, int32_t arc) {
  int32_t start = core->automaton->start;
  return arc >= speech_index(&core->first_arcs, start) &&
         arc < speech_index(&core->first_arcs, start + 1);
}

int32_t speech_sentence_commands(const speech_core *core, const int32_t *arcs, int32_t count,
                                 speech_command *commands) {
  int32_t found = 0, first = 0, i;
  for (i = 1; i <= count; ++i) {
    if (i < count && !begins(core, arcs[i])) continue;
    if (found == core->automaton->commands) return 0;
    commands[found].intent = core->finals[speech_index(&core->targets, arcs[i - 1])];
    if (commands[found].intent < 0) return 0;
    commands[found].first = first;
    commands[found].last = i;
    commands[found++].confidence = 0;
    first = i;
  }
  return found;
}

int32_t speech_sentence_nats(const speech_core *core, int32_t difference) {
  int64_t nats = -(int64_t)difference * core->phones->logit_nats >> 8;
  return nats > INT32_MAX / 2 ? -(INT32_MAX / 2) : (int32_t)-nats;
}

/* By how much the likeliest units of frames [first, end) are above one of them. */
static int64_t loss(const speech_core *core, const int8_t *logits, int32_t unit, int32_t first,
                    int32_t end) {
  int32_t units = core->phones->count + 1;
  int64_t sum = 0;
  int32_t frame;
  for (frame = first; frame < end; ++frame) {
    const int8_t *row = logits + (size_t)frame * (size_t)units;
    sum += row[speech_align_best(row, units)] - row[unit];
  }
  return sum;
}

int32_t speech_sentence_score(const speech_core *core, const int8_t *logits, const uint16_t *phones,
                              const speech_span *spans, speech_command *commands, int32_t count) {
  int64_t all = 0;
  int32_t i, k;
  for (i = 0; i < count; ++i) {
    const speech_command *x = &commands[i];
    int64_t sum = 0;
    for (k = x->first; k < x->last; ++k) {
      sum += loss(core, logits, phones[k], spans[k].first, spans[k].end);
      if (k + 1 < x->last) {
        sum += loss(core, logits, core->phones->count, spans[k].end, spans[k + 1].first);
      }
    }
    sum = (sum * core->phones->logit_nats >> 8) / (x->last - x->first);
    if (sum > INT32_MAX / 2) sum = INT32_MAX / 2;
    commands[i].confidence = speech_exponential(core, (int32_t)-sum);
    all += sum;
  }
  return all > INT32_MAX ? -INT32_MAX : (int32_t)-all;
}

/* Whether a word of a slot ends at an arc. */
static int has_word(const speech_core *core, int32_t arc, int32_t slot) {
  if (speech_index(&core->arc_words, arc) == 0) return 0;
  return slot == ANY_SLOT || core->arc_slots[arc] == slot;
}

/* Copies a string behind a text and a space. Returns the new length. */
static size_t append(char *text, size_t length, const char *string) {
  if (length > 0) text[length++] = ' ';
  while (*string != '\0') text[length++] = *string++;
  return length;
}

static size_t write_words(const speech_core *core, const int32_t *arcs, int32_t first, int32_t last,
                          int32_t slot, int said, char *text) {
  size_t length = 0;
  int32_t i;
  for (i = first; i < last; ++i) {
    int32_t word = speech_index(&core->arc_words, arcs[i]) - 1;
    const char *string;
    if (!has_word(core, arcs[i], slot)) continue;
    string = said && core->said.count > 0 ? speech_string(&core->said, word) : "";
    length = append(text, length, *string != '\0' ? string : speech_string(&core->words, word));
  }
  text[length] = '\0';
  return length;
}

size_t speech_sentence_text(const speech_core *core, const int32_t *arcs, int32_t first,
                            int32_t last, char *text) {
  return write_words(core, arcs, first, last, ANY_SLOT, 0, text);
}

size_t speech_sentence_value(const speech_core *core, const int32_t *arcs,
                             const speech_command *command, int32_t slot, char *text) {
  int32_t i;
  for (i = command->last - 1; i >= command->first && core->values.count > 0; --i) {
    int32_t word = speech_index(&core->arc_words, arcs[i]) - 1;
    if (has_word(core, arcs[i], slot) && *speech_string(&core->values, word) != '\0') {
      size_t length = append(text, 0, speech_string(&core->values, word));
      text[length] = '\0';
      return length;
    }
  }
  return write_words(core, arcs, command->first, command->last, slot, 0, text);
}

size_t speech_sentence_said(const speech_core *core, const int32_t *arcs,
                            const speech_command *command, int32_t slot, char *text) {
  return write_words(core, arcs, command->first, command->last, slot, 1, text);
}
