/* See speech_align.h. */
#include "speech_align.h"

#define IMPOSSIBLE (INT32_MIN / 2)

enum entry { STAY, FROM_LAST, FROM_LAST_BUT_ONE };

/* Bytes of the entries of a frame: four labels each. */
static size_t row_bytes(const speech_alignment *alignment) {
  return (2 * (size_t)alignment->longest + 4) / 4;
}

void speech_align_lay(speech_alignment *alignment, int32_t units, int32_t blank, int32_t longest,
                      int32_t frames, speech_memory *memory) {
  uint64_t labels = 2 * (uint64_t)longest + 1;
  alignment->units = units;
  alignment->blank = blank;
  alignment->longest = longest;
  alignment->spans =
      (speech_span *)speech_take(memory, (uint64_t)longest, sizeof(speech_span));
  alignment->scores = (int32_t *)speech_take(memory, labels, sizeof(int32_t));
  alignment->entries = (uint8_t *)speech_take(memory, (uint64_t)frames * row_bytes(alignment), 1);
}

static uint8_t *row(const speech_alignment *alignment, int32_t frame) {
  return alignment->entries + (size_t)frame * row_bytes(alignment);
}

static int entry_of(const uint8_t *entries, int32_t label) {
  return entries[label >> 2] >> (2 * (label & 3)) & 3;
}

static void set_entry(uint8_t *entries, int32_t label, int entry) {
  int shift = 2 * (label & 3);
  entries[label >> 2] = (uint8_t)((entries[label >> 2] & ~(3 << shift)) | entry << shift);
}

/* Whether a label may follow the last but one without a blank. */
static int may_skip(const uint16_t *tokens, int32_t label) {
  return label > 1 && label % 2 == 1 && tokens[label / 2] != tokens[label / 2 - 1];
}

/* The best path to each label at a frame, from those at the frame before. */
static void advance(const speech_alignment *alignment, const int8_t *logits, int32_t frame,
                    const uint16_t *tokens, int32_t labels) {
  uint8_t *entries = row(alignment, frame);
  int32_t *scores = alignment->scores;
  int32_t label;
  for (label = labels - 1; label >= 0; --label) { /* a label reads those before it: backwards */
    int32_t token = label % 2 == 1 ? tokens[label / 2] : alignment->blank;
    int32_t before = label <= 1 && frame == 0 ? 0 : IMPOSSIBLE;
    int32_t stay = frame == 0 ? IMPOSSIBLE : scores[label];
    int entry = FROM_LAST;
    if (frame > 0 && label > 0) before = scores[label - 1];
    if (frame > 0 && may_skip(tokens, label) && scores[label - 2] > before) {
      before = scores[label - 2];
      entry = FROM_LAST_BUT_ONE;
    }
    if (stay > before) {
      before = stay;
      entry = STAY;
    }
    set_entry(entries, label, entry);
    scores[label] = before <= IMPOSSIBLE ? IMPOSSIBLE : before + logits[token];
  }
}

int speech_align(const speech_alignment *alignment, const int8_t *logits, int32_t frames,
                 const uint16_t *tokens, int32_t count) {
  size_t stride = (size_t)alignment->units;
  int32_t labels = 2 * count + 1, label = labels - 1;
  int32_t frame, end = frames;
  for (frame = 0; frame < frames; ++frame) {
    advance(alignment, logits + (size_t)frame * stride, frame, tokens, labels);
  }
  if (count > 0 && alignment->scores[label - 1] > alignment->scores[label]) --label;
  if (alignment->scores[label] <= IMPOSSIBLE) return 0;
  for (frame = frames - 1; frame >= 0; --frame) {
    int entry = entry_of(row(alignment, frame), label);
    if (entry == STAY && frame > 0) continue;
    if (label % 2 == 1) {
      alignment->spans[label / 2].first = frame;
      alignment->spans[label / 2].end = end;
    }
    end = frame;
    label -= entry == FROM_LAST_BUT_ONE ? 2 : 1;
  }
  return 1;
}

int32_t speech_align_best(const int8_t *logits, int32_t units) {
  int32_t best = 0, token;
  for (token = 1; token < units; ++token) {
    if (logits[token] > logits[best]) best = token;
  }
  return best;
}
