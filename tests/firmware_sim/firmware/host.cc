/* A firmware's use of the exported sources, and what the test asks of it. */
#include <cstring>

#include "speech_operators.h"
#include "speech_self_test.h"
#include "speech_tflm.h"

extern "C" {

int (*stub_invoke)(int, char* const*, char* const*);

static speech_decoder decoder;
static speech_runtime tflm;

int firmware_start(void) { return speech_tflm_start(&tflm); }

int firmware_decode(const int8_t* features, int32_t frames, int32_t beam, char* text) {
  if (frames > 0 && frames <= SPEECH_FRAMES) {
    memcpy(decoder.features, features, static_cast<size_t>(frames) * SPEECH_CHANNELS);
  }
  const int status = beam == 0 ? speech_decode(&decoder, &tflm, frames)
                               : speech_decode_beam(&decoder, &tflm, frames, beam);
  if (status == SPEECH_OK) speech_text(&decoder, text);
  return status;
}

int firmware_token_count(void) { return decoder.search.token_count; }
int firmware_ended(void) { return decoder.search.ended; }

#if SPEECH_STATES > 0
int firmware_command_count(void) { return decoder.command_count; }
const speech_command* firmware_command(int number) { return &decoder.commands[number]; }
const char* firmware_intent(int intent) { return speech_intents[intent]; }
const char* firmware_slot_name(int slot) { return speech_slots[slot]; }
int firmware_slot_text(int command, int slot, char* text) {
  return speech_slot_text(&decoder, command, static_cast<int16_t>(slot), text);
}
#endif

int firmware_self_test(speech_mismatch* found) { return speech_self_test(&decoder, &tflm, found); }

unsigned int firmware_operators(void) {
  SpeechOpResolver resolver;
  return SpeechAddOperators(resolver) == kTfLiteOk ? resolver.GetRegistrationLength() : 0;
}
}
