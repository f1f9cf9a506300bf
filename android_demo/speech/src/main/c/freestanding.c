/* What compilers and sources need of a C library, so that libspeech.so needs none: memory
 * functions, and on 32-bit machines division. Compiled without built-in functions, or the compiler
 * would make calls of these functions from their own loops.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef size_t word __attribute__((may_alias));

void *memcpy(void *restrict target, const void *restrict source, size_t count) {
  uint8_t *to = (uint8_t *)target;
  const uint8_t *from = (const uint8_t *)source;
  if (((uintptr_t)to | (uintptr_t)from) % sizeof(word) == 0) { /* as the tensors are */
    for (; count >= sizeof(word); count -= sizeof(word)) {
      *(word *)to = *(const word *)from;
      to += sizeof(word);
      from += sizeof(word);
    }
  }
  for (; count > 0; --count) *to++ = *from++;
  return target;
}

void *memmove(void *target, const void *source, size_t count) {
  uint8_t *to = (uint8_t *)target;
  const uint8_t *from = (const uint8_t *)source;
  if (to <= from || to >= from + count) return memcpy(target, source, count);
  while (count > 0) {
    --count;
    to[count] = from[count];
  }
  return target;
}

void *memset(void *target, int value, size_t count) {
  uint8_t *to = (uint8_t *)target;
  for (; count > 0; --count) *to++ = (uint8_t)value;
  return target;
}

int memcmp(const void *left, const void *right, size_t count) {
  const uint8_t *x = (const uint8_t *)left;
  const uint8_t *y = (const uint8_t *)right;
  for (; count > 0; --count, ++x, ++y) {
    if (*x != *y) return *x - *y;
  }
  return 0;
}

#if defined(__arm__) || defined(__i386__)
typedef struct {
  uint64_t quotient, rest;
} division;

/* Bit by bit; a division by zero gives a quotient of all ones. */
static division divide(uint64_t number, uint64_t divisor) {
  division found = {0, 0};
  int bit;
  for (bit = 63; bit >= 0; --bit) {
    uint64_t carried = found.rest >> 63;
    found.rest = found.rest << 1 | (number >> bit & 1);
    if (carried || found.rest >= divisor) {
      found.rest -= divisor;
      found.quotient |= (uint64_t)1 << bit;
    }
  }
  return found;
}

static uint64_t magnitude(int64_t number) {
  return number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
}

/* Rounds towards zero; the rest has the sign of the number. */
static division divide_signed(int64_t number, int64_t divisor) {
  division found = divide(magnitude(number), magnitude(divisor));
  if ((number < 0) != (divisor < 0)) found.quotient = 0 - found.quotient;
  if (number < 0) found.rest = 0 - found.rest;
  return found;
}
#endif

#if defined(__i386__) /* names of libgcc's interface */
uint64_t __udivdi3(uint64_t number, uint64_t divisor) { return divide(number, divisor).quotient; }
uint64_t __umoddi3(uint64_t number, uint64_t divisor) { return divide(number, divisor).rest; }

int64_t __divdi3(int64_t number, int64_t divisor) {
  return (int64_t)divide_signed(number, divisor).quotient;
}

int64_t __moddi3(int64_t number, int64_t divisor) {
  return (int64_t)divide_signed(number, divisor).rest;
}
#endif

#if defined(__arm__) /* names of Arm's run-time ABI */
/* A pair of 64 bits in r0 to r3, as that ABI returns quotient and rest. */
typedef uint64_t pair64 __attribute__((vector_size(16)));
/* A pair of 32 bits in r0 and r1. */
typedef uint64_t pair32;

pair64 __aeabi_uldivmod(uint64_t number, uint64_t divisor) {
  division found = divide(number, divisor);
  return (pair64){found.quotient, found.rest};
}

pair64 __aeabi_ldivmod(int64_t number, int64_t divisor) {
  division found = divide_signed(number, divisor);
  return (pair64){found.quotient, found.rest};
}

pair32 __aeabi_uidivmod(uint32_t number, uint32_t divisor) {
  division found = divide(number, divisor);
  return (uint32_t)found.quotient | found.rest << 32;
}

pair32 __aeabi_idivmod(int32_t number, int32_t divisor) {
  division found = divide_signed(number, divisor);
  return (uint32_t)found.quotient | found.rest << 32;
}

uint32_t __aeabi_uidiv(uint32_t number, uint32_t divisor) {
  return (uint32_t)divide(number, divisor).quotient;
}

int32_t __aeabi_idiv(int32_t number, int32_t divisor) {
  return (int32_t)divide_signed(number, divisor).quotient;
}

void __aeabi_memcpy(void *target, const void *source, size_t count) {
  (void)memcpy(target, source, count);
}

void __aeabi_memmove(void *target, const void *source, size_t count) {
  (void)memmove(target, source, count);
}

void __aeabi_memset(void *target, size_t count, int value) { (void)memset(target, value, count); }

void __aeabi_memclr(void *target, size_t count) { (void)memset(target, 0, count); }

/* For targets that are aligned to 4 and to 8 bytes. */
#define ALIASES(name, ...)                                                              \
  __attribute__((alias("__aeabi_" #name))) void __aeabi_##name##4(__VA_ARGS__);          \
  __attribute__((alias("__aeabi_" #name))) void __aeabi_##name##8(__VA_ARGS__)
ALIASES(memcpy, void *, const void *, size_t);
ALIASES(memmove, void *, const void *, size_t);
ALIASES(memset, void *, size_t, int);
ALIASES(memclr, void *, size_t);
#endif
