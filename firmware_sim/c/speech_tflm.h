/* The two models on TensorFlow Lite Micro, see speech_tflm.cc. */
#ifndef SPEECH_TFLM_H
#define SPEECH_TFLM_H

#include "speech_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loads both models and fills in `runtime`; call it once. Returns SPEECH_OK, or
 * SPEECH_ERROR_RUNTIME if an arena is too small or an operator is missing.
 */
int speech_tflm_start(speech_runtime *runtime);

#ifdef __cplusplus
}
#endif

#endif
