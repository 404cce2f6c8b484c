/* The functions of Native.java: they translate between Java's arrays and edgekit's C API.
 *
 * Text is UTF-8 in byte arrays: JNI's own strings have another form of it. Pointers cross as long; Handle.java sees to it
 * that they are valid. A pending Java exception is left alone and thrown when the native function returns.
 */
#include <edgekit_text.h>
#include <jni.h>
#include <stdlib.h>
#include <string.h>

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_dev_edgekit_Native_##name
#define POINTER(type, value) ((type *)(intptr_t)(value))

static jbyteArray bytes_of(JNIEnv *env, const char *text, int64_t count) {
  jbyteArray array = (*env)->NewByteArray(env, (jsize)count);
  if (array) (*env)->SetByteArrayRegion(env, array, 0, (jsize)count, (const jbyte *)text);
  return array;
}

static jintArray ids_of(JNIEnv *env, const int32_t *ids, int64_t count) {
  jintArray array = (*env)->NewIntArray(env, (jsize)count);
  if (array) (*env)->SetIntArrayRegion(env, array, 0, (jsize)count, (const jint *)ids);
  return array;
}

static void throw_status(JNIEnv *env, int status) {
  const char *said = ek_last_error();
  jbyteArray message = bytes_of(env, said, (int64_t)strlen(said));
  jclass type = message ? (*env)->FindClass(env, "dev/edgekit/EdgekitException") : NULL;
  jmethodID create = type ? (*env)->GetMethodID(env, type, "<init>", "(I[B)V") : NULL;
  jobject error = create ? (*env)->NewObject(env, type, create, (jint)status, message) : NULL;
  if (error) (*env)->Throw(env, (jthrowable)error);
}

/* Returns whether the call succeeded; otherwise an exception is pending. */
static int check(JNIEnv *env, int status) {
  if (status != EK_OK && !(*env)->ExceptionCheck(env)) throw_status(env, status);
  return !(*env)->ExceptionCheck(env);
}

static void throw_no_memory(JNIEnv *env) {
  jclass type = (*env)->FindClass(env, "java/lang/OutOfMemoryError");
  if (type) (*env)->ThrowNew(env, type, "edgekit");
}

/* A copy of a byte array that ends with a NUL; NULL with a pending exception if there is no memory. */
static char *copy_of(JNIEnv *env, jbyteArray array, int64_t *count) {
  const jsize length = (*env)->GetArrayLength(env, array);
  char *text = malloc((size_t)length + 1);
  if (!text) {
    throw_no_memory(env);
    return NULL;
  }
  (*env)->GetByteArrayRegion(env, array, 0, length, (jbyte *)text);
  text[length] = 0;
  if (count) *count = length;
  return text;
}

static void free_texts(char **texts) {
  if (!texts) return;
  for (char **text = texts; *text; ++text) free(*text);
  free(texts);
}

/* Copies of an array of byte arrays, in an array that free_texts frees; NULL with a pending exception. */
static char **copies_of(JNIEnv *env, jobjectArray arrays, int64_t *lengths) {
  const jsize count = (*env)->GetArrayLength(env, arrays);
  char **texts = calloc((size_t)count + 1, sizeof *texts);
  if (!texts) throw_no_memory(env);
  for (jsize i = 0; texts && i < count; ++i) {
    jbyteArray array = (jbyteArray)(*env)->GetObjectArrayElement(env, arrays, i);
    texts[i] = copy_of(env, array, lengths ? &lengths[i] : NULL);
    (*env)->DeleteLocalRef(env, array);
    if (!texts[i]) {
      free_texts(texts);
      return NULL;
    }
  }
  return texts;
}

NATIVE(jlong, openModel)(JNIEnv *env, jclass self, jbyteArray folder) {
  (void)self;
  if (ek_abi_version() != EK_ABI_VERSION) {
    jclass type = (*env)->FindClass(env, "java/lang/UnsatisfiedLinkError");
    if (type) (*env)->ThrowNew(env, type, "libedgekit_native and libedgekit_jni have different ABI versions");
    return 0;
  }
  char *path = copy_of(env, folder, NULL);
  ek_model *model = NULL;
  if (path) check(env, ek_model_open(path, &model));
  free(path);
  return (jlong)(intptr_t)model;
}

NATIVE(void, closeModel)(JNIEnv *env, jclass self, jlong model) {
  (void)env, (void)self;
  ek_model_close(POINTER(ek_model, model));
}

NATIVE(jlong, contextLength)(JNIEnv *env, jclass self, jlong model) {
  (void)env, (void)self;
  return ek_model_context_length(POINTER(ek_model, model));
}

NATIVE(jlong, openText)(JNIEnv *env, jclass self, jbyteArray folder) {
  (void)self;
  char *path = copy_of(env, folder, NULL);
  ek_text *text = NULL;
  if (path) check(env, ek_text_open(path, &text));
  free(path);
  return (jlong)(intptr_t)text;
}

NATIVE(void, closeText)(JNIEnv *env, jclass self, jlong text) {
  (void)env, (void)self;
  ek_text_close(POINTER(ek_text, text));
}

NATIVE(jlong, countTokens)(JNIEnv *env, jclass self, jlong text, jbyteArray utf8) {
  (void)self;
  int64_t bytes = 0, count = 0;
  char *copy = copy_of(env, utf8, &bytes);
  if (copy) check(env, ek_text_encode(POINTER(ek_text, text), copy, bytes, EK_ENCODE_DEFAULT, NULL, 0, &count));
  free(copy);
  return count;
}

NATIVE(jlong, createSession)(JNIEnv *env, jclass self, jlong model, jlong context, jint threads, jboolean int8_cache) {
  (void)self;
  ek_session *session = NULL;
  const int kv_type = int8_cache ? EK_KV_INT8 : EK_KV_FLOAT16;
  check(env, ek_session_create(POINTER(ek_model, model), context, threads, kv_type, &session));
  return (jlong)(intptr_t)session;
}

NATIVE(void, freeSession)(JNIEnv *env, jclass self, jlong session) {
  (void)env, (void)self;
  ek_session_free(POINTER(ek_session, session));
}

NATIVE(void, cancel)(JNIEnv *env, jclass self, jlong session) {
  (void)env, (void)self;
  ek_session_cancel(POINTER(ek_session, session));
}

/* A Native.Receiver and its methods. */
typedef struct {
  JNIEnv *env;
  jobject receiver;
  jmethodID text, prompt, done;
} receiver;

static jboolean report_done(const receiver *to, const ek_completion *done) {
  JNIEnv *env = to->env;
  jboolean go_on = JNI_FALSE;
  jbyteArray text = bytes_of(env, done->text, done->text_bytes);
  jintArray prompt_ids = text ? ids_of(env, done->prompt_ids, done->prompt_tokens) : NULL;
  jintArray ids = prompt_ids ? ids_of(env, done->ids, done->tokens) : NULL;
  if (ids)
    go_on = (*env)->CallBooleanMethod(env, to->receiver, to->done, (jint)done->finish, (jboolean)(done->thought_closed != 0),
                                      text, prompt_ids, ids, (jlong)done->reused_tokens, (jlong)done->thought_tokens,
                                      done->ttft_s, done->decode_tok_s);
  return go_on;
}

/* Called by ek_generate in the thread of Native.generate, so its JNIEnv is valid here. */
static int on_event(const ek_event *event, void *context) {
  const receiver *to = context;
  JNIEnv *env = to->env;
  if ((*env)->ExceptionCheck(env)) return 1; /* thrown by an earlier event; no Java method may be called now */
  jboolean go_on = JNI_TRUE;
  if (event->kind == EK_EVENT_THOUGHT || event->kind == EK_EVENT_ANSWER) {
    jbyteArray text = bytes_of(env, event->text, event->bytes);
    if (!text) return 1;
    go_on = (*env)->CallBooleanMethod(env, to->receiver, to->text, text, (jboolean)(event->kind == EK_EVENT_THOUGHT));
    (*env)->DeleteLocalRef(env, text); /* there is room for few references, and an answer has many pieces */
  } else if (event->kind == EK_EVENT_PROMPT) {
    go_on = (*env)->CallBooleanMethod(env, to->receiver, to->prompt, (jlong)event->prompt_done, (jlong)event->prompt_total);
  } else if (event->kind == EK_EVENT_DONE) {
    go_on = report_done(to, event->completion);
  }
  return (*env)->ExceptionCheck(env) || !go_on;
}

/* The messages of a request; NULL with a pending exception, or if there are none. */
static ek_message *messages_of(JNIEnv *env, char **roles, char **contents, const int64_t *lengths, jbooleanArray whole) {
  const jsize count = (*env)->GetArrayLength(env, whole);
  ek_message *messages = count ? calloc((size_t)count, sizeof *messages) : NULL;
  jboolean *flags = messages ? (*env)->GetBooleanArrayElements(env, whole, NULL) : NULL;
  for (jsize i = 0; flags && i < count; ++i) messages[i] = (ek_message){roles[i], contents[i], lengths[i], flags[i]};
  if (flags) (*env)->ReleaseBooleanArrayElements(env, whole, flags, JNI_ABORT);
  return messages;
}

NATIVE(void, generate)(JNIEnv *env, jclass self, jlong session, jlong text, jobjectArray roles, jobjectArray contents,
                       jbooleanArray whole, jbyteArray prompt, jfloatArray sampling, jint top_k, jlong seed,
                       jboolean has_seed, jlong max_tokens, jlong max_thought_tokens, jboolean ignore_stops,
                       jobjectArray stop_texts, jobject listener) {
  (void)self;
  const jsize count = (*env)->GetArrayLength(env, contents);
  jclass type = (*env)->GetObjectClass(env, listener);
  receiver to = {env, listener, NULL, NULL, NULL};
  to.text = (*env)->GetMethodID(env, type, "text", "([BZ)Z");
  if (to.text) to.prompt = (*env)->GetMethodID(env, type, "prompt", "(JJ)Z");
  if (to.prompt) to.done = (*env)->GetMethodID(env, type, "done", "(IZ[B[I[IJJDD)Z");
  if (!to.done) return;

  ek_request request = {.size = sizeof request,
                        .message_count = count,
                        .seed = (uint64_t)seed,
                        .has_seed = has_seed,
                        .ignore_stops = ignore_stops,
                        .max_tokens = max_tokens,
                        .max_thought_tokens = max_thought_tokens,
                        .stop_text_count = (*env)->GetArrayLength(env, stop_texts)};
  float numbers[4];
  ek_sampling chosen;
  if (sampling) {
    (*env)->GetFloatArrayRegion(env, sampling, 0, 4, numbers);
    chosen = (ek_sampling){numbers[0], numbers[1], numbers[2], numbers[3], top_k};
    request.sampling = &chosen;
  }
  int64_t *lengths = calloc((size_t)count + 1, sizeof *lengths);
  char **role_texts = lengths ? copies_of(env, roles, NULL) : NULL;
  char **content_texts = role_texts ? copies_of(env, contents, lengths) : NULL;
  char **stops = content_texts ? copies_of(env, stop_texts, NULL) : NULL;
  char *continued = stops && prompt ? copy_of(env, prompt, &request.prompt_bytes) : NULL;
  ek_message *messages = stops ? messages_of(env, role_texts, content_texts, lengths, whole) : NULL;
  if (!(*env)->ExceptionCheck(env)) {
    if (!stops || (count && !messages)) { /* calloc failed */
      throw_no_memory(env);
    } else {
      request.messages = messages;
      request.prompt = continued;
      request.stop_texts = (const char *const *)stops;
      check(env, ek_generate(POINTER(ek_session, session), POINTER(const ek_text, text), &request, on_event, &to));
    }
  }
  free(messages);
  free(continued);
  free_texts(stops);
  free_texts(content_texts);
  free_texts(role_texts);
  free(lengths);
}
