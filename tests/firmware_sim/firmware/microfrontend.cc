/* The microfrontend's own set-up, with the settings of pymicro-features. */
#include <cstring>

#include "tensorflow/lite/experimental/microfrontend/lib/frontend_util.h"

static FrontendState state;

static void start() {
  if (state.window.size != 0) return;
  FrontendConfig config;
  memset(&config, 0, sizeof config);
  config.window.size_ms = 30;
  config.window.step_size_ms = 10;
  config.filterbank.num_channels = 40;
  config.filterbank.lower_band_limit = 125.0f;
  config.filterbank.upper_band_limit = 7500.0f;
  config.noise_reduction.smoothing_bits = 10;
  config.noise_reduction.even_smoothing = 0.025f;
  config.noise_reduction.odd_smoothing = 0.06f;
  config.noise_reduction.min_signal_remaining = 0.05f;
  config.pcan_gain_control.enable_pcan = 1;
  config.pcan_gain_control.strength = 0.95f;
  config.pcan_gain_control.offset = 80.0f;
  config.pcan_gain_control.gain_bits = 21;
  config.log_scale.enable_log = 1;
  config.log_scale.scale_shift = 6;
  FrontendPopulateState(&config, &state, 16000);
}

extern "C" const void* table(int number) {
  start();
  const FilterbankState& filters = state.filterbank;
  /* kissfft: three pointers, the complex FFT with 256 twiddles, its buffer, 128 twiddles. */
  const char* fft = static_cast<const char*>(state.fft.scratch) + 3 * sizeof(void*);
  const char* twiddles = fft + 66 * sizeof(int);
  const void* const tables[] = {
      state.window.coefficients,  filters.channel_frequency_starts, filters.channel_weight_starts,
      filters.channel_widths,     filters.weights,                  filters.unweights,
      state.pcan_gain_control.gain_lut, fft,                        twiddles,
      twiddles + 2 * 256 * 4};
  return tables[number];
}

extern "C" int number(int place) {
  start();
  const NoiseReductionState& noise = state.noise_reduction;
  const int numbers[] = {static_cast<int>(state.window.size), static_cast<int>(state.window.step),
                         static_cast<int>(state.fft.fft_size), state.filterbank.num_channels,
                         state.filterbank.start_index, state.filterbank.end_index,
                         noise.smoothing_bits, noise.even_smoothing, noise.odd_smoothing,
                         noise.min_signal_remaining, state.pcan_gain_control.snr_shift,
                         state.log_scale.scale_shift};
  return numbers[place];
}
