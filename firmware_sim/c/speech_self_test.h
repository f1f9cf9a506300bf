/* Runs the decoder loop on recorded features, with one hypothesis, and compares all output bytes of
 * the models.
 *
 *   speech_mismatch mismatch;
 *   if (speech_self_test(decoder, &mismatch) != SPEECH_OK)
 *     printf("%s[%lu]\n", mismatch.tensor ? mismatch.tensor : "", (unsigned long)mismatch.index);
 */
#ifndef SPEECH_SELF_TEST_H
#define SPEECH_SELF_TEST_H

#include "speech_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first value that differs. */
typedef struct {
  const char *tensor; /* NULL: none; an output of a model, "tokens", "ended", "commands", "text" */
  int32_t step;       /* of the decoder; -1: the encoder, or the result */
  size_t index;       /* in the tensor */
  int32_t expected;
  int32_t found;
} speech_mismatch;

/* Returns SPEECH_OK, SPEECH_ERROR_MISMATCH, or the error of the runtime. */
int speech_self_test(speech_decoder *decoder, speech_mismatch *mismatch);

#ifdef __cplusplus
}
#endif

#endif
