/* See speech_room.h. */
#include "speech_room.h"

/* Bytes of some items, to the next multiple of 8; more than there are if it does not fit. */
static size_t bytes_of(const speech_room *room, uint64_t count, size_t size) {
  size_t free = room->high - room->low;
  if (count > free / size) return free + 1;
  return ((size_t)count * size + 7) & ~(size_t)7;
}

void *speech_room_low(speech_room *room, uint64_t count, size_t size) {
  size_t bytes = bytes_of(room, count, size);
  void *found = room->base + room->low;
  if (bytes > room->high - room->low) return NULL;
  room->low += bytes;
  return found;
}

void *speech_room_high(speech_room *room, uint64_t count, size_t size) {
  size_t bytes = bytes_of(room, count, size);
  if (bytes > room->high - room->low) return NULL;
  room->high -= bytes;
  return room->base + room->high;
}

uint32_t speech_length(const char *text) {
  uint32_t length = 0;
  while (length < 2000 && text[length] != '\0') ++length;
  return length;
}

static int is_before(speech_order before, const void *context, uint64_t a, uint64_t b) {
  return before == NULL ? a < b : before(context, a, b);
}

/* Lets a value sink in a heap, whose first one is the last in order. */
static void sink(uint64_t *values, size_t place, size_t count, speech_order before,
                 const void *context) {
  uint64_t value = values[place];
  for (;;) {
    size_t child = 2 * place + 1;
    if (child >= count) break;
    if (child + 1 < count && is_before(before, context, values[child], values[child + 1])) ++child;
    if (!is_before(before, context, value, values[child])) break;
    values[place] = values[child];
    place = child;
  }
  values[place] = value;
}

void speech_sort_by(uint64_t *values, size_t count, speech_order before, const void *context) {
  size_t i;
  for (i = count / 2; i > 0; --i) sink(values, i - 1, count, before, context);
  for (i = count; i > 1; --i) {
    uint64_t last = values[0];
    values[0] = values[i - 1];
    values[i - 1] = last;
    sink(values, 0, i - 1, before, context);
  }
}

void speech_sort(uint64_t *values, size_t count) { speech_sort_by(values, count, NULL, NULL); }
