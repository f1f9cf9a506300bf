/* Texts of recordings by libspeech.so and TensorFlow Lite of another machine, for an emulator.
 *
 *   qemu-aarch64 -L SYSROOT emulated LIBSPEECH LIBTFLITE BUNDLE PCM...
 *
 * Prints a line for each recording of 16-bit samples, which the window holds: commands or the text.
 * If grammar.txt lies beside the bundle, it is compiled, and holds the model.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "speech.h"
#include "speech_compiler.h"

#define ROOM ((size_t)1 << 22) /* bytes in which a grammar is compiled */
#define SPEECH(name) ((__typeof__(&name))dlsym(speech_library, #name))

typedef struct {
  void *interpreter;
  int inputs, outputs;
} model;

static void *library, *speech_library;

/* Calls a function of TensorFlow Lite's C interface. */
#define CALL(result, name, types, ...) (((result(*) types)dlsym(library, #name))(__VA_ARGS__))

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(2);
}

static void *load(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  void *content;
  if (file == NULL) fail(path, "cannot be opened");
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  rewind(file);
  content = malloc(*bytes + 1);
  if (content == NULL || fread(content, 1, *bytes, file) != *bytes) fail(path, "cannot be read");
  fclose(file);
  return content;
}

static model start(const char *bundle, const char *name) {
  char path[4096];
  size_t bytes;
  model made;
  void *content, *flatbuffer, *options;
  snprintf(path, sizeof path, "%s/%s", bundle, name);
  content = load(path, &bytes);
  flatbuffer = CALL(void *, TfLiteModelCreate, (const void *, size_t), content, bytes);
  options = CALL(void *, TfLiteInterpreterOptionsCreate, (void));
  CALL(void, TfLiteInterpreterOptionsSetNumThreads, (void *, int32_t), options, 1);
  made.interpreter =
      CALL(void *, TfLiteInterpreterCreate, (const void *, const void *), flatbuffer, options);
  if (made.interpreter == NULL ||
      CALL(int, TfLiteInterpreterAllocateTensors, (void *), made.interpreter) != 0) {
    fail(path, "does not load");
  }
  made.inputs = CALL(int, TfLiteInterpreterGetInputTensorCount, (const void *), made.interpreter);
  made.outputs = CALL(int, TfLiteInterpreterGetOutputTensorCount, (const void *), made.interpreter);
  return made;
}

static int run(const model *m, const void *const *inputs, const void **outputs) {
  int i;
  for (i = 0; i < m->inputs; ++i) {
    void *tensor =
        CALL(void *, TfLiteInterpreterGetInputTensor, (const void *, int32_t), m->interpreter, i);
    size_t bytes = CALL(size_t, TfLiteTensorByteSize, (const void *), tensor);
    CALL(int, TfLiteTensorCopyFromBuffer, (void *, const void *, size_t), tensor, inputs[i], bytes);
  }
  if (CALL(int, TfLiteInterpreterInvoke, (void *), m->interpreter) != 0) return 1;
  for (i = 0; i < m->outputs; ++i) {
    void *tensor =
        CALL(void *, TfLiteInterpreterGetOutputTensor, (const void *, int32_t), m->interpreter, i);
    outputs[i] = CALL(void *, TfLiteTensorData, (const void *), tensor);
  }
  return 0;
}

static int invoke_encoder(void *context, const void *const *inputs, const void **outputs) {
  return run((model *)context, inputs, outputs);
}

static int invoke_step(void *context, const void *const *inputs, const void **outputs) {
  return run((model *)context + 1, inputs, outputs);
}

static void on_event(void *context, const speech_event *event) {
  int *count = (int *)context;
  if (event->kind == SPEECH_REJECTED) return;
  printf("%s%s", (*count)++ > 0 ? " " : "", event->text);
}

/* The block of the grammar beside a bundle; NULL if there is none. */
static void *compile(const char *bundle, const void *core, size_t core_bytes, size_t *bytes) {
  char path[4096];
  size_t text_bytes, lexicon_bytes;
  void *text, *lexicon, *room;
  speech_grammar_error error;
  FILE *file;
  *bytes = 0;
  snprintf(path, sizeof path, "%s/../grammar.txt", bundle);
  file = fopen(path, "rb");
  if (file == NULL) return NULL;
  fclose(file);
  text = load(path, &text_bytes);
  snprintf(path, sizeof path, "%s/lexicon.bin", bundle);
  lexicon = load(path, &lexicon_bytes);
  room = malloc(ROOM);
  if (SPEECH(speech_compile)(core, core_bytes, lexicon, lexicon_bytes, text, text_bytes, room, ROOM,
                             bytes, &error) != SPEECH_OK) {
    fail(path, error.message);
  }
  return room;
}

int main(int argc, char **argv) {
  model models[2];
  int count = 0, i;
  speech_runtime runtime = {models, invoke_encoder, invoke_step};
  speech_listener listener = {on_event, &count};
  speech *recognizer;
  char path[4096];
  size_t core_bytes, grammar_bytes, bytes;
  void *core, *grammar, *memory;
  speech_library = argc > 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
  if (speech_library == NULL) fail("libspeech.so", argc > 4 ? dlerror() : "four arguments");
  library = dlopen(argv[2], RTLD_NOW);
  if (library == NULL) fail(argv[2], dlerror());
  models[0] = start(argv[3], "encoder.tflite");
  models[1] = start(argv[3], "decoder_step.tflite");
  snprintf(path, sizeof path, "%s/core.bin", argv[3]);
  core = load(path, &core_bytes);
  grammar = compile(argv[3], core, core_bytes, &grammar_bytes);
  if (SPEECH(speech_size_with)(core, core_bytes, NULL, grammar, grammar_bytes, &bytes) !=
      SPEECH_OK) {
    fail(path, "is damaged");
  }
  memory = malloc(bytes);
  if (SPEECH(speech_open)(&recognizer, memory, bytes, core, core_bytes, NULL, &runtime, &listener) !=
      SPEECH_OK) {
    fail(path, "cannot be opened");
  }
  if (grammar != NULL && SPEECH(speech_use)(recognizer, grammar, grammar_bytes) != SPEECH_OK) {
    fail(path, "takes no grammar");
  }
  for (i = 4; i < argc; ++i) {
    int16_t *samples = (int16_t *)load(argv[i], &bytes);
    count = 0;
    if (SPEECH(speech_transcribe)(recognizer, samples, bytes / 2) != SPEECH_OK) {
      fail(argv[i], "cannot be recognised");
    }
    printf("\n");
    fflush(stdout);
    free(samples);
  }
  return 0;
}
