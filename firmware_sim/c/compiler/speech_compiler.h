/* The compiler: a grammar's text in, and out the block that speech_use takes. It is for general
 * models, and needs the lexicon of their bundle. A firmware that changes no grammar leaves out this
 * folder.
 *
 *   1. Hand over the recogniser's block, the bundle's lexicon.bin, the text, and a buffer.
 *        speech_grammar_error error;
 *        size_t size;
 *        int status = speech_compile(core, core_bytes, lexicon, lexicon_bytes, text, text_bytes,
 *                                    buffer, bytes, &size, &error);
 *   2. If the status is SPEECH_ERROR_MEMORY, try again with a larger buffer, such as twice as much.
 *      If it is SPEECH_ERROR_GRAMMAR, show error.message, and the text at error.position.
 *   3. The first `size` bytes of the buffer are the block. The rest is free.
 *        status = speech_use(recognizer, buffer, size);
 *
 * A text that begins with "{" is JSON: what a YAML parser makes of a grammar's file.
 *   {"context": {"expressions": {"turn": ["turn $state:state the [light, lamp]"]},
 *                "slots": {"state": ["on", "off"]}}}
 * Any other text has a phrase in each line, and one intent, "phrase". `[a, b c]` are alternatives,
 * `(a, b)` are optional ones. grammar/source.py of the Python side describes all of it; `macros` and
 * `pronunciations` are members of `context` too. Both sides give the same block, byte for byte.
 *
 * Memory. The buffer is aligned to 8 bytes. Nothing outside is kept, and nothing needs to outlive the
 * call but the block. Grammars of 1.0 to 1.6 KB took 55 to 155 KB.
 *
 * Errors. One sentence says what is wrong, and what to do.
 */
#ifndef SPEECH_COMPILER_H
#define SPEECH_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPEECH_MESSAGE 320 /* most bytes of a message and its end */

/* What is wrong with a grammar. */
enum speech_grammar_fault {
  SPEECH_GRAMMAR_SOUND = 0,
  SPEECH_GRAMMAR_FORM,      /* no UTF-8, no JSON, or not the members that a grammar has */
  SPEECH_GRAMMAR_SYNTAX,    /* brackets and names in a phrase */
  SPEECH_GRAMMAR_WORD,      /* cannot be said as it is written */
  SPEECH_GRAMMAR_SLOT,      /* is not defined, or contains itself */
  SPEECH_GRAMMAR_SILENCE,   /* a phrase that may be empty */
  SPEECH_GRAMMAR_AMBIGUITY, /* a sentence with two intents */
  SPEECH_GRAMMAR_PHONES,    /* of the grammar's own pronunciations */
  SPEECH_GRAMMAR_SIZE       /* too large, or too much is left open */
};

typedef struct {
  enum speech_grammar_fault fault;
  uint32_t position;            /* bytes from the beginning of the text */
  uint32_t line;                /* of the text, from 1 */
  char message[SPEECH_MESSAGE]; /* UTF-8, ended by a zero byte */
} speech_grammar_error;

/* Compiles a grammar.
 *
 * block, lexicon: of the bundle; the block is aligned to 4 bytes.
 * text: UTF-8, at most 1,000,000 bytes.
 * size: out, bytes of the grammar's block, which is at the beginning of `buffer`.
 * error: out, also without an error.
 * Returns SPEECH_OK; SPEECH_ERROR_MEMORY: the buffer is too small, or not aligned;
 * SPEECH_ERROR_GRAMMAR: see `error`; SPEECH_ERROR_BLOCK: no block of a general model;
 * SPEECH_ERROR_LEXICON: no whole lexicon.
 */
int speech_compile(const void *block, size_t block_bytes, const void *lexicon,
                   size_t lexicon_bytes, const char *text, size_t text_bytes, void *buffer,
                   size_t bytes, size_t *size, speech_grammar_error *error);

#ifdef __cplusplus
}
#endif

#endif
