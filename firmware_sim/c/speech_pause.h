/* Where to cut speech that is longer than the window. */
#ifndef SPEECH_PAUSE_H
#define SPEECH_PAUSE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The block to cut a full window before: in the middle of the longest pause of its last 60 %, or
 * at the quietest place if there is none.
 *
 * variances: of `blocks` blocks, at least 5.
 */
int32_t speech_pause(const uint32_t *variances, int32_t blocks);

#ifdef __cplusplus
}
#endif

#endif
