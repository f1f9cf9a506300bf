/* See speech_detector.h. */
#include "speech_detector.h"

#include <string.h>

#include "webrtc/common_audio/vad/vad_core.h"

#define AGGRESSIVENESS 3 /* 0 to 3; 3 takes the least noise for speech */
#define BLOCK_SAMPLES 160

size_t speech_detector_bytes(void) { return sizeof(VadInstT); }

void speech_detector_start(void *detector) {
  memset(detector, 0, sizeof(VadInstT));
  (void)WebRtcVad_InitCore((VadInstT *)detector);
  (void)WebRtcVad_set_mode_core((VadInstT *)detector, AGGRESSIVENESS);
}

int speech_detector_hears(void *detector, const int16_t *block) {
  return WebRtcVad_CalcVad16khz((VadInstT *)detector, block, BLOCK_SAMPLES) > 0;
}
