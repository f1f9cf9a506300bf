/* Damaged texts and lexicons: fuzz_compiler BLOCK LEXICON TEXT INPUTS SEED. Prints how many grammars
 * were compiled, and how many refused with a sentence. A sanitizer sees what the compiler does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "speech_compiler.h"
#include "speech_core.h"

enum { MOST_BYTES = 1 << 20, MOST_TEXT = 1 << 14, LEAST_BUFFER = 1 << 12, MOST_BUFFER = 1 << 24 };

static uint32_t block[MOST_BYTES / 4];
static uint8_t lexicon[MOST_BYTES], damaged_lexicon[MOST_BYTES];
static char text[MOST_TEXT], damaged[2 * MOST_TEXT];
static uint64_t chance;

static uint32_t next(void) {
  chance = chance * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(chance >> 33);
}

/* Replaces up to three parts of the text by others. Returns its length. */
static size_t damage(size_t length) {
  static const char *const parts[] = {
      "[", "]", "(", ")", ",", "$", "@", ":", "\"", "{", "}", "\\", "\\u2019", "\\ud83d", "\xc3\xa9",
      "\xff", "$digit", "$day:x", "a", " blork ", "'", "$pv.Percent:y", "\n", "zzz", "(a)", "null"};
  uint32_t changes = next() % 4;
  memcpy(damaged, text, length);
  while (changes-- > 0 && length < MOST_TEXT) {
    const char *part = parts[next() % (sizeof parts / sizeof *parts)];
    size_t size = next() % 4 == 0 ? next() % 40 : strlen(part);
    size_t place = next() % (uint32_t)(length + 1), dropped = next() % 3 == 0 ? next() % 60 : 0;
    if (dropped > length - place) dropped = length - place;
    memmove(damaged + place + size, damaged + place + dropped, length - place - dropped);
    length += size - dropped;
    if (size == strlen(part)) {
      memcpy(damaged + place, part, size);
    } else { /* a copy of another part */
      memmove(damaged + place, damaged + next() % (uint32_t)(length - size + 1), size);
    }
  }
  return next() % 50 == 0 ? next() % (uint32_t)(length + 1) : length;
}

/* Changes some bytes of the lexicon behind its header, and its sum with them. */
static void damage_lexicon(size_t bytes) {
  uint32_t sum = 0xffffffffu, changes = 1 + next() % 6;
  size_t i;
  memcpy(damaged_lexicon, lexicon, bytes);
  while (changes-- > 0) {
    uint32_t range = next() % 2 ? 1200 : (uint32_t)bytes;
    damaged_lexicon[12 + next() % (range - 12)] = (uint8_t)next();
  }
  for (i = 12; i < bytes; ++i) {
    int bit;
    sum ^= damaged_lexicon[i];
    for (bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
  }
  sum = ~sum;
  memcpy(damaged_lexicon + 8, &sum, sizeof sum);
}

/* Compiles into buffers that are ever larger. Returns the status, and checks the result. */
static int compile(size_t block_bytes, const uint8_t *words, size_t bytes, size_t length) {
  size_t room = LEAST_BUFFER + next() % (4 * LEAST_BUFFER), size = 0;
  char *copy = (char *)malloc(length + 1); /* exactly: the sanitizer sees the byte after it */
  int status;
  memcpy(copy + 1, damaged, length);
  do {
    speech_grammar_error error;
    speech_core core;
    void *buffer = malloc(room);
    if (buffer == NULL) abort();
    status = speech_compile(block, block_bytes, words, bytes, copy + 1, length, buffer, room, &size,
                            &error);
    if (status == SPEECH_OK) {
      if (speech_core_read(&core, block, block_bytes) != SPEECH_OK) abort();
      if (speech_core_use(&core, buffer, size) != SPEECH_OK) abort();
    }
    if (status == SPEECH_ERROR_GRAMMAR) {
      if (error.fault == SPEECH_GRAMMAR_SOUND || error.position > length) abort();
      if (memchr(error.message, '\0', sizeof error.message) == NULL || !error.message[0]) abort();
    }
    free(buffer);
    room *= 2;
  } while (status == SPEECH_ERROR_MEMORY && room <= MOST_BUFFER);
  free(copy);
  return status;
}

static size_t read_file(const char *name, void *to, size_t most) {
  FILE *file = fopen(name, "rb");
  size_t bytes = file != NULL ? fread(to, 1, most, file) : 0;
  if (bytes == 0 || fclose(file) != 0) exit(1);
  return bytes;
}

int main(int argc, char **argv) {
  size_t block_bytes, lexicon_bytes, length;
  long inputs, compiled = 0, refused = 0;
  if (argc != 6) return 1;
  block_bytes = read_file(argv[1], block, sizeof block);
  lexicon_bytes = read_file(argv[2], lexicon, sizeof lexicon);
  length = read_file(argv[3], text, sizeof text);
  chance = (uint64_t)atol(argv[5]);
  for (inputs = atol(argv[4]); inputs > 0; --inputs) {
    int is_damaged = next() % 8 == 0, status;
    if (is_damaged) damage_lexicon(lexicon_bytes);
    status = compile(block_bytes, is_damaged ? damaged_lexicon : lexicon, lexicon_bytes,
                     damage(length));
    compiled += status == SPEECH_OK;
    refused += status == SPEECH_ERROR_GRAMMAR;
  }
  printf("%ld %ld\n", compiled, refused);
  return 0;
}
