/* Settings of TensorFlow Lite Micro's audio microfrontend, which computes the features:
 *
 *   struct FrontendConfig config; static struct FrontendState state;
 *   speech_frontend_config(&config);
 *   FrontendPopulateState(&config, &state, SPEECH_FRONTEND_SAMPLE_RATE);
 *
 * Every utterance starts with FrontendReset(&state). Audio is 16-bit mono.
 *
 * The model was trained on features of pymicro-features, whose copy of the library computes two
 * tables in single precision. Do the same: in window_util.c write cosf for cos, and in
 * filterbank_util.c log1pf for log1p. Without this, about 1 % of the features differ.
 */
#ifndef SPEECH_FRONTEND_H
#define SPEECH_FRONTEND_H

#include "speech_model.h"
#include "tensorflow/lite/experimental/microfrontend/lib/frontend_util.h"

static inline void speech_frontend_config(struct FrontendConfig *config) {
  FrontendFillConfigWithDefaults(config);
  config->window.size_ms = SPEECH_FRONTEND_WINDOW_SIZE;
  config->window.step_size_ms = SPEECH_FRONTEND_WINDOW_STEP;
  config->filterbank.num_channels = SPEECH_FRONTEND_NUM_CHANNELS;
  config->filterbank.upper_band_limit = SPEECH_FRONTEND_UPPER_BAND_LIMIT;
  config->filterbank.lower_band_limit = SPEECH_FRONTEND_LOWER_BAND_LIMIT;
  config->noise_reduction.smoothing_bits = SPEECH_FRONTEND_SMOOTHING_BITS;
  config->noise_reduction.even_smoothing = SPEECH_FRONTEND_EVEN_SMOOTHING;
  config->noise_reduction.odd_smoothing = SPEECH_FRONTEND_ODD_SMOOTHING;
  config->noise_reduction.min_signal_remaining = SPEECH_FRONTEND_MIN_SIGNAL_REMAINING;
  config->pcan_gain_control.enable_pcan = SPEECH_FRONTEND_ENABLE_PCAN;
  config->pcan_gain_control.strength = SPEECH_FRONTEND_PCAN_STRENGTH;
  config->pcan_gain_control.offset = SPEECH_FRONTEND_PCAN_OFFSET;
  config->pcan_gain_control.gain_bits = SPEECH_FRONTEND_GAIN_BITS;
  config->log_scale.enable_log = SPEECH_FRONTEND_ENABLE_LOG;
  config->log_scale.scale_shift = SPEECH_FRONTEND_SCALE_SHIFT;
}

#endif
