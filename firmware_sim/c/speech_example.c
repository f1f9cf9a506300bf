/* An example to copy: a WAV file in, events out.
 *
 *   speech_example FILE.wav
 *
 * The file is 16 kHz, mono, 16 bits. A firmware feeds what its microphone gives instead.
 */
#include <stdio.h>
#include <string.h>

#include "speech.h"
#include "speech_bundle.h"
#include "speech_tflm.h"

/* Print the size that speech_size returns for your bundle and device, and write it here. */
#define MEMORY_BYTES (1024 * 1024)

static uint64_t memory[MEMORY_BYTES / sizeof(uint64_t)];

static void on_event(void *context, const speech_event *event) {
  static const char *const names[] = {"", "speech began", "early text", "speech ended",
                                      "text", "command", "rejected"};
  int32_t i;
  FILE *out = (FILE *)context;
  fprintf(out, "%ld-%ld %s", (long)event->start, (long)event->end, names[event->kind]);
  if (event->intent != NULL) fprintf(out, " %s", event->intent);
  if (event->text[0] != '\0') fprintf(out, ": %s", event->text);
  for (i = 0; i < event->slot_count; ++i) {
    fprintf(out, ", %s=%s", event->slots[i].name, event->slots[i].value);
  }
  if (event->confidence >= 0) {
    fprintf(out, " (%ld %%)", (long)event->confidence * 100 / SPEECH_CERTAIN);
  }
  fprintf(out, "\n");
}

static unsigned long number(const unsigned char *bytes, int count) {
  unsigned long value = 0;
  while (count > 0) value = value << 8 | bytes[--count];
  return value;
}

/* Goes to the samples of a WAV file. Returns their number; 0: it is of another kind. */
static unsigned long find_samples(FILE *file) {
  unsigned char head[12], format[16];
  int known = 0;
  if (fread(head, 1, 12, file) != 12 || memcmp(head, "RIFF", 4) != 0) return 0;
  while (fread(head, 1, 8, file) == 8) {
    unsigned long bytes = number(head + 4, 4);
    if (memcmp(head, "data", 4) == 0) return known ? bytes / 2 : 0;
    if (memcmp(head, "fmt ", 4) == 0 && bytes >= 16) {
      if (fread(format, 1, 16, file) != 16) return 0;
      known = number(format, 2) == 1 && number(format + 2, 2) == 1 &&
              number(format + 4, 4) == 16000 && number(format + 14, 2) == 16;
      bytes -= 16;
    }
    if (fseek(file, (long)(bytes + (bytes & 1)), SEEK_CUR) != 0) return 0;
  }
  return 0;
}

/* Feeds a file's samples. Returns what the recogniser returns. */
static int recognize(speech *recognizer, FILE *file, unsigned long samples) {
  unsigned char bytes[2 * SPEECH_STEP];
  int16_t block[SPEECH_STEP];
  int status = SPEECH_OK;
  while (samples > 0 && status == SPEECH_OK) {
    size_t want = samples < SPEECH_STEP ? (size_t)samples : SPEECH_STEP;
    size_t count = fread(bytes, 2, want, file), i;
    if (count == 0) break;
    for (i = 0; i < count; ++i) block[i] = (int16_t)number(bytes + 2 * i, 2);
    status = speech_feed(recognizer, block, count);
    samples -= count;
  }
  return status == SPEECH_OK ? speech_finish(recognizer) : status;
}

int main(int argc, char **argv) {
  speech_listener listener = {on_event, NULL};
  speech_runtime runtime;
  speech *recognizer;
  size_t bytes;
  int status = speech_tflm_start(&runtime);
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  unsigned long samples = file != NULL ? find_samples(file) : 0;
  listener.context = stdout;
  if (samples == 0) {
    fprintf(stderr, "Name a WAV file of 16 kHz, mono, 16 bits.\n");
    return 1;
  }
  if (status == SPEECH_OK) {
    status = speech_size(speech_core_block, SPEECH_CORE_BLOCK_BYTES, NULL, &bytes);
  }
  if (status == SPEECH_OK && bytes > sizeof memory) {
    fprintf(stderr, "This bundle needs %lu bytes: raise MEMORY_BYTES.\n", (unsigned long)bytes);
    return 1;
  }
  if (status == SPEECH_OK) {
    status = speech_open(&recognizer, memory, sizeof memory, speech_core_block,
                         SPEECH_CORE_BLOCK_BYTES, NULL, &runtime, &listener);
  }
  if (status == SPEECH_OK) status = recognize(recognizer, file, samples);
  if (status != SPEECH_OK) fprintf(stderr, "Status %d, see speech_core.h.\n", status);
  return fclose(file) != 0 || status != SPEECH_OK;
}
