/* When the tokens of a text were spoken, by CTC. Paths are compared by their sums of logits: the
 * normalizers of the frames are the same for all of them. Tokens may be phones.
 */
#ifndef SPEECH_ALIGN_H
#define SPEECH_ALIGN_H

#include "speech_core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory frames of a token: the first, and the one after the last. */
typedef struct {
  int32_t first, end;
} speech_span;

/* Working memory, for texts of the longest kind. */
typedef struct {
  int32_t units;    /* logits of a frame */
  int32_t blank;    /* number of CTC's blank */
  int32_t longest;  /* tokens of a text */
  int32_t *scores;  /* of the best path to each label: tokens, and blanks around them */
  uint8_t *entries; /* of each frame and label, two bits: how that path enters the label */
  speech_span *spans;
} speech_alignment;

/* Takes memory for texts of up to `longest` tokens in `frames` frames. */
void speech_align_lay(speech_alignment *alignment, int32_t units, int32_t blank, int32_t longest,
                      int32_t frames, speech_memory *memory);

/* Sets the spans of a text's tokens by the most likely alignment (Viterbi); of equals, by the one
 * that enters a label last. Returns 0 if the text does not fit into the frames. */
int speech_align(const speech_alignment *alignment, const int8_t *logits, int32_t frames,
                 const uint16_t *tokens, int32_t count);

/* The best path's token of a frame, from its logits; of equals, the lowest. */
int32_t speech_align_best(const int8_t *logits, int32_t units);

#ifdef __cplusplus
}
#endif

#endif
