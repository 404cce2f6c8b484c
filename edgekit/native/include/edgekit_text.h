/* The C API for text: encode and decode, render conversations, and generate answers with a callback.
 *
 *   ek_model *model;      ek_model_open("artifact", &model);
 *   ek_session *session;  ek_session_create(model, 4096, 0, EK_KV_FLOAT16, &session);
 *   ek_text *text;        ek_text_open("artifact", &text);
 *   ek_message message = {"user", "What is the capital of France?", -1, 0};
 *   ek_request request = {sizeof request};
 *   request.messages = &message;
 *   request.message_count = 1;
 *   ek_generate(session, text, &request, on_event, NULL);
 *
 * The rules of edgekit.h for errors, memory, threads and NULL apply here as well.
 *
 * Text is UTF-8, given with its length in bytes; a length of -1 means that the text ends with a NUL. Invalid UTF-8 is
 * not an error: each invalid sequence becomes U+FFFD, as with Python's errors="replace".
 *
 * Output arrays. A function with a `capacity` writes at most that many elements, and always stores the total number.
 * If the total is larger than the capacity, the output is incomplete: call again with a larger array. The array may be
 * NULL if the capacity is 0.
 *
 * Structs that may grow begin with `size`: set it to the size of the struct. Fields that are zero have their default.
 */
#ifndef EDGEKIT_TEXT_H
#define EDGEKIT_TEXT_H

#include "edgekit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The tokenizer and chat format of an artifact ---- */

typedef struct ek_text ek_text;

/* Open edgekit_text.bin in the folder of an artifact and store a handle in `text`. The file is read, which takes
 * milliseconds. Any number of threads may use the handle. Links are followed; see ek_model_open.
 *
 * EK_BAD_FILE: the file is missing or damaged. EK_UNSUPPORTED: it has another format version. */
EK_API int ek_text_open(const char *folder, ek_text **text);

/* Release the handle. Streams of the handle remain valid. */
EK_API void ek_text_close(ek_text *text);

/* What the artifact says about text. */
typedef struct {
  int64_t size;        /* set by the caller: sizeof(ek_text_info) */
  int32_t tokens;      /* ids with a text are below this number; the vocabulary of the model may be larger */
  int32_t bos;         /* the id that begins a sequence, or -1 */
  int32_t adds_bos;    /* 1: raw text starts with bos by default */
  int32_t reasoning;   /* 1: the model thinks before it answers */
  int32_t has_chat;    /* 1: ek_text_prompt and messages in ek_request can be used */
  int32_t stop_ids;    /* the number of ids that end an answer; see ek_text_stop_id */
  ek_sampling sampling; /* the default of ek_generate */
} ek_text_info;

EK_API int ek_text_describe(const ek_text *text, ek_text_info *info);

/* The index-th id that ends an answer, or -1 if there are not that many. */
EK_API int32_t ek_text_stop_id(const ek_text *text, int32_t index);

/* The id of a token as it is spelled in the vocabulary, such as "<|im_end|>", or -1 if there is none. */
EK_API int32_t ek_text_token_id(const ek_text *text, const char *token);

/* How to encode text; values can be added. */
typedef enum {
  EK_ENCODE_DEFAULT = 0, /* special tokens that the text spells become their ids; bos as the model wants it */
  EK_ENCODE_PLAIN = 1,   /* control tokens that the text spells remain text */
  EK_ENCODE_BOS = 2,     /* the ids start with bos, if the model has one */
  EK_ENCODE_NO_BOS = 4   /* bos is not added */
} ek_encode_flags;

/* Encode text. The ids are those of Hugging Face's tokenizers library.
 *
 *   utf8      the text
 *   bytes     its length, or -1
 *   flags     a sum of ek_encode_flags
 *   ids       out, (capacity); may be NULL if the capacity is 0, to count tokens
 *   count     out: the number of ids of the whole text
 *
 * Text that starts with several bos gets only one. EK_UNSUPPORTED: the vocabulary has no other way to write a control
 * token that remains text. */
EK_API int ek_text_encode(const ek_text *text, const char *utf8, int64_t bytes, int flags, int32_t *ids,
                          int64_t capacity, int64_t *count);

/* Decode ids. Special tokens, and ids without a text, are left out. Invalid UTF-8 becomes U+FFFD.
 *
 *   utf8   out, (capacity), with a NUL at the end if there is room; may be NULL if the capacity is 0
 *   bytes  out: the length of the whole text, without the NUL */
EK_API int ek_text_decode(const ek_text *text, const int32_t *ids, int64_t count, char *utf8, int64_t capacity,
                          int64_t *bytes);

/* ---- Streams: from ids to text, one id at a time ---- */

typedef struct ek_stream ek_stream;

/* Create a stream that decodes the ids of one answer. A character is never split: its bytes are held back until it is
 * complete. All pieces together are what ek_text_decode returns for all ids. */
EK_API int ek_stream_create(const ek_text *text, ek_stream **stream);
EK_API void ek_stream_free(ek_stream *stream);

/* Add an id. `utf8` and `bytes` are the text that is now final, often nothing. The text ends with a NUL and is valid
 * until the next call with this stream. */
EK_API int ek_stream_push(ek_stream *stream, int32_t id, const char **utf8, int64_t *bytes);

/* End the answer and store the text that was held back. The stream can then be used for another answer. */
EK_API int ek_stream_finish(ek_stream *stream, const char **utf8, int64_t *bytes);

/* ---- Conversations ---- */

/* One message. This struct will not change. */
typedef struct {
  const char *role;    /* "system", "user" or "assistant" */
  const char *content; /* the text */
  int64_t bytes;       /* its length, or -1 */
  int32_t whole;       /* 1: everything that the model wrote (ek_completion.text): if the chat format opens a thought,
                          the first </think> ends it, and all of the text is thought if there is none;
                          0: an answer with or without its thought, or another message */
} ek_message;

/* Encode a conversation as the prompt for the next answer. What a message says is text: control tokens that it spells
 * do not become control tokens. A reasoning model's thought at the start of an earlier answer is dropped, including one
 * that the answer did not finish.
 *
 *   messages  (count) oldest first, at least one
 *   ids       out, (capacity); may be NULL if the capacity is 0, to count tokens
 *   written   out: the number of ids of the whole prompt
 *
 * EK_UNSUPPORTED: the artifact has no chat format, or its format does not allow this order of roles; ek_last_error says
 * why. EK_BAD_ARGUMENT: a role is not known. */
EK_API int ek_text_prompt(const ek_text *text, const ek_message *messages, int64_t count, int32_t *ids,
                          int64_t capacity, int64_t *written);

/* ---- Answers ---- */

/* Where to look for loops: text that repeats itself without an end. In a loop, the tokens of the loop are first made
 * less likely for a while. If the text loops again, a thought is closed, and an answer ends with EK_FINISH_LOOP. */
typedef enum {
  EK_GUARD_THOUGHT = 0, /* in thoughts */
  EK_GUARD_OFF = 1,
  EK_GUARD_ALL = 2      /* in thoughts and, after four times as much repetition, in answers */
} ek_loop_guard;

/* What to generate. Exactly one of messages, prompt and prompt_ids is given. */
typedef struct {
  int64_t size;                  /* sizeof(ek_request) */
  const ek_message *messages;    /* (message_count) a conversation to answer */
  int64_t message_count;
  const char *prompt;            /* raw text to continue, encoded with EK_ENCODE_DEFAULT */
  int64_t prompt_bytes;          /* its length, or -1 */
  const int32_t *prompt_ids;     /* (prompt_id_count) ids to continue */
  int64_t prompt_id_count;
  const ek_sampling *sampling;   /* NULL: the artifact's */
  uint64_t seed;                 /* of the sampler, whose choices it makes repeatable; see ek_generate */
  int32_t has_seed;              /* 0: a fresh seed is drawn and `seed` is ignored */
  int32_t ignore_stops;          /* 1: the artifact's stop ids and texts do not end the answer, to measure speed */
  int64_t max_tokens;            /* the most tokens to generate; 0: until the model stops or the context is full */
  int64_t max_thought_tokens;    /* the most tokens in a thought, which is then closed as the model itself would: with a
                                    sentence, </think> and a blank line; 0: no limit. Thoughts are told from answers
                                    only with messages, not with prompt or prompt_ids */
  const char *const *stop_texts; /* (stop_text_count) texts, ending with a NUL, that end the answer and are not part
                                    of it, in addition to the artifact's */
  int64_t stop_text_count;
  const int32_t *stop_ids;       /* (stop_id_count) ids that end the answer, in addition to the artifact's */
  int64_t stop_id_count;
  int32_t loop_guard;            /* an ek_loop_guard */
  int32_t no_speculation;        /* 1: evaluate one token at a time; 0: guess tokens as ek_session_next does
                                    (edgekit.h), which changes no answer */
} ek_request;

/* Why an answer ended. */
typedef enum {
  EK_FINISH_STOP = 0,     /* the model generated a stop id or a stop text */
  EK_FINISH_LENGTH = 1,   /* max_tokens */
  EK_FINISH_CONTEXT = 2,  /* the context is full */
  EK_FINISH_CANCELLED = 3, /* ek_session_cancel, or the callback returned a value other than 0 */
  EK_FINISH_LOOP = 4       /* EK_GUARD_ALL: the answer repeated itself */
} ek_finish;

/* What closed a thought. */
typedef enum {
  EK_THOUGHT_OPEN = 0,  /* nothing: the text ended inside the thought */
  EK_THOUGHT_MODEL = 1, /* the model; also if there was no thought */
  EK_THOUGHT_SPENT = 2, /* it had used max_thought_tokens */
  EK_THOUGHT_LOOP = 3   /* the loop guard */
} ek_thought_end;

/* An answer with its figures. The pointers are valid during the callback. */
typedef struct {
  int64_t size;              /* set by the library: sizeof(ek_completion) of its version */
  int32_t finish;            /* an ek_finish */
  int32_t thought_closed;    /* an ek_thought_end; 0 if the answer ended inside the thought */
  const char *text;          /* everything the model wrote, with the tags of the thought, without special tokens and
                                without what ended the answer; ends with a NUL */
  int64_t text_bytes;
  const int32_t *prompt_ids; /* (prompt_tokens) */
  int64_t prompt_tokens;
  int64_t reused_tokens;     /* prompt tokens that the session already held and that were not evaluated again */
  const int32_t *ids;        /* (tokens) the generated ids, with the stop id */
  int64_t tokens;
  int64_t thought_tokens;    /* of these, tokens of the thought */
  double ttft_s;             /* seconds from the call to the first token: encoding, evaluation of the prompt,
                                sampling; 0 if there is no token */
  double decode_tok_s;       /* tokens per second after the first, without time in the callback; 0 for fewer than two */
  int64_t loops;             /* how often the loop guard found a loop */
  int64_t accepted_tokens;   /* generated tokens whose evaluation was not needed because they had been guessed */
} ek_completion;

typedef enum {
  EK_EVENT_PROMPT = 1,  /* part of the prompt was evaluated; not sent for short prompts */
  EK_EVENT_THOUGHT = 2, /* text of the thought */
  EK_EVENT_ANSWER = 3,  /* text of the answer */
  EK_EVENT_DONE = 4     /* the last event: the answer is finished or was cancelled */
} ek_event_kind;

/* An event. The pointers are valid during the callback. */
typedef struct {
  int64_t size;         /* set by the library: sizeof(ek_event) of its version */
  int32_t kind;         /* an ek_event_kind; ignore events that you do not know */
  const char *text;     /* EK_EVENT_THOUGHT, EK_EVENT_ANSWER: whole characters, ending with a NUL; otherwise "" */
  int64_t bytes;        /* the length of the text */
  int64_t prompt_done;  /* EK_EVENT_PROMPT: prompt tokens in the session */
  int64_t prompt_total; /* EK_EVENT_PROMPT: all prompt tokens */
  const ek_completion *completion; /* EK_EVENT_DONE; otherwise NULL */
} ek_event;

/* Receives events in the thread that called ek_generate. Return 0 to go on. Any other value cancels the answer, as
 * ek_session_cancel does; EK_EVENT_DONE still follows. The function may call ek_session_cancel, but no other function
 * with the session.
 *
 * It must not throw a C++ exception: the shared library has its own C++ runtime, which cannot catch an exception of
 * another one, so the process would be terminated. edgekit::Session (edgekit.hpp) takes callbacks that throw. Where
 * library and program share the runtime because they are linked statically, the answer ends and ek_generate returns
 * EK_CALLBACK. */
typedef int (*ek_on_event)(const ek_event *event, void *context);

/* Generate an answer and report it through `on_event`, which may be NULL. Returns when the answer is finished.
 *
 * The tokens that the session and the prompt have in common at their start are not evaluated again; the session's other
 * tokens are removed. So one session serves a conversation that grows. After the call the session has the tokens of the
 * prompt and of the answer, without the last one; after an error or a cancellation, those that were evaluated.
 *
 * The same calls on a new session, with the same seed, kernels (ek_kernel_name), number of threads and key-value type,
 * give the same answers. Other kernels round differently, and so do those for one token, for a few and for many: it
 * also matters which tokens the session held already. Logits then differ in their last digits. Where two tokens are
 * nearly as likely, another one can be chosen, even without sampling.
 *
 *   session   must not be in use by another call. ek_session_cancel (edgekit.h), also called from another thread, ends
 *             the answer within some milliseconds: EK_EVENT_DONE follows with EK_FINISH_CANCELLED, and the result is
 *             EK_OK
 *   text      of the same artifact
 *   request   not changed
 *   context   passed to on_event
 *
 * EK_CONTEXT: the prompt is longer than the context. EK_BUSY: another call uses the session. EK_CALLBACK: on_event
 * threw an exception (see ek_on_event). EK_UNSUPPORTED, EK_BAD_ARGUMENT: as for ek_text_prompt, or the request is not
 * valid.
 * EK_NON_FINITE: as for ek_sample. */
EK_API int ek_generate(ek_session *session, const ek_text *text, const ek_request *request, ek_on_event on_event,
                       void *context);

/* Evaluate what the next prompt of a conversation begins with, while somebody reads the answer. A reasoning model's
 * thought is left out of the next prompt, so what follows it has to be evaluated again; after this function the next
 * ek_generate evaluates only the new question. Does nothing if the session holds all of it already.
 *
 * Call it in a thread of its own, and call ek_session_cancel when the next question is there: the function returns
 * within some milliseconds, and what it has evaluated is kept. The next answer does not depend on how much that is, as
 * long as the next conversation begins with these messages. If it has another answer in place of the last one, what was
 * evaluated of their common beginning is kept as well, and logits can differ in their last digits (see ek_generate).
 *
 *   session   the session that has generated the last answer
 *   messages  (count) the conversation with that answer, unchanged
 *
 * EK_CANCELLED: ek_session_cancel. EK_BUSY: another call uses the session. EK_UNSUPPORTED, EK_BAD_ARGUMENT: as for
 * ek_text_prompt. */
EK_API int ek_prepare(ek_session *session, const ek_text *text, const ek_message *messages, int64_t count);

/* ---- Watches: thought budgets and the loop guard, for programs that sample themselves ---- */

typedef struct ek_watch ek_watch;

/* What to do after a token. */
typedef enum {
  EK_WATCH_GO_ON = 0,
  EK_WATCH_END = 1,         /* the answer loops: end it */
  EK_WATCH_CLOSE_SPENT = 2, /* the thought has used its tokens: append ek_thought_closing to it */
  EK_WATCH_CLOSE_LOOP = 3   /* the thought loops: append ek_thought_closing to it */
} ek_watch_action;

/* Create a watch for one answer.
 *
 *   max_thought_tokens  as in ek_request
 *   loop_guard          an ek_loop_guard
 *   inside              1: the prompt ends inside a thought */
EK_API int ek_watch_create(int64_t max_thought_tokens, int loop_guard, int inside, ek_watch **watch);
EK_API void ek_watch_free(ek_watch *watch);

/* Add a token that was generated.
 *
 *   in_thought  1: the thought goes on after this token
 *   action      out: an ek_watch_action. The same action follows each further token until the thought has ended */
EK_API int ek_watch_push(ek_watch *watch, int32_t token, int in_thought, int32_t *action);

/* Make the tokens of a loop less likely, as long as that is due. Call it before each token is chosen.
 *
 *   logits  float32 (n), modified */
EK_API int ek_watch_adjust(const ek_watch *watch, float *logits, int64_t n);

/* How often a loop was found. */
EK_API int64_t ek_watch_loops(const ek_watch *watch);

/* The text that closes a thought: a sentence, </think> and a blank line.
 *
 *   action  EK_WATCH_CLOSE_SPENT or EK_WATCH_CLOSE_LOOP
 *   text    what the model has written so far, which decides on which line the sentence begins
 *   bytes   the length of the text, or -1
 *   utf8    out, (capacity), with a NUL at the end if there is room
 *   size    out: the length of the closing text, without the NUL */
EK_API int ek_thought_closing(int32_t action, const char *text, int64_t bytes, char *utf8, int64_t capacity,
                              int64_t *size);

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_TEXT_H */
