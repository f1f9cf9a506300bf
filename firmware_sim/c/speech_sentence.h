/* What a sentence of a grammar over phones means: its commands, words and slots. A sentence is the
 * arcs that its phones go through. speech_phones.h finds it.
 */
#ifndef SPEECH_SENTENCE_H
#define SPEECH_SENTENCE_H

#include "speech_align.h"
#include "speech_phones.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Finds the commands of a sentence, without confidence; their tokens are arcs. Returns their
 * number; 0 if there are more than the block says. */
int32_t speech_sentence_commands(const speech_core *core, const int32_t *arcs, int32_t count,
                                 speech_command *commands);

/* Sets the commands' confidence: how much less likely than the best phones they are, by a phone.
 *
 * phones, spans: of the sentence.
 * Returns the log probability of all commands together.
 */
int32_t speech_sentence_score(const speech_core *core, const int8_t *logits, const uint16_t *phones,
                              const speech_span *spans, speech_command *commands, int32_t count);

/* A difference of sums of logits, at most 0, as a log probability. */
int32_t speech_sentence_nats(const speech_core *core, int32_t difference);

/* These write a text, ended by a zero byte, and return its length: the words of arcs [first, last),
 * the value of a slot in a command, and how that was said. A slot that is not there is empty. */
size_t speech_sentence_text(const speech_core *core, const int32_t *arcs, int32_t first,
                            int32_t last, char *text);
size_t speech_sentence_value(const speech_core *core, const int32_t *arcs,
                             const speech_command *command, int32_t slot, char *text);
size_t speech_sentence_said(const speech_core *core, const int32_t *arcs,
                            const speech_command *command, int32_t slot, char *text);

#ifdef __cplusplus
}
#endif

#endif
