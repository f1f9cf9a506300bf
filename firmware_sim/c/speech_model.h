/* The two models, and the tables that connect their inputs and outputs. speech_parameters.h has the
 * numbers, speech_decoder.h the instructions for use.
 */
#ifndef SPEECH_MODEL_H
#define SPEECH_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "speech_parameters.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The flatbuffers, aligned to 16 bytes. */
extern const uint8_t speech_encoder_model[SPEECH_ENCODER_MODEL_BYTES];
extern const uint8_t speech_decoder_step_model[SPEECH_DECODER_STEP_MODEL_BYTES];

/* Inputs and outputs in the order of the flatbuffers. */
typedef struct {
  const char *name;
  size_t bytes;
} speech_tensor;

extern const speech_tensor speech_encoder_inputs[SPEECH_ENCODER_INPUTS];
extern const speech_tensor speech_encoder_outputs[SPEECH_ENCODER_OUTPUTS];
extern const speech_tensor speech_decoder_step_inputs[SPEECH_DECODER_STEP_INPUTS];
extern const speech_tensor speech_decoder_step_outputs[SPEECH_DECODER_STEP_OUTPUTS];

/* An input of the decoder step that is an output of the encoder, byte for byte. */
typedef struct {
  int input;
  int encoder_output;
} speech_crossing;

extern const speech_crossing speech_crossings[SPEECH_CROSSINGS];

/* An input of the decoder step; step t writes its row t, as an output. */
typedef struct {
  int input;
  int row_output;
  size_t offset; /* of its SPEECH_TOKENS rows among SPEECH_CACHE_BYTES */
  size_t row_bytes;
  int8_t zero; /* value of a row before it is written */
} speech_cache;

extern const speech_cache speech_caches[SPEECH_CACHES];

/* The text of each token, in UTF-8. */
extern const char *const speech_tokens[SPEECH_VOCABULARY];

#if SPEECH_STATES > 0
/* The grammar: a finite automaton over tokens. A final state may go on at the start. */
typedef struct {
  uint16_t token;
  uint16_t to;  /* state */
  int16_t slot; /* of speech_slots, that the token belongs to; -1: none */
} speech_arc;

extern const speech_arc speech_arcs[SPEECH_ARCS]; /* by state, token and slot */
extern const uint16_t speech_first_arcs[SPEECH_STATES + 1];
extern const int16_t speech_finals[SPEECH_STATES]; /* the intent that ends there; -1: none */
extern const char *const speech_intents[SPEECH_INTENTS];
extern const char *const speech_slots[SPEECH_SLOTS + 1]; /* and a NULL */
extern const int32_t speech_powers[SPEECH_POWERS]; /* 2^-x for x from 0 to 1, in 1/65536 */
#endif

extern const uint16_t speech_log_add[SPEECH_LOG_ADDS]; /* log(1 + e^-x), in 1/65536 */

#ifdef __cplusplus
}
#endif

#endif
