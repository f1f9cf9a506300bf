/* What compilers call by themselves; the module has no C library. */
#include <stddef.h>
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  char *out = (char *)to;
  const char *in = (const char *)from;
  while (count-- > 0) *out++ = *in++;
  return to;
}

void *memmove(void *to, const void *from, size_t count) {
  char *out = (char *)to;
  const char *in = (const char *)from;
  if (out < in) return memcpy(to, from, count);
  while (count-- > 0) out[count] = in[count];
  return to;
}

void *memset(void *to, int value, size_t count) {
  char *out = (char *)to;
  while (count-- > 0) *out++ = (char)value;
  return to;
}

int memcmp(const void *left, const void *right, size_t count) {
  const unsigned char *x = (const unsigned char *)left, *y = (const unsigned char *)right;
  for (; count > 0; --count, ++x, ++y) {
    if (*x != *y) return *x - *y;
  }
  return 0;
}
