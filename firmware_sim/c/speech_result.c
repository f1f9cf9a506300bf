/* Texts, slots and times of what was decoded, see speech_decoder.h. */
#include "speech_decoder.h"

const int8_t *speech_decoder_logits(const speech_decoder *decoder) {
  const speech_numbers *n = decoder->core.numbers;
  if (decoder->core.of_phones) {
    return (const int8_t *)decoder->encoder_outputs[decoder->core.phones->encoder_logits];
  }
  if (n->ctc_logit_nats == 0) return NULL;
  return (const int8_t *)decoder->encoder_outputs[n->encoder_ctc_logits];
}

/* Appends a token's text, without spaces at the beginning; returns the new length. */
static size_t append(const speech_strings *tokens, char *text, size_t length, int32_t token) {
  const char *piece = speech_string(tokens, token);
  while (length == 0 && *piece == ' ') ++piece;
  while (*piece != '\0') text[length++] = *piece++;
  return length;
}

/* Ends a text, without spaces at its end; returns its length. */
static size_t end_text(char *text, size_t length) {
  while (length > 0 && text[length - 1] == ' ') --length;
  text[length] = '\0';
  return length;
}

/* Writes the tokens [first, last) of a slot, or of all. Returns the length of the text. */
static size_t write_text(const speech_core *core, char *text, const uint16_t *tokens, int32_t first,
                         int32_t last, const int16_t *slots, int32_t slot) {
  size_t length = 0;
  int32_t i;
  for (i = first; i < last; ++i) {
    if (slots == NULL || slots[i] == slot) {
      length = append(&core->tokens, text, length, tokens[i]);
    }
  }
  return end_text(text, length);
}

const char *speech_decoder_text(speech_decoder *decoder) {
  if (decoder->core.of_phones) {
    (void)speech_sentence_text(&decoder->core, decoder->arcs, 0, decoder->arc_count, decoder->text);
    return decoder->text;
  }
  (void)write_text(&decoder->core, decoder->text, decoder->search.tokens, 0,
                   decoder->search.token_count, NULL, 0);
  return decoder->text;
}

const char *speech_decoder_command(speech_decoder *decoder, int32_t command) {
  const speech_command *x = &decoder->commands[command];
  if (decoder->core.of_phones) {
    (void)speech_sentence_text(&decoder->core, decoder->arcs, x->first, x->last, decoder->text);
    return decoder->text;
  }
  (void)write_text(&decoder->core, decoder->text, decoder->search.tokens, x->first, x->last, NULL,
                   0);
  return decoder->text;
}

const char *speech_decoder_free_text(speech_decoder *decoder) {
  const speech_core *core = &decoder->core;
  const speech_strings *tokens = core->of_phones ? &core->phone_names : &core->tokens;
  int32_t blank = core->of_phones ? core->phones->count : core->numbers->token_blank;
  int32_t units = core->of_phones ? core->phones->count + 1 : core->numbers->vocabulary;
  const int8_t *logits = speech_decoder_logits(decoder);
  size_t length = 0;
  int32_t last = -1, frame;
  for (frame = 0; logits != NULL && frame < decoder->memory_frames; ++frame) {
    int32_t token = speech_align_best(logits + (size_t)frame * (size_t)units, units);
    if (token != last && token != blank) length = append(tokens, decoder->text, length, token);
    last = token;
  }
  (void)end_text(decoder->text, length);
  return decoder->text;
}

/* Finds the commands of text or sentence number i of the best. Returns their number. */
static int32_t parse(speech_decoder *decoder, int32_t i) {
  const speech_text *text = &decoder->search.texts[i];
  if (decoder->core.of_phones) {
    return speech_sentence_commands(&decoder->core, decoder->other_arcs,
                                    speech_phones_arcs(&decoder->phones, i, decoder->other_arcs),
                                    decoder->other_commands);
  }
  return speech_grammar_parse(&decoder->search.grammar, &decoder->core, text->tokens, text->count,
                              decoder->other_commands, decoder->other_slots);
}

/* Writes the value of a slot in a command of text or sentence number i. Returns its length. */
static size_t write_value(const speech_decoder *decoder, int32_t i, const speech_command *command,
                          int32_t slot, char *text) {
  if (decoder->core.of_phones) {
    return speech_sentence_value(&decoder->core, decoder->other_arcs, command, slot, text);
  }
  return write_text(&decoder->core, text, decoder->search.texts[i].tokens, command->first,
                    command->last, decoder->other_slots, slot);
}

/* Adds the probability of a text to those slots of a command whose values it agrees with. */
static void agree(speech_decoder *decoder, int32_t text, int32_t command, int32_t count,
                  int32_t probability) {
  int32_t found = parse(decoder, text);
  const speech_command *other = &decoder->other_commands[command];
  int32_t i;
  if (command >= found) return;
  for (i = 0; i < count; ++i) {
    speech_slot *slot = &decoder->slots[i];
    size_t length = write_value(decoder, text, other, slot->slot, decoder->text);
    size_t k;
    for (k = 0; k < length && decoder->text[k] == slot->value[k]; ++k) continue;
    if (length > 0 && k == length && slot->value[k] == '\0') slot->confidence += probability;
  }
}

/* Writes the values of a command's slots. Returns their number. */
static int32_t write_slots(speech_decoder *decoder, const speech_command *command) {
  const speech_core *core = &decoder->core;
  char *value = decoder->values;
  int32_t count = 0, slot;
  for (slot = 0; slot < core->automaton->slots; ++slot) {
    size_t length =
        core->of_phones
            ? speech_sentence_value(core, decoder->arcs, command, slot, value)
            : write_text(core, value, decoder->search.tokens, command->first, command->last,
                         decoder->token_slots, slot);
    if (length == 0) continue;
    decoder->slots[count].name = speech_string(&core->names, core->automaton->intents + slot);
    decoder->slots[count].value = value;
    decoder->slots[count].slot = slot;
    decoder->slots[count].confidence = 0;
    value += length + 1;
    if (core->of_phones) {
      decoder->said[count] = value;
      value += speech_sentence_said(core, decoder->arcs, command, slot, value) + 1;
    }
    ++count;
  }
  return count;
}

/* How much less likely text or sentence number i is than the best: a log probability. */
static int32_t behind(const speech_decoder *decoder, int32_t i) {
  const speech_text *texts = decoder->search.texts;
  const speech_sentence *sentences = decoder->phones.sentences;
  if (!decoder->core.of_phones) return texts[i].score - texts[0].score;
  return speech_sentence_nats(&decoder->core, sentences[i].score - sentences[0].score);
}

int32_t speech_decoder_slots(speech_decoder *decoder, int32_t command, const speech_slot **slots) {
  const speech_command *x = &decoder->commands[command];
  int32_t texts =
      decoder->core.of_phones ? decoder->phones.sentence_count : decoder->search.text_count;
  int32_t count = write_slots(decoder, x);
  int64_t all = 0;
  int32_t i;
  *slots = decoder->slots;
  for (i = 0; i < texts; ++i) {
    int32_t probability = speech_exponential(&decoder->core, behind(decoder, i));
    all += probability;
    agree(decoder, i, command, count, probability);
  }
  for (i = 0; i < count; ++i) {
    int64_t agreed = all > 0 ? decoder->slots[i].confidence : 1; /* a text that was cut off */
    decoder->slots[i].confidence = (int32_t)(agreed * x->confidence / (all > 0 ? all : 1));
  }
  return count;
}

const char *speech_decoder_said(const speech_decoder *decoder, const speech_slot *slot) {
  return decoder->core.of_phones ? decoder->said[slot - decoder->slots] : slot->value;
}

void speech_decoder_times(const speech_decoder *decoder, int32_t command, int64_t *start,
                          int64_t *end) {
  const speech_numbers *n = decoder->core.numbers;
  const speech_command *x = &decoder->commands[command];
  const speech_span *spans = decoder->alignment.spans;
  int64_t samples = (int64_t)(n->frames / n->memory_frames) * SPEECH_STEP; /* of a memory frame */
  *start = spans[x->first].first * samples;
  *end = spans[x->last - 1].end * samples;
}
