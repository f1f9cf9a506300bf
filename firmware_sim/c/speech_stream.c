/* See speech_stream.h. */
#include "speech_stream.h"

#include <string.h>

#include "speech_decoder.h"
#include "speech_detector.h"
#include "speech_pause.h"

/* Blocks of 10 ms. */
#define ONSET_VOICED 5 /* of the last 10: speech begins */
#define ONSET_BLOCKS 10
#define PRE_ROLL 20 /* kept before the first voiced block: weak consonants take up to 10 */
#define UNVOICED 100 /* a longer audible sound before the first voiced block is noise */
#define SETTLING 20 /* in the first 80 ms the detector takes noise for speech */
#define HANGOVER 80 /* quiet that ends an utterance */
#define POST_ROLL 20 /* of that quiet, kept after the last word */
#define EARLY 2 /* quiet before an early text */

#define AUDIBLE 100 /* variance; -70 dB of full scale */
#define ABOVE_BACKGROUND 16 /* 12 dB */
#define BACKGROUND_RISE 8 /* by 2^-8 a block, 1.7 dB a second */

int64_t speech_stream_window(const speech_core *core) {
  return core->frontend->window + (int64_t)core->numbers->frames * SPEECH_STEP - 1;
}

void speech_stream_lay(speech_stream *stream, const speech_core *core, int8_t *frames,
                       speech_memory *memory) {
  const speech_numbers *n = core->numbers;
  uint64_t blocks = (uint64_t)(speech_stream_window(core) / SPEECH_STEP);
  stream->core = core;
  stream->blocks = (int32_t)blocks;
  stream->frames = frames;
  stream->ring = (int16_t *)speech_take(memory, blocks * SPEECH_STEP, sizeof(int16_t));
  stream->variances = (uint32_t *)speech_take(memory, blocks, sizeof(uint32_t));
  stream->values = (uint16_t *)speech_take(memory, (uint64_t)n->channels, sizeof(uint16_t));
  stream->detector = speech_take(memory, 1, speech_detector_bytes());
  stream->features = speech_features_lay(core, memory);
}

void speech_stream_start(speech_stream *stream, int early) {
  stream->early = early;
  stream->received = stream->position = 0;
  stream->background = 1 << 30;
  stream->recent = 0;
  stream->speaking = 0;
  stream->start = stream->end = stream->used = 0;
  stream->sound = stream->sound_end = 0;
  stream->window_start = 0;
  stream->window_blocks = stream->window_frames = 0;
  stream->refill = -1;
  speech_detector_start(stream->detector);
}

/* Variance of a block: its mean square without the offset. */
static uint32_t variance_of(const int16_t *block) {
  int64_t squares = 0, sum = 0;
  int32_t i;
  for (i = 0; i < SPEECH_STEP; ++i) {
    squares += (int32_t)block[i] * block[i];
    sum += block[i];
  }
  return (uint32_t)((SPEECH_STEP * squares - sum * sum) / (SPEECH_STEP * SPEECH_STEP));
}

/* A block of the ring buffer, by its position in the stream. */
static int16_t *block_at(const speech_stream *stream, int64_t position) {
  return stream->ring + position / SPEECH_STEP % stream->blocks * SPEECH_STEP;
}

/* Adds a block to the window. */
static void append(speech_stream *stream, const int16_t *block) {
  int32_t channels = stream->core->numbers->channels;
  int32_t i;
  stream->variances[stream->window_blocks++] = variance_of(block);
  if (!speech_features_step(stream->features, block, stream->values)) return;
  for (i = 0; i < channels; ++i) {
    stream->frames[(size_t)stream->window_frames * (size_t)channels + (size_t)i] =
        speech_feature(stream->core, stream->values[i]);
  }
  ++stream->window_frames;
}

/* Begins a window at a position. */
static void empty(speech_stream *stream, int64_t start) {
  speech_features_reset(stream->features, stream->core);
  stream->window_start = start;
  stream->window_blocks = stream->window_frames = 0;
}

int32_t speech_stream_whole(speech_stream *stream, const int16_t *samples, size_t count) {
  size_t place;
  empty(stream, 0);
  for (place = 0; place + SPEECH_STEP <= count; place += SPEECH_STEP) {
    append(stream, samples + place);
  }
  return stream->window_frames;
}

/* Starts the window anew at a position that the ring buffer still holds. */
static void fill(speech_stream *stream, int64_t start) {
  int64_t oldest = stream->position - (int64_t)stream->blocks * SPEECH_STEP;
  if (start < oldest) start = oldest;
  empty(stream, start);
  for (; start < stream->position; start += SPEECH_STEP) append(stream, block_at(stream, start));
}

/* The speech so far as a change. last: where its features end. */
static void report(speech_stream *stream, int64_t last, int64_t end, enum speech_ending ending,
                   speech_change *change) {
  int64_t samples = last - stream->window_start;
  int32_t window = stream->core->frontend->window;
  if (ending != SPEECH_EARLY) stream->used = last;
  change->ending = ending;
  change->start = stream->start;
  change->end = end;
  change->first = stream->window_start;
  change->frames = samples < window ? 0 : (int32_t)(1 + (samples - window) / SPEECH_STEP);
}

/* The utterance up to a little after the end of speech. */
static void complete(speech_stream *stream, enum speech_ending ending, speech_change *change) {
  int64_t last = stream->end + POST_ROLL * SPEECH_STEP;
  int64_t window_end = stream->window_start + (int64_t)stream->window_blocks * SPEECH_STEP;
  if (last > stream->position) last = stream->position;
  if (last > window_end) last = window_end;
  stream->speaking = 0;
  report(stream, last, stream->end, ending, change);
}

/* The full window up to a pause; the rest of it goes on. */
static void cut(speech_stream *stream, speech_change *change) {
  int32_t block = speech_pause(stream->variances, stream->blocks);
  int64_t place = stream->window_start + (int64_t)block * SPEECH_STEP;
  report(stream, place, place, SPEECH_CUT, change);
  stream->start = stream->refill = place;
}

/* Where speech begins: at an audible first word that the detector did not take for voiced, or at
 * the first voiced block. */
static int64_t beginning(const speech_stream *stream, int64_t voiced) {
  int64_t before = voiced - stream->sound;
  if (voiced - stream->sound_end > PRE_ROLL * SPEECH_STEP) return voiced;
  if (before <= PRE_ROLL * SPEECH_STEP || before > UNVOICED * SPEECH_STEP) return voiced;
  return stream->sound > stream->used ? stream->sound : stream->used;
}

/* Looks for the beginning of speech. */
static void await(speech_stream *stream, int voiced, int audible, speech_change *change) {
  int32_t count = 0, oldest = 0, i;
  int64_t start;
  stream->recent = (stream->recent << 1 | (uint32_t)voiced) & ((1u << ONSET_BLOCKS) - 1);
  if (audible) {
    if (stream->position - stream->sound_end > PRE_ROLL * SPEECH_STEP) {
      stream->sound = stream->position - SPEECH_STEP;
    }
    stream->sound_end = stream->position;
  }
  for (i = 0; i < ONSET_BLOCKS; ++i) {
    if ((stream->recent >> i & 1) == 0) continue;
    ++count;
    oldest = i + 1;
  }
  if (stream->position < SETTLING * SPEECH_STEP || count < ONSET_VOICED) return;
  stream->recent = 0;
  stream->speaking = 1;
  stream->end = stream->position;
  stream->start = beginning(stream, stream->position - oldest * SPEECH_STEP);
  start = stream->start - PRE_ROLL * SPEECH_STEP;
  if (start < stream->used) start = stream->used;
  fill(stream, start > 0 ? start : 0);
  change->ending = SPEECH_ONSET;
  change->start = change->end = stream->start;
}

/* Goes on with an utterance. */
static void go_on(speech_stream *stream, const int16_t *block, int heard, speech_change *change) {
  int full = stream->window_blocks == stream->blocks;
  int64_t quiet;
  if (!full) append(stream, block);
  if (heard) stream->end = stream->position;
  quiet = (stream->position - stream->end) / SPEECH_STEP;
  if (quiet >= HANGOVER || (full && quiet >= POST_ROLL)) {
    complete(stream, SPEECH_PAUSE, change);
  } else if (stream->early && quiet == EARLY && !full) {
    report(stream, stream->position, stream->end, SPEECH_EARLY, change);
  } else if (full && quiet == 0) {
    cut(stream, change);
  }
}

/* Looks at the block that ends at the position. */
static void look(speech_stream *stream, speech_change *change) {
  const int16_t *block = block_at(stream, stream->position - SPEECH_STEP);
  uint32_t variance = variance_of(block);
  int64_t risen = (int64_t)stream->background + (stream->background >> BACKGROUND_RISE) + 1;
  int64_t threshold;
  int voiced, audible;
  stream->background = (int32_t)((int64_t)variance < risen ? (int64_t)variance : risen);
  threshold = (int64_t)ABOVE_BACKGROUND * stream->background;
  audible = (int64_t)variance > (threshold > AUDIBLE ? threshold : AUDIBLE);
  voiced = speech_detector_hears(stream->detector, block);
  if (stream->speaking) {
    go_on(stream, block, voiced || audible, change);
  } else {
    await(stream, voiced, audible, change);
  }
}

/* Does what had to wait until the features of the last change were used. */
static void catch_up(speech_stream *stream, speech_change *change) {
  change->ending = SPEECH_NOTHING;
  if (stream->refill >= 0) fill(stream, stream->refill);
  stream->refill = -1;
}

size_t speech_stream_feed(speech_stream *stream, const int16_t *samples, size_t count,
                          speech_change *change) {
  size_t taken = 0;
  catch_up(stream, change);
  while (taken < count && change->ending == SPEECH_NOTHING) {
    size_t waiting = (size_t)(stream->received - stream->position);
    size_t more = SPEECH_STEP - waiting;
    if (more > count - taken) more = count - taken;
    memcpy(block_at(stream, stream->position) + waiting, samples + taken, more * sizeof *samples);
    taken += more;
    stream->received += (int64_t)more;
    if (waiting + more < SPEECH_STEP) break;
    stream->position = stream->received;
    look(stream, change);
  }
  return taken;
}

void speech_stream_finish(speech_stream *stream, speech_change *change) {
  catch_up(stream, change);
  if (stream->speaking) complete(stream, SPEECH_CLOSE, change);
}
