/* Parts of speech_phrases.h that its sources share: one reads phrases, one whole texts, and one looks
 * at their sizes.
 */
#ifndef SPEECH_READ_H
#define SPEECH_READ_H

#include "speech_phrases.h"

#ifdef __cplusplus
extern "C" {
#endif

/* They return whether they could, or a name that is -1 if not; if not, see `status`. */
int speech_add_item(speech_phrases *p, enum speech_item_kind kind, int32_t number,
                    uint32_t position);
int speech_add_char(speech_phrases *p, uint32_t character);
int32_t speech_read_word(speech_phrases *p, speech_span *span);

/* is_value: whether it is a slot's, so that a slot in it has no name of its own. */
int speech_read_phrase(speech_phrases *p, speech_span span, int is_value);

/* Refuses phrases that are too large, slots that contain themselves, and silence. */
int speech_check_sizes(speech_phrases *p);

/* Whether a span has only white space. */
int speech_is_blank(speech_span span);

#ifdef __cplusplus
}
#endif

#endif
