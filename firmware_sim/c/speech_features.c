/* See speech_features.h. */
#include "speech_features.h"

#include <string.h>

#include "tensorflow/lite/experimental/microfrontend/lib/frontend.h"

/* kissfft's state of an FFT of real numbers: its own structure is not in a header. */
typedef struct {
  const void *complex_fft;
  void *working;
  const void *twiddles;
} real_fft;

struct speech_features {
  struct FrontendState state;
  real_fft fft;
  int32_t step;
};

speech_features *speech_features_lay(const speech_core *core, speech_memory *memory) {
  const speech_frontend_numbers *f = core->frontend;
  uint64_t window = (uint64_t)f->window, fft = (uint64_t)f->fft, channels = (uint64_t)f->channels;
  speech_features *features = (speech_features *)speech_take(memory, 1, sizeof *features);
  int16_t *input = (int16_t *)speech_take(memory, window, sizeof(int16_t));
  int16_t *output = (int16_t *)speech_take(memory, window, sizeof(int16_t));
  int16_t *fft_input = (int16_t *)speech_take(memory, fft, sizeof(int16_t));
  struct complex_int16_t *fft_output =
      (struct complex_int16_t *)speech_take(memory, fft / 2 + 1, sizeof *fft_output);
  void *working = speech_take(memory, fft / 2, sizeof *fft_output);
  uint64_t *work = (uint64_t *)speech_take(memory, channels + 1, sizeof(uint64_t));
  uint32_t *estimate = (uint32_t *)speech_take(memory, channels, sizeof(uint32_t));
  if (features == NULL) return NULL;
  features->state.window.input = input;
  features->state.window.output = output;
  features->state.fft.input = fft_input;
  features->state.fft.output = fft_output;
  features->state.filterbank.work = work;
  features->state.noise_reduction.estimate = estimate;
  features->fft.working = working;
  return features;
}

/* The tables; the microfrontend only reads them, through pointers that are not const. */
static void set_tables(speech_features *features, const speech_core *core) {
  struct FrontendState *state = &features->state;
  const speech_frontend_numbers *f = core->frontend;
  state->window.coefficients = (int16_t *)core->window;
  state->filterbank.channel_frequency_starts = (int16_t *)core->frequency_starts;
  state->filterbank.channel_weight_starts = (int16_t *)core->weight_starts;
  state->filterbank.channel_widths = (int16_t *)core->widths;
  state->filterbank.weights = (int16_t *)core->weights;
  state->filterbank.unweights = (int16_t *)core->unweights;
  state->pcan_gain_control.enable_pcan = f->gains > 0;
  state->pcan_gain_control.gain_lut = (int16_t *)core->gains;
  features->fft.complex_fft = core->fft;
  features->fft.twiddles = core->real_twiddles;
}

void speech_features_reset(speech_features *features, const speech_core *core) {
  struct FrontendState *state = &features->state;
  const speech_frontend_numbers *f = core->frontend;
  set_tables(features, core);
  features->step = f->step;
  state->window.size = (size_t)f->window;
  state->window.step = (size_t)f->step;
  state->fft.fft_size = (size_t)f->fft;
  state->fft.input_size = (size_t)f->window;
  state->fft.scratch = &features->fft;
  state->fft.scratch_size = sizeof features->fft;
  state->filterbank.num_channels = f->channels;
  state->filterbank.start_index = f->first_bin;
  state->filterbank.end_index = f->end_bin;
  state->noise_reduction.smoothing_bits = f->smoothing_bits;
  state->noise_reduction.even_smoothing = (uint16_t)f->even_smoothing;
  state->noise_reduction.odd_smoothing = (uint16_t)f->odd_smoothing;
  state->noise_reduction.min_signal_remaining = (uint16_t)f->least_signal;
  state->noise_reduction.num_channels = f->channels;
  state->pcan_gain_control.noise_estimate = state->noise_reduction.estimate;
  state->pcan_gain_control.num_channels = f->channels;
  state->pcan_gain_control.snr_shift = f->snr_shift;
  state->log_scale.enable_log = 1;
  state->log_scale.scale_shift = f->log_shift;
  FrontendReset(state);
}

int speech_features_step(speech_features *features, const int16_t *samples, uint16_t *frame) {
  size_t taken;
  struct FrontendOutput output =
      FrontendProcessSamples(&features->state, samples, (size_t)features->step, &taken);
  if (output.size == 0) return 0;
  memcpy(frame, output.values, output.size * sizeof *frame);
  return 1;
}
