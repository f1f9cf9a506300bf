/* See speech_pause.h. */
#include "speech_pause.h"

#define SMOOTHING 5 /* blocks */
#define QUIETEST 20 /* one block of 20 is among the quietest */
#define PAUSE 4057  /* in 1/256, 12 dB: times the quietest, a block still belongs to a pause */

/* The sum of the blocks around one, of which those at the ends stand for what is beyond them, and
 * a little that keeps silence from being infinitely quiet. */
static uint64_t level_at(const uint32_t *variances, int32_t blocks, int32_t at) {
  uint64_t sum = SMOOTHING;
  int32_t i;
  for (i = at - SMOOTHING / 2; i <= at + SMOOTHING / 2; ++i) {
    sum += variances[i < 0 ? 0 : i >= blocks ? blocks - 1 : i];
  }
  return sum;
}

/* The level that one block of 20 does not exceed. */
static uint64_t quietest(const uint32_t *variances, int32_t blocks) {
  int32_t rank = (blocks - 1) / QUIETEST;
  uint64_t low = 0, high = (uint64_t)SMOOTHING << 32;
  while (low < high) { /* the smallest level that more than `rank` blocks do not exceed */
    uint64_t middle = low + (high - low) / 2;
    int32_t count = 0, i;
    for (i = 0; i < blocks; ++i) count += level_at(variances, blocks, i) <= middle;
    if (count > rank) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

int32_t speech_pause(const uint32_t *variances, int32_t blocks) {
  uint64_t limit = quietest(variances, blocks) * PAUSE;
  int32_t earliest = 2 * blocks / 5 > 1 ? 2 * blocks / 5 : 1;
  int32_t longest = 0, middle = 0, run = 0, lowest = earliest;
  int32_t i;
  for (i = earliest; i < blocks; ++i) {
    uint64_t level = level_at(variances, blocks, i);
    run = level << 8 < limit ? run + 1 : 0;
    if (run >= longest && run > 0) { /* of pauses of the same length, the last one */
      longest = run;
      middle = earliest + (2 * (i - earliest) + 1 - (run - 1)) / 2;
    }
    if (level < level_at(variances, blocks, lowest)) lowest = i;
  }
  return longest > 0 ? middle : lowest;
}
