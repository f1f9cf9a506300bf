/* A firmware's use of the decoder, and what the test asks of it. */
#include <cstring>

#include "speech_bundle.h"
#include "speech_operators.h"
#include "speech_self_test.h"
#include "speech_tflm.h"

extern "C" {

int (*stub_invoke)(int, char* const*, char* const*);

static uint64_t memory[1 << 17];
static speech_decoder* decoder;
static speech_runtime tflm;

int firmware_start(void) {
  const int status = speech_tflm_start(&tflm);
  if (status != SPEECH_OK) return status;
  return speech_decoder_open(&decoder, memory, sizeof memory, speech_core_block,
                             SPEECH_CORE_BLOCK_BYTES, 0, &tflm);
}

int firmware_decode(const int8_t* features, int32_t frames, int32_t beam, char* text) {
  const speech_numbers* n = decoder->core.numbers;
  if (frames > 0 && frames <= n->frames) {
    memcpy(decoder->features, features, static_cast<size_t>(frames) * n->channels);
  }
  const int status = speech_decode(decoder, frames, beam);
  if (status == SPEECH_OK) strcpy(text, speech_decoder_text(decoder));
  return status;
}

int firmware_token_count(void) { return decoder->search.token_count; }
int firmware_ended(void) { return decoder->search.ended; }
int firmware_command_count(void) { return decoder->command_count; }
const speech_command* firmware_command(int number) { return &decoder->commands[number]; }
const char* firmware_intent(int intent) { return speech_string(&decoder->core.names, intent); }
int8_t firmware_feature(uint16_t value) { return speech_feature(&decoder->core, value); }

/* Slot `place` of a command: its name, or NULL after the last one. */
const char* firmware_slot(int command, int place, char* value, int32_t* confidence) {
  const speech_slot* slots;
  if (place >= speech_decoder_slots(decoder, command, &slots)) return nullptr;
  strcpy(value, slots[place].value);
  *confidence = slots[place].confidence;
  return slots[place].name;
}

int firmware_self_test(speech_mismatch* found) { return speech_self_test(decoder, found); }

unsigned int firmware_operators(void) {
  SpeechOpResolver resolver;
  return SpeechAddOperators(resolver) == kTfLiteOk ? resolver.GetRegistrationLength() : 0;
}
}
