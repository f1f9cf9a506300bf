/* The self-test on an emulated Cortex-M55, with models that replay what it expects: the loop,
 * not the models, is what runs here. Speaks through Arm's semihosting.
 */
#include "speech_bundle.h"
#include "speech_golden.h"
#include "speech_self_test.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

extern const unsigned stack_top;
static uint64_t memory[400 * 1024 / 8];
static speech_decoder *decoder;
static size_t step;

static void semihost(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static int replay_encoder(void *context, const void *const *inputs, const void **outputs) {
  int i;
  (void)context;
  (void)inputs;
  for (i = 0; i < SPEECH_GOLDEN_ENCODER_OUTPUTS; ++i) outputs[i] = speech_golden_encoder_outputs[i];
  return 0;
}

static int replay_decoder_step(void *context, const void *const *inputs, const void **outputs) {
  int i;
  (void)context;
  (void)inputs;
  for (i = 0; i < SPEECH_GOLDEN_DECODER_STEP_OUTPUTS; ++i) {
    outputs[i] =
        speech_golden_decoder_step_outputs[i] + step * decoder->core.step_output_bytes[i];
  }
  ++step;
  return 0;
}

void reset_handler(void) {
  static const speech_runtime replay = {NULL, replay_encoder, replay_decoder_step};
  unsigned exit_block[2];
  speech_mismatch mismatch;
  int status = speech_decoder_open(&decoder, memory, sizeof memory, speech_core_block,
                                   SPEECH_CORE_BLOCK_BYTES, 0, &replay);
  if (status == SPEECH_OK) {
    status = speech_self_test(decoder, &mismatch);
    semihost(SYS_WRITE0, speech_decoder_text(decoder));
  }
  exit_block[0] = APPLICATION_EXIT;
  exit_block[1] = (unsigned)status;
  semihost(SYS_EXIT_EXTENDED, exit_block);
}

__attribute__((section(".vectors"), used)) static const struct {
  const unsigned *stack;
  void (*reset)(void);
} vectors = {&stack_top, reset_handler};
