/* The stream: audio without end -> utterances, in buffers of fixed size.
 *
 * A ring buffer holds a window of audio. A voice activity detector tells where speech begins and
 * ends. Features are computed while a user speaks, from the reset state at the utterance's first
 * sample. Speech that is longer than the window is cut in a pause.
 */
#ifndef SPEECH_STREAM_H
#define SPEECH_STREAM_H

#include "speech_features.h"

#ifdef __cplusplus
extern "C" {
#endif

enum speech_ending {
  SPEECH_NOTHING, /* no change */
  SPEECH_ONSET,   /* speech has begun */
  SPEECH_PAUSE,   /* an utterance: quiet for the hangover, or for the post-roll if it is full */
  SPEECH_CUT,     /* a piece of one: speech goes on over the window's end */
  SPEECH_CLOSE,   /* an utterance: the stream ended */
  SPEECH_EARLY    /* the speech so far: quiet for 20 ms */
};

/* Samples count from the stream's beginning. */
typedef struct {
  enum speech_ending ending;
  int64_t start;  /* first block of speech */
  int64_t end;    /* after the last block of speech, or where it was cut */
  int64_t first;  /* that the features start at */
  int32_t frames; /* of features */
} speech_change;

typedef struct {
  const speech_core *core;
  int early;
  int16_t *ring; /* blocks of a window */
  int32_t blocks;
  int64_t received, position; /* samples received, and those of whole blocks */
  void *detector;
  int32_t background; /* variance: falls with the signal, and rises slowly */
  uint32_t recent;    /* of the last blocks, whether they were voiced; the newest is bit 0 */
  int speaking;
  int64_t start, end; /* of speech */
  int64_t used;       /* samples that belong to earlier utterances */
  int64_t sound, sound_end; /* before speech: the audible blocks, across short gaps */
  /* The window. */
  speech_features *features;
  int8_t *frames; /* [frames, channels]: the encoder's input */
  uint16_t *values;
  uint32_t *variances; /* of its blocks */
  int64_t window_start;
  int32_t window_blocks, window_frames;
  int64_t refill; /* where the window has to start anew; -1: nowhere */
} speech_stream;

/* Takes memory. frames: where the features go. */
void speech_stream_lay(speech_stream *stream, const speech_core *core, int8_t *frames,
                       speech_memory *memory);

/* Begins a stream. early: reports pauses in which speech may have ended. */
void speech_stream_start(speech_stream *stream, int early);

/* Most samples of a window. */
int64_t speech_stream_window(const speech_core *core);

/* Computes the features of a whole recording, which fits the window. Returns their frames. The
 * stream has to be started anew. */
int32_t speech_stream_whole(speech_stream *stream, const int16_t *samples, size_t count);

/* Takes samples up to the next change. Returns how many it took. The features of a change are valid
 * until the next call. */
size_t speech_stream_feed(speech_stream *stream, const int16_t *samples, size_t count,
                          speech_change *change);

/* Ends the stream; the change is the last utterance if it was not complete. */
void speech_stream_finish(speech_stream *stream, speech_change *change);

#ifdef __cplusplus
}
#endif

#endif
