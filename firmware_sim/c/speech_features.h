/* Features: audio -> the channels of TensorFlow's audio microfrontend -> int8.
 *
 * Only the microfrontend's processing runs, on tables of the block; its set-up, which allocates and
 * computes in floating point, is not linked. Compile these of its files, of TensorFlow Lite Micro's
 * tree or of the source distribution of pymicro-features (tensorflow/lite/experimental/
 * microfrontend/lib): fft, filterbank, frontend, log_lut, log_scale, noise_reduction,
 * pcan_gain_control, window and kiss_fft_int16, which includes kissfft.
 */
#ifndef SPEECH_FEATURES_H
#define SPEECH_FEATURES_H

#include "speech_core.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct speech_features speech_features;

/* Takes the memory of a frontend; it is ready after a reset. */
speech_features *speech_features_lay(const speech_core *core, speech_memory *memory);

/* Begins an utterance. */
void speech_features_reset(speech_features *features, const speech_core *core);

/* Takes a step of audio: 10 ms, 160 samples. Writes the frame that it completes, if any, as the
 * microfrontend's values, [channels]. Returns whether there is one. */
int speech_features_step(speech_features *features, const int16_t *samples, uint16_t *frame);

#ifdef __cplusplus
}
#endif

#endif
