/* A program without a C library: whether 64-bit divisions of freestanding.c are right. Exits with 0
 * or the number of the first wrong one. */
#include <stdint.h>

static int64_t checks[][4] = {
    /* number, divisor, quotient, rest */
    {7, 2, 3, 1}, {-7, 2, -3, -1}, {7, -2, -3, 1}, {-7, -2, 3, -1}, {0, 9, 0, 0},
    {INT64_MAX, 10, 922337203685477580, 7}, {INT64_MIN, 10, -922337203685477580, -8},
    {1000000007000000009, 4294967311, 232830644, 2020921725}, {5, INT64_MAX, 0, 5},
};

__attribute__((noreturn)) static void leave(int status) {
#if defined(__arm__)
  register int number __asm__("r7") = 1, code __asm__("r0") = status;
  __asm__ volatile("svc 0" : : "r"(number), "r"(code));
#else
  __asm__ volatile("int $0x80" : : "a"(1), "b"(status));
#endif
  __builtin_unreachable();
}

__attribute__((noreturn)) void _start(void) {
  unsigned i;
  for (i = 0; i < sizeof checks / sizeof *checks; ++i) {
    volatile int64_t *x = checks[i]; /* so that the compiler leaves the division to the machine */
    if (x[0] / x[1] != x[2] || x[0] % x[1] != x[3]) leave(1 + (int)i);
    if (x[0] < 0 || x[1] < 0) continue;
    if ((uint64_t)x[0] / (uint64_t)x[1] != (uint64_t)x[2]) leave(101 + (int)i);
    if ((uint64_t)x[0] % (uint64_t)x[1] != (uint64_t)x[3]) leave(101 + (int)i);
  }
  {
    volatile uint64_t large = 0xfffffffffffffff1u, divisor = 0x8000000000000001u;
    volatile uint32_t number = 4000000000u, small = 7;
    volatile int32_t negative = -2000000000, seven = 7;
    if (large / divisor != 1 || large % divisor != 0x7ffffffffffffff0u) leave(201);
    if (number / small != 571428571 || number % small != 3) leave(202);
    if (negative / seven != -285714285 || negative % seven != -5) leave(203);
  }
  leave(0);
}
