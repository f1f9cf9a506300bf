/* The engine: int8 models on WebAssembly SIMD, byte for byte TensorFlow Lite's reference kernels.
 *
 * A model comes as a plan, which firmware_sim/runtimes/plan.py makes of a flatbuffer:
 *   header, places of the inputs and outputs, records, constants
 * Records are the operators in the order in which they run. All numbers are int32; places are bytes
 * from the beginning of the plan, at multiples of 16 where they hold more than bytes.
 *
 *   1. Put the plan at a multiple of 16, with header.memory bytes from there on.
 *   2. engine_open(plan) makes tables; it refuses plans of another version.
 *   3. Write the inputs to their places, call engine_run(plan), and read the outputs at theirs.
 *
 * The writer of plans takes the names and order of all fields, and the numbers of the operators,
 * from this file.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdint.h>

#define ENGINE_MAGIC 0x4e414c50 /* "PLAN" */
#define ENGINE_VERSION 1

#define ENGINE_COLUMNS 8 /* of a tile: vectors for columns have a multiple of these */

enum engine_operator {
  ENGINE_PRODUCT = 1,
  ENGINE_CONVOLUTION = 2,
  ENGINE_ADD = 3,
  ENGINE_MULTIPLY = 4,
  ENGINE_LOOKUP = 5,
  ENGINE_SOFTMAX = 6,
  ENGINE_MOVE = 7
};

/* Then an engine_tensor for each input and each output; then the records. */
typedef struct {
  int32_t magic;
  int32_t version;
  int32_t bytes;  /* of the plan */
  int32_t memory; /* bytes of the plan and its working memory */
  int32_t inputs;
  int32_t outputs;
  int32_t records;
} engine_header;

typedef struct {
  int32_t place;
  int32_t bytes;
} engine_tensor;

/* Each record begins with its operator, and its length in int32. */

/* Sums of int32 -> int8. TFLite multiplies by mantissa / 2^31 * 2^shift. */
typedef struct {
  int32_t columns;
  int32_t bias;        /* int32 [columns]; 0: none */
  int32_t multipliers; /* int32 [columns, 2]: mantissa and shift of each; 0: one for all */
  int32_t mantissa;
  int32_t shift;   /* to the right */
  int32_t vectors; /* working memory of the columns, see engine.c */
  int32_t zero;        /* of the output */
  int32_t lowest;      /* 0.0 if a ReLU is fused, else -128 */
} engine_scaling;

/* FULLY_CONNECTED, BATCH_MATMUL: [rows, depth] by the transposed [columns, depth]. */
typedef struct {
  int32_t operation;
  int32_t length;
  engine_scaling scaling;
  int32_t batches;
  int32_t rows;
  int32_t depth;
  int32_t left;
  int32_t left_step; /* bytes from one batch to the next; 0: the same */
  int32_t left_zero;
  int32_t right;
  int32_t right_step;
  int32_t right_zero;
  int32_t constant; /* whether the right side is packed once */
  int32_t packed;   /* int16, one after the other if constant */
  int32_t wide;     /* int16 */
  int32_t output;
} engine_product;

/* CONV_2D. Weights are [columns, window height, window width, channels]. */
typedef struct {
  int32_t operation;
  int32_t length;
  engine_scaling scaling;
  int32_t input;
  int32_t input_zero;
  int32_t height;
  int32_t width;
  int32_t channels;
  int32_t window_height;
  int32_t window_width;
  int32_t stride_height;
  int32_t stride_width;
  int32_t pad_top;
  int32_t pad_left;
  int32_t output_height;
  int32_t output_width;
  int32_t weights;
  int32_t packed;
  int32_t wide;
  int32_t output;
} engine_convolution;

/* ADD, MUL: four dimensions; a stride of 0 broadcasts. */
typedef struct {
  int32_t operation;
  int32_t length;
  int32_t left; /* of ADD the input with the larger scale */
  int32_t right;
  int32_t output;
  int32_t sizes[4];
  int32_t left_strides[4];
  int32_t right_strides[4]; /* the last ones are 0 or 1 */
  int32_t left_zero;
  int32_t right_zero;
  int32_t right_mantissa; /* of ADD */
  int32_t right_shift;
  int32_t mantissa;
  int32_t shift;
  int32_t zero;
  int32_t lowest;
  int32_t table; /* working memory: int8 [256, 256] */
} engine_elementwise;

/* What depends on one value only: RSQRT, and DEPTHWISE_CONV_2D with a window of 1 x 1. */
typedef struct {
  int32_t operation;
  int32_t length;
  int32_t input; /* [rows, channels] */
  int32_t rows;
  int32_t channels;
  int32_t table; /* int8 [channels, 256] */
  int32_t output;
} engine_lookup;

/* SOFTMAX of each row. */
typedef struct {
  int32_t operation;
  int32_t length;
  int32_t input;
  int32_t rows;
  int32_t columns;
  int32_t table;       /* int32 [256]: e^(-scale * n) in 2^-31 */
  int32_t exponentials; /* working memory: int32 [columns] */
  int32_t output;
} engine_softmax;

/* TRANSPOSE, PACK, CONCATENATION: bytes that keep their values. */
typedef struct {
  int32_t operation;
  int32_t length;
  int32_t input;
  int32_t output;
  int32_t sizes[4];
  int32_t input_strides[4];
  int32_t output_strides[4];
} engine_move;

/* Returns 0, or 1 if the plan is of another version or has an unknown operator. */
int engine_open(uint8_t *plan);

void engine_run(uint8_t *plan);

#endif
