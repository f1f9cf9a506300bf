/* The parameters of a bundle: core.bin, a block of bytes that is read in place.
 *
 *   header    magic, version, bytes of the block, number of sections: 4 x uint32
 *   sections  for each: kind and version, 2 x uint16; offset and bytes, 2 x uint32
 *   content   of the sections, each at a multiple of 4 bytes
 *
 * Numbers are little-endian. Sections of other kinds are skipped, so that a block may carry more
 * than a core knows. The structures below lie in the block as they are written here; the writer of
 * blocks takes names and order of their fields from this file.
 */
#ifndef SPEECH_CORE_H
#define SPEECH_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_BLOCK_MAGIC 0x43455053u /* "SPEC" */
#define SPEECH_BLOCK_VERSION 1

#define SPEECH_STEP 160 /* samples of a step of audio: 10 ms at 16 kHz */

/* What functions return. */
enum speech_status {
  SPEECH_OK = 0,
  SPEECH_ERROR_FRAMES,       /* frames is not 1 to those of the window */
  SPEECH_ERROR_ENCODER,      /* invoke_encoder failed */
  SPEECH_ERROR_DECODER_STEP, /* invoke_decoder_step failed */
  SPEECH_ERROR_MISMATCH,     /* of the self-test */
  SPEECH_ERROR_RUNTIME,      /* TensorFlow Lite Micro cannot load the models */
  SPEECH_ERROR_BEAM,         /* beam is not 1 to the largest */
  SPEECH_ERROR_BLOCK,        /* the block is damaged, of another version, or not 4-aligned */
  SPEECH_ERROR_MEMORY,       /* the buffer is too small, or not 8-aligned */
  SPEECH_ERROR_LEXICON,      /* of the compiler: no lexicon, or not all of it */
  SPEECH_ERROR_GRAMMAR       /* of the compiler: the text is no grammar */
};

enum speech_section {
  SPEECH_SECTION_NUMBERS = 1,
  SPEECH_SECTION_TENSORS = 2,
  SPEECH_SECTION_TABLES = 3,
  SPEECH_SECTION_FRONTEND = 4,
  SPEECH_SECTION_TOKENS = 5,
  SPEECH_SECTION_AUTOMATON = 6, /* only of a bundle with a grammar; it needs CTC */
  SPEECH_SECTION_PHONES = 7,    /* only of a general model */
  SPEECH_SECTION_PHONE_AUTOMATON = 8 /* only of a general model with a grammar */
};

/* Section NUMBERS. Places are those of inputs and outputs in the flatbuffers; -1: there is none. */
typedef struct {
  int32_t frames;        /* of the window: 10 ms each */
  int32_t channels;      /* values of a frame */
  int32_t memory_frames; /* of the window, after the encoder */
  int32_t token_limit;   /* of a text */
  int32_t vocabulary;
  int32_t token_start;
  int32_t token_end;
  int32_t token_blank; /* of CTC */
  /* feature = value of the microfrontend * numerator / denominator + zero point */
  int32_t feature_numerator;
  int32_t feature_denominator;
  int32_t feature_zero_point;
  /* The search. Log probabilities are whole numbers of 1/65536 nats. */
  int32_t beam;           /* hypotheses, if the caller does not choose */
  int32_t logit_nats;     /* of a unit of the decoder step's logits, in 2^-24 */
  int32_t ctc_logit_nats; /* likewise; 0: the encoder has none */
  int32_t ctc_weight;     /* of CTC, in 1/65536, beside attention */
  /* Places. */
  int32_t encoder_features;
  int32_t encoder_mask;
  int32_t encoder_ctc_logits;
  int32_t step_token;
  int32_t step_self_mask;
  int32_t step_memory_mask;
  int32_t step_logits;
  /* Stored values of a one-hot token, and of masks. Attention may look at valid places only. */
  int32_t token_zero;
  int32_t token_one;
  int32_t encoder_mask_valid;
  int32_t encoder_mask_masked;
  int32_t memory_mask_valid;
  int32_t memory_mask_masked;
  int32_t self_mask_valid;
  int32_t self_mask_masked;
} speech_numbers;

/* Section TENSORS: these numbers, then uint32 bytes of each input and output, then crossings, then
 * caches. */
typedef struct {
  int32_t encoder_inputs;
  int32_t encoder_outputs;
  int32_t step_inputs;
  int32_t step_outputs;
  int32_t crossings;
  int32_t caches;
} speech_tensor_numbers;

/* An input of the decoder step that is an output of the encoder, byte for byte. */
typedef struct {
  int32_t input;
  int32_t encoder_output;
} speech_crossing;

/* An input of the decoder step; step t writes its row t, as an output. */
typedef struct {
  int32_t input;
  int32_t row_output;
  int32_t row_bytes;
  int32_t zero; /* value of a row before it is written */
} speech_cache;

/* Section TABLES: these numbers, then int32 powers, then uint16 log_adds. */
typedef struct {
  int32_t powers;       /* 2^-x for x from 0 to 1, in 1/65536 */
  int32_t log_adds;     /* log(1 + e^-x), in 1/65536 */
  int32_t log_add_bits; /* 2^bits / 65536 nats from one entry to the next */
} speech_table_numbers;

/* Section FRONTEND: these numbers; the FFT as kissfft lays it out: int32 size, inverse and 64
 * factors, then int16 pairs of twiddles, then those of the FFT of real numbers; then int16: window,
 * frequency starts, weight starts and widths of the channels, weights, unweights, gains. */
typedef struct {
  int32_t window; /* samples */
  int32_t step;
  int32_t fft;
  int32_t channels;
  int32_t weights;
  int32_t gains; /* 0: no gain control */
  int32_t first_bin;
  int32_t end_bin;
  int32_t smoothing_bits;
  int32_t even_smoothing;
  int32_t odd_smoothing;
  int32_t least_signal;
  int32_t snr_shift;
  int32_t log_shift;
} speech_frontend_numbers;

/* Section TOKENS: these numbers, then uint32 places of the texts and of their end, then the texts:
 * UTF-8, each ended by a zero byte. */
typedef struct {
  int32_t count;
  int32_t bytes; /* of all texts */
} speech_string_numbers;

/* Section AUTOMATON: these numbers; indices of `width` bytes: first arc of each state and one more,
 * then the state that each arc leads to; uint16 token and int16 slot of each arc; int16 intent that
 * ends in each state, or -1; strings as in TOKENS: intents, then slots. Each array begins at a
 * multiple of 4 bytes. Arcs of a state are in the order of token and slot. */
typedef struct {
  int32_t states;
  int32_t arcs;
  int32_t intents;
  int32_t slots;
  int32_t start;        /* state */
  int32_t between;      /* token between commands; -1: none */
  int32_t commands;     /* most in one text */
  int32_t concurrent;   /* most states that one text leads to */
  int32_t reject_below; /* log probability of all commands of a text together */
  int32_t width;        /* 2 or 4 */
} speech_automaton_numbers;

/* Section PHONES: these numbers, then strings as in TOKENS: a space and the name of each phone. */
typedef struct {
  int32_t count;          /* without blank, whose number this is */
  int32_t logit_nats;     /* of a unit of the encoder's logits of phones, in 2^-24 */
  int32_t encoder_logits; /* their place */
  int32_t margin;         /* units that a path may be below the best one */
  int32_t paths;          /* most in a frame */
  int32_t records;        /* most of the paths' arcs */
} speech_phone_numbers;

/* Section PHONE_AUTOMATON: as AUTOMATON, with phones for tokens; then these numbers; an index for
 * each arc, 0 or one more than the word that ends there; strings as in TOKENS: words as they are
 * written, how they are said, and values; an empty one stands for the word as it is written. */
typedef struct {
  int32_t words;
  int32_t said;   /* as many as words, or 0: all are said as they are written */
  int32_t values; /* as many as words, or 0 */
} speech_word_numbers;

typedef struct {
  const void *values;
  int32_t width;
} speech_indices;

typedef struct {
  const uint32_t *places;
  const char *bytes;
  int32_t count;
} speech_strings;

/* Where everything is in a block. */
typedef struct {
  const speech_numbers *numbers;
  const speech_tensor_numbers *tensors;
  const uint32_t *encoder_input_bytes, *encoder_output_bytes;
  const uint32_t *step_input_bytes, *step_output_bytes;
  const speech_crossing *crossings;
  const speech_cache *caches;
  const speech_table_numbers *tables;
  const int32_t *powers;
  const uint16_t *log_add;
  const speech_frontend_numbers *frontend;
  const int32_t *fft;
  const int16_t *real_twiddles, *window, *frequency_starts, *weight_starts, *widths;
  const int16_t *weights, *unweights, *gains;
  speech_strings tokens;
  uint32_t longest_token;                    /* bytes */
  const speech_automaton_numbers *automaton; /* NULL: no grammar */
  speech_indices first_arcs, targets;
  const uint16_t *arc_tokens;
  const int16_t *arc_slots, *finals;
  speech_strings names; /* intents, then slots */
  const speech_phone_numbers *phones; /* NULL: the model hears none */
  speech_strings phone_names;
  uint32_t longest_phone; /* bytes */
  int of_phones;          /* whether the automaton is over phones */
  const speech_word_numbers *word_numbers;
  speech_indices arc_words;
  speech_strings words, said, values;
  uint32_t longest_word, longest_value; /* bytes */
} speech_core;

/* Finds and checks everything in a block. No later function leaves the bounds of a block that this
 * one has accepted. Returns SPEECH_OK or SPEECH_ERROR_BLOCK. The block must outlive `core`.
 */
int speech_core_read(speech_core *core, const void *block, size_t bytes);

/* Takes the grammar of another block. It may hold nothing else, and must outlive `core`. Returns
 * SPEECH_OK, or SPEECH_ERROR_BLOCK and leaves `core` as it was. */
int speech_core_use(speech_core *core, const void *block, size_t bytes);

/* A text in the block, ended by a zero byte. */
static inline const char *speech_string(const speech_strings *strings, int32_t i) {
  return strings->bytes + strings->places[i];
}

static inline int32_t speech_index(const speech_indices *indices, int32_t i) {
  if (indices->width == 2) return ((const uint16_t *)indices->values)[i];
  return ((const int32_t *)indices->values)[i];
}

/* A buffer that is handed out piece by piece. With a base of NULL it only counts. */
typedef struct {
  uint8_t *base;
  uint64_t used;
} speech_memory;

/* `count` items of `size` bytes, aligned to 8; NULL while counting. */
void *speech_take(speech_memory *memory, uint64_t count, size_t size);

#ifdef __cplusplus
}
#endif

#endif
