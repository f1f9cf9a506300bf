/* The compiler of grammars as a WebAssembly module of its own, which a page loads for its first
 * grammar. The caller owns the memory from __heap_base on, as that of recognizer.c.
 */
#include <stddef.h>
#include <stdint.h>

#include "speech_compiler.h"
#include "speech_core.h"

#define EXPORT(name) __attribute__((export_name(name)))

static speech_grammar_error grammar_error;

/* Bytes of the grammar's block at the beginning of `buffer`, or a negative speech_status; see
 * speech_compile. */
EXPORT("grammar_compile")
int32_t grammar_compile(const void *block, int32_t block_bytes, const void *lexicon,
                        int32_t lexicon_bytes, const char *text, int32_t text_bytes, void *buffer,
                        int32_t bytes) {
  size_t size = 0;
  int status = speech_compile(block, (size_t)block_bytes, lexicon, (size_t)lexicon_bytes, text,
                              (size_t)text_bytes, buffer, (size_t)bytes, &size, &grammar_error);
  return status == SPEECH_OK ? (int32_t)size : -status;
}

/* What was wrong with the last grammar. */
EXPORT("grammar_error") const speech_grammar_error *last_grammar_error(void) {
  return &grammar_error;
}
