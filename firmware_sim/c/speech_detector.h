/* The voice activity detector. speech_detector.c is WebRTC's, a Gaussian mixture on six bands in
 * fixed point; another one needs these three functions only.
 *
 * Compile these files of WebRTC, of the source distribution of webrtcvad-wheels (cbits/webrtc/
 * common_audio): vad/vad_core, vad/vad_filterbank, vad/vad_gmm, vad/vad_sp, and of
 * signal_processing: division_operations, energy, get_scaling_square, resample_48khz,
 * resample_by_2_internal and resample_fractional.
 */
#ifndef SPEECH_DETECTOR_H
#define SPEECH_DETECTOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a detector, which is aligned to 8. */
size_t speech_detector_bytes(void);

/* Begins a stream. */
void speech_detector_start(void *detector);

/* Whether the next block of a stream, 160 samples at 16 kHz, is speech. */
int speech_detector_hears(void *detector, const int16_t *block);

#ifdef __cplusplus
}
#endif

#endif
