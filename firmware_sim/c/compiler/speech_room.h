/* The compiler's memory: one buffer, which is filled from both ends. A sort, and the length of the
 * compiler's own texts.
 */
#ifndef SPEECH_ROOM_H
#define SPEECH_ROOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What lies from `low` to `high` is free. Both are multiples of 8. */
typedef struct {
  uint8_t *base;
  size_t low, high; /* bytes from the base */
} speech_room;

/* `count` items of `size` bytes at the lower or upper end, not cleared; NULL: there is no room. */
void *speech_room_low(speech_room *room, uint64_t count, size_t size);
void *speech_room_high(speech_room *room, uint64_t count, size_t size);

/* Bytes of a text of the compiler, at most 2,000, without its end. */
uint32_t speech_length(const char *text);

/* Sorts numbers, the smallest first. */
void speech_sort(uint64_t *values, size_t count);

/* Sorts by another order: whether `a` stands before `b`. */
typedef int (*speech_order)(const void *context, uint64_t a, uint64_t b);
void speech_sort_by(uint64_t *values, size_t count, speech_order before, const void *context);

#ifdef __cplusplus
}
#endif

#endif
