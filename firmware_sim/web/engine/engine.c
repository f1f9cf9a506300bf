/* See engine.h. Fixed point is gemmlowp's; operators are tensorflow/lite/kernels/internal/reference's.
 */
#include "engine.h"

#include <stddef.h>
#include <string.h>
#include <wasm_simd128.h>

#define INLINE static inline __attribute__((always_inline))
#define AT(type, place) ((type *)(void *)(plan + (place)))
#define LANES 4
#define TILE_ROWS 4
#define ADD_BITS 20 /* that ADD gives its inputs more */

/* Fixed point, on four int32. */

/* x * y / 2^31, halves rounded up: SaturatingRoundingDoublingHighMul. */
INLINE v128_t high_product(v128_t x, v128_t y) {
  v128_t half = wasm_i64x2_const_splat(1 << 30);
  v128_t low = wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(x, y), half);
  v128_t high = wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(x, y), half);
  low = wasm_u64x2_shr(low, 31);
  high = wasm_u64x2_shr(high, 31);
  return wasm_i32x4_shuffle(low, high, 0, 2, 4, 6);
}

/* 1 where the rest of x / 2^shift rounds its floor up, as -1; mask: 2^shift - 1. */
INLINE v128_t rounds_up(v128_t x, v128_t mask) {
  v128_t rest = wasm_v128_and(x, mask);
  v128_t half = wasm_i32x4_sub(wasm_i32x4_shr(mask, 1), wasm_i32x4_shr(x, 31));
  return wasm_i32x4_gt(rest, half);
}

/* x / 2^shift, halves rounded away from zero: RoundingDivideByPOT. */
INLINE v128_t halved(v128_t x, int32_t shift) {
  v128_t mask = wasm_i32x4_splat((int32_t)((1u << shift) - 1));
  return wasm_i32x4_sub(wasm_i32x4_shr(x, (uint32_t)shift), rounds_up(x, mask));
}

/* MultiplyByQuantizedMultiplier. */
INLINE v128_t multiplied(v128_t x, int32_t mantissa, int32_t shift) {
  v128_t left = wasm_i32x4_shl(x, (uint32_t)(shift > 0 ? shift : 0));
  return halved(high_product(left, wasm_i32x4_splat(mantissa)), shift < 0 ? -shift : 0);
}

/* Eight int32 -> the first `count` of them as int8, saturated. */
INLINE void store(int8_t *output, v128_t first, v128_t second, int32_t count) {
  v128_t words = wasm_i16x8_narrow_i32x4(first, second);
  v128_t bytes = wasm_i8x16_narrow_i16x8(words, words);
  int8_t all[16];
  if (count >= 8) {
    wasm_v128_store64_lane(output, bytes, 0);
    return;
  }
  wasm_v128_store(all, bytes);
  memcpy(output, all, (size_t)count);
}

/* Scaling: vectors of all columns, one after the other, so that a tile scales each of its columns
 * with a few loads. Convolutions have a multiplier for each column, products one for all. */

enum { BIAS, ENLARGING, MANTISSA, DIVIDING, MASK };

static int32_t padded(int32_t columns) {
  return (columns + ENGINE_COLUMNS - 1) / ENGINE_COLUMNS * ENGINE_COLUMNS;
}

static void open_scaling(uint8_t *plan, const engine_scaling *scaling) {
  int32_t *vectors = AT(int32_t, scaling->vectors), stride = padded(scaling->columns), i;
  for (i = 0; i < scaling->columns; ++i) {
    vectors[BIAS * stride + i] = scaling->bias ? AT(int32_t, scaling->bias)[i] : 0;
    if (scaling->multipliers) {
      const int32_t *pair = AT(int32_t, scaling->multipliers) + 2 * i;
      int32_t left = pair[1] > 0 ? pair[1] : 0, right = pair[1] < 0 ? -pair[1] : 0;
      vectors[ENLARGING * stride + i] = (int32_t)(1u << left);
      vectors[MANTISSA * stride + i] = pair[0];
      vectors[DIVIDING * stride + i] = (int32_t)(1u << (30 - right)); /* then 30 bits go */
      vectors[MASK * stride + i] = (int32_t)((1u << right) - 1);
    }
  }
}

/* Scales the sums of four columns. */
INLINE v128_t scaled(int each, v128_t sums, const engine_scaling *scaling, const int32_t *vectors,
                     int32_t stride) {
  v128_t x = wasm_i32x4_add(sums, wasm_v128_load(vectors)), factor, low, high;
  if (each) {
    x = wasm_i32x4_mul(x, wasm_v128_load(vectors + ENLARGING * stride));
    x = high_product(x, wasm_v128_load(vectors + MANTISSA * stride));
    factor = wasm_v128_load(vectors + DIVIDING * stride);
    low = wasm_u64x2_shr(wasm_i64x2_extmul_low_i32x4(x, factor), 30);
    high = wasm_u64x2_shr(wasm_i64x2_extmul_high_i32x4(x, factor), 30);
    x = wasm_i32x4_sub(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6),
                       rounds_up(x, wasm_v128_load(vectors + MASK * stride)));
  } else {
    x = halved(high_product(x, wasm_i32x4_splat(scaling->mantissa)), -scaling->shift);
  }
  x = wasm_i32x4_add(x, wasm_i32x4_splat(scaling->zero));
  return wasm_i32x4_max(x, wasm_i32x4_splat(scaling->lowest));
}

/* Products of int16: SIMD multiplies and adds pairs of them. Depths are even. */

static int32_t even(int32_t depth) { return (depth + 1) & ~1; }

/* int8 [rows, depth] -> int16 [rows, even depth] around zero. */
static void widen(const int8_t *from, int32_t rows, int32_t depth, int32_t zero, int16_t *to) {
  v128_t zeros = wasm_i16x8_splat((int16_t)zero);
  int32_t row, i;
  for (row = 0; row < rows; ++row) {
    for (i = 0; i + 8 <= depth; i += 8) {
      wasm_v128_store(to + i, wasm_i16x8_sub(wasm_i16x8_load8x8(from + i), zeros));
    }
    for (; i < depth; ++i) to[i] = (int16_t)(from[i] - zero);
    if (depth % 2) to[depth] = 0;
    from += depth;
    to += even(depth);
  }
}

/* int8 [columns, depth] -> int16 [columns / 8, even depth / 2, 8, 2] around zero. */
static void pack(const int8_t *from, int32_t columns, int32_t depth, int32_t zero, int16_t *to) {
  int32_t tile, column, i;
  for (tile = 0; tile < columns; tile += ENGINE_COLUMNS) {
    for (column = 0; column < ENGINE_COLUMNS; ++column) {
      const int8_t *row = from + (ptrdiff_t)(tile + column) * depth;
      int16_t *pair = to + 2 * column;
      int there = tile + column < columns;
      for (i = 0; i < depth; i += 2, pair += 2 * ENGINE_COLUMNS) {
        pair[0] = (int16_t)(there ? row[i] - zero : 0);
        pair[1] = (int16_t)(there && i + 1 < depth ? row[i + 1] - zero : 0);
      }
    }
    to += ENGINE_COLUMNS * even(depth);
  }
}

/* One tile: `rows` rows by 8 columns. Callers give `each` and `rows` as constants. */
INLINE void multiply_tile(int each, int32_t rows, const int16_t *left, int32_t depth,
                          const int16_t *right, const engine_scaling *scaling,
                          const int32_t *vectors, int8_t *output, int32_t count) {
  int32_t stride = padded(scaling->columns), row, i;
  v128_t sums[TILE_ROWS][2];
  for (row = 0; row < rows; ++row) sums[row][0] = sums[row][1] = wasm_i32x4_const_splat(0);
  for (i = 0; i < depth; i += 2, right += 2 * ENGINE_COLUMNS) {
    v128_t first = wasm_v128_load(right), second = wasm_v128_load(right + ENGINE_COLUMNS);
    for (row = 0; row < rows; ++row) {
      v128_t pair = wasm_v128_load32_splat(left + row * depth + i);
      sums[row][0] = wasm_i32x4_add(sums[row][0], wasm_i32x4_dot_i16x8(pair, first));
      sums[row][1] = wasm_i32x4_add(sums[row][1], wasm_i32x4_dot_i16x8(pair, second));
    }
  }
  for (row = 0; row < rows; ++row) {
    store(output + row * scaling->columns, scaled(each, sums[row][0], scaling, vectors, stride),
          scaled(each, sums[row][1], scaling, vectors + LANES, stride), count);
  }
}

/* int16 [rows, depth] by packed columns -> int8 [rows, columns]. */
INLINE void multiply(int each, const uint8_t *plan, const int16_t *left, int32_t rows,
                     int32_t depth, const int16_t *right, const engine_scaling *scaling,
                     int8_t *output) {
  const int32_t *vectors = AT(const int32_t, scaling->vectors);
  int32_t column, row;
  for (column = 0; column < scaling->columns; column += ENGINE_COLUMNS) {
    int32_t count = scaling->columns - column;
    for (row = 0; row + TILE_ROWS <= rows; row += TILE_ROWS) {
      multiply_tile(each, TILE_ROWS, left + row * depth, depth, right, scaling, vectors + column,
                    output + row * scaling->columns + column, count);
    }
    for (; row < rows; ++row) {
      multiply_tile(each, 1, left + row * depth, depth, right, scaling, vectors + column,
                    output + row * scaling->columns + column, count);
    }
    right += ENGINE_COLUMNS * depth;
  }
}

/* The same for the multipliers that there are. */
static void multiply_scaled(const uint8_t *plan, const int16_t *left, int32_t rows, int32_t depth,
                            const int16_t *right, const engine_scaling *scaling,
                            int8_t *output) {
  if (scaling->multipliers) {
    multiply(1, plan, left, rows, depth, right, scaling, output);
  } else {
    multiply(0, plan, left, rows, depth, right, scaling, output);
  }
}

/* Operators. */

static int32_t packed_values(const engine_product *p) {
  return padded(p->scaling.columns) * even(p->depth);
}

static void open_product(uint8_t *plan, const engine_product *p) {
  int16_t *packed = AT(int16_t, p->packed);
  int32_t batch;
  open_scaling(plan, &p->scaling);
  if (!p->constant) return;
  for (batch = 0; batch < (p->right_step ? p->batches : 1); ++batch) {
    pack(AT(int8_t, p->right + batch * p->right_step), p->scaling.columns, p->depth, p->right_zero,
         packed + batch * packed_values(p));
  }
}

static void run_product(uint8_t *plan, const engine_product *p) {
  int16_t *packed = AT(int16_t, p->packed), *wide = AT(int16_t, p->wide);
  int8_t *output = AT(int8_t, p->output);
  int32_t batch;
  for (batch = 0; batch < p->batches; ++batch) {
    if (!p->constant && (batch == 0 || p->right_step)) {
      pack(AT(int8_t, p->right + batch * p->right_step), p->scaling.columns, p->depth,
           p->right_zero, packed);
    } else if (batch > 0 && p->right_step) {
      packed += packed_values(p);
    }
    if (batch == 0 || p->left_step) {
      widen(AT(int8_t, p->left + batch * p->left_step), p->rows, p->depth, p->left_zero, wide);
    }
    multiply_scaled(plan, wide, p->rows, even(p->depth), packed, &p->scaling, output);
    output += p->rows * p->scaling.columns;
  }
}

static int32_t window_values(const engine_convolution *p) {
  return p->window_height * p->window_width * p->channels;
}

static void open_convolution(uint8_t *plan, const engine_convolution *p) {
  open_scaling(plan, &p->scaling);
  pack(AT(int8_t, p->weights), p->scaling.columns, window_values(p), 0, AT(int16_t, p->packed));
}

/* The values under a window, around zero; 0 outside of the image. */
static void gather(const int8_t *image, const engine_convolution *p, int32_t top, int32_t left,
                   int16_t *to) {
  int32_t row, column, i;
  for (row = top; row < top + p->window_height; ++row) {
    for (column = left; column < left + p->window_width; ++column) {
      const int8_t *from = image + (row * p->width + column) * p->channels;
      if (row < 0 || row >= p->height || column < 0 || column >= p->width) {
        memset(to, 0, (size_t)p->channels * sizeof *to);
      } else if (p->channels % 2 == 0) {
        widen(from, 1, p->channels, p->input_zero, to);
      } else {
        for (i = 0; i < p->channels; ++i) to[i] = (int16_t)(from[i] - p->input_zero);
      }
      to += p->channels;
    }
  }
  if (window_values(p) % 2) *to = 0;
}

static void run_convolution(uint8_t *plan, const engine_convolution *p) {
  int32_t depth = even(window_values(p)), row, column;
  int16_t *wide = AT(int16_t, p->wide);
  int8_t *output = AT(int8_t, p->output);
  for (row = 0; row < p->output_height; ++row) {
    for (column = 0; column < p->output_width; ++column) {
      gather(AT(int8_t, p->input), p, row * p->stride_height - p->pad_top,
             column * p->stride_width - p->pad_left, wide + column * depth);
    }
    multiply_scaled(plan, wide, p->output_width, depth, AT(int16_t, p->packed), &p->scaling, output);
    output += p->output_width * p->scaling.columns;
  }
}

/* ADD and MUL: their results of all pairs of values are a table, [left, right]. */

/* The results of four values on the right. */
INLINE v128_t combined(int add, const engine_elementwise *p, v128_t left, v128_t right) {
  v128_t x;
  if (add) { /* the larger scale is halved, so that no sum overflows */
    x = multiplied(wasm_i32x4_shl(right, ADD_BITS), p->right_mantissa, p->right_shift);
    x = wasm_i32x4_add(x, wasm_i32x4_shl(left, ADD_BITS - 1));
  } else {
    x = wasm_i32x4_mul(left, right);
  }
  x = wasm_i32x4_add(multiplied(x, p->mantissa, p->shift), wasm_i32x4_splat(p->zero));
  return wasm_i32x4_max(x, wasm_i32x4_splat(p->lowest));
}

INLINE void open_elementwise(int add, uint8_t *plan, const engine_elementwise *p) {
  int8_t *row = AT(int8_t, p->table);
  int32_t left, right;
  for (left = -128; left < 128; ++left, row += 256) {
    v128_t x = wasm_i32x4_splat(left - p->left_zero);
    for (right = 0; right < 256; right += 2 * LANES) {
      v128_t y = wasm_i32x4_add(wasm_i32x4_make(0, 1, 2, 3),
                                wasm_i32x4_splat(right - 128 - p->right_zero));
      v128_t next = wasm_i32x4_add(y, wasm_i32x4_const_splat(LANES));
      store(row + right, combined(add, p, x, y), combined(add, p, x, next), 2 * LANES);
    }
  }
}

/* The last dimension; its strides are 0 or 1. */
INLINE void look_up_row(const int8_t *table, const int8_t *left, int32_t left_step,
                        const int8_t *right, int32_t right_step, int8_t *output, int32_t count) {
  int32_t i;
  for (i = 0; i < count; ++i) {
    output[i] = table[256 * left[left_step * i] + right[right_step * i]];
  }
}

static void run_elementwise(uint8_t *plan, const engine_elementwise *p) {
  const int32_t *a = p->left_strides, *b = p->right_strides, *sizes = p->sizes;
  const int8_t *table = AT(int8_t, p->table) + 128 * 256 + 128;
  int8_t *output = AT(int8_t, p->output);
  int32_t i, j, k;
  for (i = 0; i < sizes[0]; ++i) {
    for (j = 0; j < sizes[1]; ++j) {
      for (k = 0; k < sizes[2]; ++k, output += sizes[3]) {
        const int8_t *left = AT(int8_t, p->left + i * a[0] + j * a[1] + k * a[2]);
        const int8_t *right = AT(int8_t, p->right + i * b[0] + j * b[1] + k * b[2]);
        if (a[3] && b[3]) {
          look_up_row(table, left, 1, right, 1, output, sizes[3]);
        } else {
          look_up_row(table, left, a[3], right, b[3], output, sizes[3]);
        }
      }
    }
  }
}

static void run_lookup(uint8_t *plan, const engine_lookup *p) {
  const int8_t *input = AT(int8_t, p->input), *table = AT(int8_t, p->table) + 128;
  int8_t *output = AT(int8_t, p->output);
  int32_t row, channel;
  for (row = 0; row < p->rows; ++row) {
    for (channel = 0; channel < p->channels; ++channel) {
      *output++ = table[256 * channel + *input++];
    }
  }
}

static int64_t saturated(int64_t x) {
  return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : x;
}

static int64_t high_product_of(int64_t x, int64_t y) { return (x * y + (1 << 30)) >> 31; }

/* 1 / (1 + x) in 2^-31, for x from 0 to 1 in 2^-31: one_over_one_plus_x_for_x_in_0_1. Newton's
 * iteration begins at 48/17 - 32/17 x, in 2^-29. */
static int32_t reciprocal(int64_t x) {
  int64_t half = (x + INT32_MAX + 1) / 2, y = 1515870810 + high_product_of(half, -1010580540);
  int i;
  for (i = 0; i < 3; ++i) {
    y += saturated(high_product_of(y, (1 << 29) - high_product_of(half, y)) * 4);
  }
  return (int32_t)saturated(y * 2);
}

static void softmax_row(const int8_t *input, int32_t columns, const int32_t *table,
                        int32_t *exponentials, int8_t *output) {
  v128_t share, zero = wasm_i32x4_const_splat(-128);
  int32_t largest = -128, bits, i;
  uint32_t total = 0;
  for (i = 0; i < columns; ++i) largest = input[i] > largest ? input[i] : largest;
  for (i = 0; i < columns; ++i) {
    exponentials[i] = table[largest - input[i]];
    total += ((uint32_t)exponentials[i] + (1u << 11)) >> 12; /* 12 integer bits */
  }
  bits = 31 - __builtin_clz(total);
  share = wasm_i32x4_splat(reciprocal(((int64_t)total << (31 - bits)) - ((int64_t)1 << 31)));
  for (i = 0; i < columns; i += 2 * LANES) {
    v128_t first = high_product(share, wasm_v128_load(exponentials + i));
    v128_t second = high_product(share, wasm_v128_load(exponentials + i + LANES));
    store(output + i, wasm_i32x4_add(halved(first, bits + 4), zero),
          wasm_i32x4_add(halved(second, bits + 4), zero), columns - i);
  }
}

static void run_softmax(uint8_t *plan, const engine_softmax *p) {
  int32_t row;
  for (row = 0; row < p->rows; ++row) {
    softmax_row(AT(int8_t, p->input + row * p->columns), p->columns, AT(int32_t, p->table),
                AT(int32_t, p->exponentials), AT(int8_t, p->output + row * p->columns));
  }
}

INLINE void move_row(const int8_t *from, int32_t from_step, int8_t *to, int32_t to_step,
                     int32_t count) {
  int32_t i = 0;
  if (from_step == 1 && to_step == 1) {
    for (; i + 16 <= count; i += 16) wasm_v128_store(to + i, wasm_v128_load(from + i));
  }
  for (; i < count; ++i) to[i * to_step] = from[i * from_step];
}

static void run_move(uint8_t *plan, const engine_move *p) {
  const int32_t *a = p->input_strides, *b = p->output_strides;
  int32_t i, j, k;
  for (i = 0; i < p->sizes[0]; ++i) {
    for (j = 0; j < p->sizes[1]; ++j) {
      for (k = 0; k < p->sizes[2]; ++k) {
        move_row(AT(int8_t, p->input + i * a[0] + j * a[1] + k * a[2]), a[3],
                 AT(int8_t, p->output + i * b[0] + j * b[1] + k * b[2]), b[3], p->sizes[3]);
      }
    }
  }
}

/* The plan. */

static const int32_t *first_record(const uint8_t *plan) {
  const engine_header *header = AT(const engine_header, 0);
  size_t tensors = (size_t)(header->inputs + header->outputs) * sizeof(engine_tensor);
  return AT(const int32_t, sizeof *header + tensors);
}

int engine_open(uint8_t *plan) {
  const engine_header *header = AT(engine_header, 0);
  const int32_t *record = first_record(plan);
  int32_t i;
  if (header->magic != ENGINE_MAGIC || header->version != ENGINE_VERSION) return 1;
  for (i = 0; i < header->records; ++i, record += record[1]) {
    if (record[0] < ENGINE_PRODUCT || record[0] > ENGINE_MOVE) return 1;
    switch (record[0]) {
      case ENGINE_PRODUCT: open_product(plan, (const engine_product *)record); break;
      case ENGINE_CONVOLUTION: open_convolution(plan, (const engine_convolution *)record); break;
      case ENGINE_ADD: open_elementwise(1, plan, (const engine_elementwise *)record); break;
      case ENGINE_MULTIPLY: open_elementwise(0, plan, (const engine_elementwise *)record); break;
    }
  }
  return 0;
}

static void run_record(uint8_t *plan, const int32_t *record) {
  switch (record[0]) {
    case ENGINE_PRODUCT: run_product(plan, (const engine_product *)record); break;
    case ENGINE_CONVOLUTION: run_convolution(plan, (const engine_convolution *)record); break;
    case ENGINE_ADD:
    case ENGINE_MULTIPLY: run_elementwise(plan, (const engine_elementwise *)record); break;
    case ENGINE_LOOKUP: run_lookup(plan, (const engine_lookup *)record); break;
    case ENGINE_SOFTMAX: run_softmax(plan, (const engine_softmax *)record); break;
    case ENGINE_MOVE: run_move(plan, (const engine_move *)record); break;
  }
}

void engine_run(uint8_t *plan) {
  const engine_header *header = AT(engine_header, 0);
  const int32_t *record = first_record(plan);
  int32_t i;
  for (i = 0; i < header->records; ++i, record += record[1]) run_record(plan, record);
}
