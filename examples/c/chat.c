/* A conversation in the terminal: reads questions from standard input and prints each answer while it is generated.
 *
 *   ./chat ARTIFACT [TOKENS]
 *
 * TOKENS is the most tokens of an answer, 1024 by default. Ctrl-C ends an answer, and the program if there is none.
 * CMakeLists.txt builds it.
 */
#define _POSIX_C_SOURCE 200809L
#include <edgekit_text.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 4096 }; /* tokens of the whole conversation */

static ek_session *volatile answering; /* the session that is generating, for the signal handler */

/* ek_session_cancel sets an atomic flag and nothing else, so a signal handler may call it. */
static void on_interrupt(int signal_number) {
  (void)signal_number;
  if (!answering) _Exit(130);
  ek_session_cancel(answering);
}

static void check(int status, const char *what) {
  if (status == EK_OK) return;
  fprintf(stderr, "%s: %s\n", what, ek_last_error());
  exit(1);
}

/* The conversation. The strings belong to it. */
typedef struct {
  ek_message *messages;
  int64_t count;
} conversation;

static void add(conversation *talk, const char *role, const char *content, int64_t bytes, int whole) {
  char *copy = malloc((size_t)bytes + 1);
  ek_message *grown = realloc(talk->messages, sizeof *grown * (size_t)(talk->count + 1));
  if (!copy || !grown) {
    fprintf(stderr, "out of memory\n");
    exit(1);
  }
  memcpy(copy, content, (size_t)bytes);
  copy[bytes] = 0;
  talk->messages = grown;
  talk->messages[talk->count++] = (ek_message){role, copy, bytes, whole};
}

/* Prints text as it arrives, and adds the finished answer to the conversation. */
static int on_event(const ek_event *event, void *context) {
  conversation *talk = context;
  switch (event->kind) {
    case EK_EVENT_THOUGHT: /* to standard error, so that standard output has only answers */
      fwrite(event->text, 1, (size_t)event->bytes, stderr);
      break;
    case EK_EVENT_ANSWER:
      fwrite(event->text, 1, (size_t)event->bytes, stdout);
      fflush(stdout);
      break;
    case EK_EVENT_DONE: {
      const ek_completion *done = event->completion;
      add(talk, "assistant", done->text, done->text_bytes, 1);
      printf("\n");
      fflush(stdout);
      fprintf(stderr, "[%lld tokens, the first after %.2f s, then %.1f per second%s]\n", (long long)done->tokens,
              done->ttft_s, done->decode_tok_s, done->finish == EK_FINISH_CANCELLED ? "; cancelled" : "");
      break;
    }
    default: break; /* later versions may have more events */
  }
  return 0; /* any other value ends the answer */
}

int main(int argc, char **argv) {
  if (ek_abi_version() != EK_ABI_VERSION) {
    fprintf(stderr, "the library has ABI version %d; this program needs %d\n", ek_abi_version(), EK_ABI_VERSION);
    return 1;
  }
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: chat ARTIFACT [TOKENS]\n");
    return 2;
  }
  ek_model *model;
  ek_text *text;
  ek_session *session;
  check(ek_model_open(argv[1], &model), "cannot open the model");
  check(ek_text_open(argv[1], &text), "cannot open the tokenizer");
  const int64_t longest = ek_model_context_length(model);
  check(ek_session_create(model, longest < CONTEXT ? longest : CONTEXT, 0, EK_KV_FLOAT16, &session),
        "cannot create a session");
  struct sigaction interrupt = {.sa_handler = on_interrupt};
  sigaction(SIGINT, &interrupt, NULL);

  conversation talk = {NULL, 0};
  char *line = NULL;
  size_t capacity = 0;
  for (;;) {
    fprintf(stderr, "> ");
    ssize_t length = getline(&line, &capacity, stdin);
    if (length < 0) break;
    if (length > 0 && line[length - 1] == '\n') --length;
    if (length == 0) continue;
    add(&talk, "user", line, length, 0);
    const ek_request request = {
        .size = sizeof request,
        .messages = talk.messages,
        .message_count = talk.count,
        .max_tokens = argc == 3 ? atoll(argv[2]) : 1024,
    };
    answering = session;
    const int status = ek_generate(session, text, &request, on_event, &talk);
    answering = NULL;
    check(status, "cannot answer");
  }
  for (int64_t i = 0; i < talk.count; ++i) free((char *)talk.messages[i].content);
  free(talk.messages);
  free(line);
  ek_session_free(session);
  ek_text_close(text);
  ek_model_close(model);
  return 0;
}
