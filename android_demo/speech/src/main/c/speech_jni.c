/* The C core for Kotlin's NativeCore, and the compiler of grammars for its GrammarCompiler.
 *
 * Nothing is allocated here: the state lies at the beginning of the direct buffer that Kotlin hands
 * over, and the core's memory behind it. Kotlin keeps that buffer, the block, the grammar and the
 * tensors of the models, and lets one thread at a time in.
 */
#include <jni.h>

#include <string.h>

#include "speech.h"
#include "speech_compiler.h"

#define ALIGNMENT 8

/* A direct buffer that the runtime reads or writes. */
typedef struct {
  void *address;
  size_t bytes;
} tensor;

/* What a direct buffer holds; of null, NULL. */
typedef struct {
  void *address;
  size_t bytes;
} content;

typedef struct {
  tensor *inputs, *outputs;
  jsize input_count, output_count;
} model;

typedef struct {
  speech *recognizer;
  speech_runtime runtime;
  model encoder, decoder_step;
  /* Of the call from Kotlin that runs. */
  JNIEnv *env;
  jobject host;
  jmethodID invoke, event;
  jthrowable failure; /* the first exception of the host */
} state;

enum { ENCODER_INPUTS, ENCODER_OUTPUTS, STEP_INPUTS, STEP_OUTPUTS, SIDES };

static content content_of(JNIEnv *env, jobject buffer) {
  content found = {NULL, 0};
  if (buffer == NULL) return found;
  found.address = (*env)->GetDirectBufferAddress(env, buffer);
  if (found.address != NULL) found.bytes = (size_t)(*env)->GetDirectBufferCapacity(env, buffer);
  return found;
}

static uint8_t *aligned(void *memory) {
  return (uint8_t *)(((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
}

static state *state_of(JNIEnv *env, jobject memory) {
  return (state *)aligned((*env)->GetDirectBufferAddress(env, memory));
}

/* Takes an exception of the host, so that the core can go on. Returns whether there was one. */
static int take_failure(state *s) {
  JNIEnv *env = s->env;
  jthrowable found = (*env)->ExceptionOccurred(env);
  if (found == NULL) return 0;
  (*env)->ExceptionClear(env);
  if (s->failure == NULL) s->failure = found;
  return 1;
}

/* Copies the inputs to the tensors of a model, lets Kotlin run it, and points to its outputs. */
static int run(state *s, const model *m, jint number, const void *const *inputs,
               const void **outputs) {
  jsize i;
  for (i = 0; i < m->input_count; ++i) memcpy(m->inputs[i].address, inputs[i], m->inputs[i].bytes);
  (*s->env)->CallVoidMethod(s->env, s->host, s->invoke, number);
  for (i = 0; i < m->output_count; ++i) outputs[i] = m->outputs[i].address;
  return take_failure(s);
}

static int invoke_encoder(void *context, const void *const *inputs, const void **outputs) {
  state *s = (state *)context;
  return run(s, &s->encoder, 0, inputs, outputs);
}

static int invoke_decoder_step(void *context, const void *const *inputs, const void **outputs) {
  state *s = (state *)context;
  return run(s, &s->decoder_step, 1, inputs, outputs);
}

/* UTF-8 as bytes: NewStringUTF takes another encoding. */
static jbyteArray bytes_of(JNIEnv *env, const char *text) {
  jsize length = 0;
  jbyteArray made;
  while (text[length] != '\0') ++length;
  made = (*env)->NewByteArray(env, length);
  if (made != NULL) (*env)->SetByteArrayRegion(env, made, 0, length, (const jbyte *)text);
  return made;
}

/* Names and values of the slots, one after the other, and their confidences. */
static int make_slots(JNIEnv *env, const speech_event *event, jobjectArray *texts,
                      jintArray *confidences) {
  jclass bytes = (*env)->FindClass(env, "[B");
  jsize i;
  if (bytes == NULL) return 0;
  *texts = (*env)->NewObjectArray(env, 2 * event->slot_count, bytes, NULL);
  *confidences = (*env)->NewIntArray(env, event->slot_count);
  if (*texts == NULL || *confidences == NULL) return 0;
  for (i = 0; i < event->slot_count; ++i) {
    const speech_slot *slot = &event->slots[i];
    jint confidence = slot->confidence;
    (*env)->SetObjectArrayElement(env, *texts, 2 * i, bytes_of(env, slot->name));
    (*env)->SetObjectArrayElement(env, *texts, 2 * i + 1, bytes_of(env, slot->value));
    (*env)->SetIntArrayRegion(env, *confidences, i, 1, &confidence);
    if ((*env)->ExceptionCheck(env)) return 0;
  }
  return 1;
}

static void on_event(void *context, const speech_event *event) {
  state *s = (state *)context;
  JNIEnv *env = s->env;
  jobjectArray texts = NULL;
  jintArray confidences = NULL;
  if (s->failure != NULL) return;
  if ((*env)->PushLocalFrame(env, 8 + 2 * event->slot_count) == 0) {
    jbyteArray text = bytes_of(env, event->text);
    jbyteArray intent = event->intent == NULL ? NULL : bytes_of(env, event->intent);
    if (!(*env)->ExceptionCheck(env) && make_slots(env, event, &texts, &confidences)) {
      (*env)->CallVoidMethod(env, s->host, s->event, (jint)event->kind, (jlong)event->start,
                             (jlong)event->end, text, (jint)event->confidence, intent, texts,
                             confidences);
    }
    /* An exception outlives the frame of its reference, which is taken after it. */
    (void)(*env)->PopLocalFrame(env, NULL);
  }
  (void)take_failure(s);
}

/* Lays the state and its tensors. */
static state *lay(speech_memory *memory, const jsize *counts) {
  state *s = (state *)speech_take(memory, 1, sizeof *s);
  tensor *tensors[SIDES];
  int side;
  for (side = 0; side < SIDES; ++side) {
    tensors[side] = (tensor *)speech_take(memory, (uint64_t)counts[side], sizeof(tensor));
  }
  if (s == NULL) return NULL;
  s->encoder.inputs = tensors[ENCODER_INPUTS];
  s->encoder.input_count = counts[ENCODER_INPUTS];
  s->encoder.outputs = tensors[ENCODER_OUTPUTS];
  s->encoder.output_count = counts[ENCODER_OUTPUTS];
  s->decoder_step.inputs = tensors[STEP_INPUTS];
  s->decoder_step.input_count = counts[STEP_INPUTS];
  s->decoder_step.outputs = tensors[STEP_OUTPUTS];
  s->decoder_step.output_count = counts[STEP_OUTPUTS];
  return s;
}

/* Reads a block, and the number of tensors on each side of its models. */
static int read_block(const content *block, speech_core *core, jsize *counts) {
  int status = block->address == NULL ? SPEECH_ERROR_BLOCK
                                      : speech_core_read(core, block->address, block->bytes);
  if (status != SPEECH_OK) return status;
  counts[ENCODER_INPUTS] = core->tensors->encoder_inputs;
  counts[ENCODER_OUTPUTS] = core->tensors->encoder_outputs;
  counts[STEP_INPUTS] = core->tensors->step_inputs;
  counts[STEP_OUTPUTS] = core->tensors->step_outputs;
  return SPEECH_OK;
}

/* Finds the buffers of a side of a model. Returns whether they are what the block says. */
static int find_tensors(JNIEnv *env, jobjectArray buffers, const uint32_t *bytes, tensor *tensors,
                        jsize count) {
  jsize i;
  if ((*env)->GetArrayLength(env, buffers) != count) return 0;
  for (i = 0; i < count; ++i) {
    jobject buffer = (*env)->GetObjectArrayElement(env, buffers, i);
    tensors[i].address = (*env)->GetDirectBufferAddress(env, buffer);
    tensors[i].bytes = bytes[i];
    if (tensors[i].address == NULL) return 0;
    if ((*env)->GetDirectBufferCapacity(env, buffer) != (jlong)bytes[i]) return 0;
    (*env)->DeleteLocalRef(env, buffer);
  }
  return 1;
}

/* Bytes of memory for a recogniser; negative: a status. grammar: null for that of the block. */
JNIEXPORT jlong JNICALL Java_org_integerspeech_NativeCore_size(JNIEnv *env, jclass self,
                                                               jobject block, jobject grammar,
                                                               jint beam) {
  content core_block = content_of(env, block), used = content_of(env, grammar);
  speech_memory memory = {NULL, 0};
  speech_settings settings = {0, 1};
  speech_core core;
  jsize counts[SIDES];
  size_t bytes = 0, own_bytes = 0;
  int status = read_block(&core_block, &core, counts);
  (void)self;
  if (status != SPEECH_OK) return -status;
  settings.beam = beam;
  status = speech_size(core_block.address, core_block.bytes, &settings, &own_bytes);
  if (status != SPEECH_OK) return -status;
  status = speech_size_with(core_block.address, core_block.bytes, &settings, used.address,
                            used.bytes, &bytes);
  if (status != SPEECH_OK) return -status;
  if (bytes < own_bytes) bytes = own_bytes; /* it is opened with its own grammar first */
  (void)lay(&memory, counts);
  return (jlong)(memory.used + bytes + ALIGNMENT);
}

/* Makes a recogniser in `memory`. Returns a status. */
JNIEXPORT jint JNICALL Java_org_integerspeech_NativeCore_open(
    JNIEnv *env, jobject self, jobject buffer, jobject block, jobject grammar, jint beam,
    jobjectArray encoder_inputs, jobjectArray encoder_outputs, jobjectArray step_inputs,
    jobjectArray step_outputs) {
  content core_block = content_of(env, block), used = content_of(env, grammar);
  content given = content_of(env, buffer);
  uint8_t *base = aligned(given.address);
  size_t bytes = given.bytes - ALIGNMENT;
  speech_memory memory = {NULL, 0};
  speech_settings settings = {0, 1};
  speech_listener listener = {on_event, NULL};
  speech_core core;
  jsize counts[SIDES];
  jclass host;
  state *s;
  int status = read_block(&core_block, &core, counts);
  if (status != SPEECH_OK) return status;
  memory.base = base;
  s = lay(&memory, counts);
  host = (*env)->GetObjectClass(env, self);
  s->event = (*env)->GetMethodID(env, host, "event", "(IJJ[BI[B[[B[I)V");
  s->invoke = s->event == NULL ? NULL : (*env)->GetMethodID(env, host, "invoke", "(I)V");
  if (s->invoke == NULL) return SPEECH_ERROR_RUNTIME;
  if (!find_tensors(env, encoder_inputs, core.encoder_input_bytes, s->encoder.inputs,
                    s->encoder.input_count) ||
      !find_tensors(env, encoder_outputs, core.encoder_output_bytes, s->encoder.outputs,
                    s->encoder.output_count) ||
      !find_tensors(env, step_inputs, core.step_input_bytes, s->decoder_step.inputs,
                    s->decoder_step.input_count) ||
      !find_tensors(env, step_outputs, core.step_output_bytes, s->decoder_step.outputs,
                    s->decoder_step.output_count)) {
    return SPEECH_ERROR_RUNTIME;
  }
  s->runtime.context = s;
  s->runtime.invoke_encoder = invoke_encoder;
  s->runtime.invoke_decoder_step = invoke_decoder_step;
  listener.context = s;
  settings.beam = beam;
  status = speech_open(&s->recognizer, base + memory.used, bytes - (size_t)memory.used,
                       core_block.address, core_block.bytes, &settings, &s->runtime, &listener);
  if (status != SPEECH_OK || used.address == NULL) return status;
  return speech_use(s->recognizer, used.address, used.bytes);
}

/* Lets the host in for one call. */
static state *enter(JNIEnv *env, jobject host, jobject memory) {
  state *s = state_of(env, memory);
  s->env = env;
  s->host = host;
  s->failure = NULL;
  return s;
}

/* Throws the host's first exception, if there was one. */
static jint leave(state *s, int status) {
  if (s->failure != NULL) (*s->env)->Throw(s->env, s->failure);
  return status;
}

typedef int (*taking)(speech *recognizer, const int16_t *samples, size_t count);

static jint hand_over(JNIEnv *env, jobject host, jobject memory, jshortArray samples, jint count,
                      taking take) {
  state *s = enter(env, host, memory);
  jshort *values = (*env)->GetShortArrayElements(env, samples, NULL);
  int status;
  if (values == NULL) return SPEECH_ERROR_MEMORY;
  status = take(s->recognizer, values, (size_t)count);
  (*env)->ReleaseShortArrayElements(env, samples, values, JNI_ABORT);
  return leave(s, status);
}

JNIEXPORT jint JNICALL Java_org_integerspeech_NativeCore_feed(JNIEnv *env, jobject self,
                                                              jobject memory, jshortArray samples,
                                                              jint count) {
  return hand_over(env, self, memory, samples, count, speech_feed);
}

JNIEXPORT jint JNICALL Java_org_integerspeech_NativeCore_transcribe(JNIEnv *env, jobject self,
                                                                    jobject memory,
                                                                    jshortArray samples,
                                                                    jint count) {
  return hand_over(env, self, memory, samples, count, speech_transcribe);
}

JNIEXPORT jint JNICALL Java_org_integerspeech_NativeCore_finish(JNIEnv *env, jobject self,
                                                                jobject memory) {
  state *s = enter(env, self, memory);
  return leave(s, speech_finish(s->recognizer));
}

/* Most samples that `transcribe` takes. */
JNIEXPORT jint JNICALL Java_org_integerspeech_NativeCore_window(JNIEnv *env, jobject self,
                                                                jobject memory) {
  (void)self;
  return (jint)speech_window(state_of(env, memory)->recognizer);
}

/* Bytes of a grammar's block at the beginning of `buffer`, or a negative status, as speech_compile.
 * error: takes a speech_grammar_error. */
JNIEXPORT jint JNICALL Java_org_integerspeech_GrammarCompiler_compile(JNIEnv *env, jclass self,
                                                                      jobject block,
                                                                      jobject lexicon, jobject text,
                                                                      jobject buffer,
                                                                      jobject error) {
  content core_block = content_of(env, block), words = content_of(env, lexicon);
  content phrases = content_of(env, text), room = content_of(env, buffer);
  content fault = content_of(env, error);
  size_t size = 0;
  int status;
  (void)self;
  if (fault.bytes < sizeof(speech_grammar_error)) return -SPEECH_ERROR_MEMORY;
  status = speech_compile(core_block.address, core_block.bytes, words.address, words.bytes,
                          (const char *)phrases.address, phrases.bytes, room.address, room.bytes,
                          &size, (speech_grammar_error *)fault.address);
  return status == SPEECH_OK ? (jint)size : -status;
}
