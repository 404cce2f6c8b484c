/* edgekit-run without --bench and --smoke: one answer, or a conversation. */
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

#include "../text/unicode.h"
#include "background.h"
#include "failure.h"
#include "jobs.h"
#include "manifest.h"
#include "printer.h"

namespace run {
namespace {

constexpr const char *kHelp = "/reset forgets the conversation, /exit or Ctrl-D quits, Ctrl-C stops an answer";

/* Of the answer that is being generated; for the handler of Ctrl-C, which may only touch atomics. */
std::atomic<ek_session *> generating{nullptr};
std::atomic<bool> interrupted{false};

void on_interrupt(int) {
  interrupted = true;
  if (ek_session *session = generating.load()) ek_session_cancel(session);
}

void check_utf8(const std::string &text) {
  if (const size_t valid = ek::valid_prefix(text); valid < text.size())
    throw usage("the prompt is not UTF-8: invalid byte at position " + std::to_string(valid),
                "set the terminal to UTF-8, or convert the text: iconv -f LATIN1 -t UTF-8");
}

struct Message {
  std::string role, content;
  bool whole;
};

/* What is left of an ek_completion when its callback has returned. */
struct Answer {
  Json json;
  std::string text, remark;
};

const char *reason(int32_t finish) {
  switch (finish) {
    case EK_FINISH_STOP: return "stop";
    case EK_FINISH_LENGTH: return "length";
    case EK_FINISH_CONTEXT: return "context";
    case EK_FINISH_LOOP: return "loop";
    default: return "interrupted";
  }
}

/* What closed the thought; null if nothing did, or there was none. */
Json thought_end(const ek_completion &done) {
  if (!done.thought_tokens || done.thought_closed == EK_THOUGHT_OPEN) return Json();
  return done.thought_closed == EK_THOUGHT_SPENT ? "budget" : done.thought_closed == EK_THOUGHT_LOOP ? "loop" : "model";
}

std::string figures(const ek_completion &done) {
  std::string text = std::to_string(done.prompt_tokens) + " prompt + " + std::to_string(done.tokens) + " generated tokens, first token " +
                     seconds_text(done.ttft_s);
  char rate[32];
  if (done.decode_tok_s > 0) std::snprintf(rate, sizeof rate, ", %.1f tok/s", done.decode_tok_s), text += rate;
  if (done.accepted_tokens > 0) text += ", " + std::to_string(done.accepted_tokens) + " guessed";
  if (done.thought_closed == EK_THOUGHT_SPENT)
    text += ", thought closed after " + std::to_string(done.thought_tokens) + " tokens (--think-tokens)";
  if (done.thought_closed == EK_THOUGHT_LOOP) text += ", thought closed because it repeated itself (--loop-guard)";
  if (done.finish == EK_FINISH_LOOP) text += ", stopped because it repeated itself (--loop-guard)";
  if (done.finish == EK_FINISH_LENGTH) text += ", stopped by --max-tokens";
  if (done.finish == EK_FINISH_CONTEXT) text += ", stopped because the context is full";
  if (done.finish == EK_FINISH_CANCELLED) text += ", interrupted";
  return text;
}

std::vector<Json> list(const int32_t *ids, int64_t count) {
  std::vector<Json> found;
  for (int64_t i = 0; i < count; ++i) found.emplace_back(static_cast<int64_t>(ids[i]));
  return found;
}

class Conversation {
 public:
  explicit Conversation(const Options &options)
      : options_(options), manifest_(read_manifest_to_load(options.artifact)), context_(context_of(manifest_, options.context)), kv_type_(kv_type_of(manifest_, options.kv_type)),
        model_(open_model(options.artifact)) {
    ek_text *text = nullptr;
    check(ek_text_open(options.artifact.c_str(), &text));
    text_.reset(text);
    info_.size = sizeof info_;
    check(ek_text_describe(text, &info_));
    session_ = open_session(model_.get(), options, context_, kv_type_);
    if (!options.draft.empty()) use_draft();
    sample();
  }

  const std::string &name() const { return name_of(manifest_); }
  bool has_chat() const { return info_.has_chat; }
  bool thinks() const { return info_.reasoning; }

  /* Answers the messages, or continues a raw prompt, and prints the answer unless `quiet`. */
  Answer answer(const std::deque<Message> &messages, const std::string *raw, bool quiet) {
    background_.stop();
    const std::vector<ek_message> each = views(messages);
    ek_request request{};
    request.size = sizeof request;
    request.messages = raw ? nullptr : each.data();
    request.message_count = static_cast<int64_t>(raw ? 0 : each.size());
    request.prompt = raw ? raw->data() : nullptr;
    request.prompt_bytes = raw ? static_cast<int64_t>(raw->size()) : 0;
    request.sampling = &info_.sampling;
    request.has_seed = options_.seed.has_value();
    request.seed = options_.seed.value_or(0);
    request.max_tokens = options_.max_tokens;
    request.max_thought_tokens = options_.think_tokens;
    request.loop_guard = options_.loop_guard;
    request.no_speculation = options_.no_speculation;
    Printer printer(quiet, options_.thoughts);
    Running running{printer, {}, {}};
    generating = session_.get();
    const int status = ek_generate(session_.get(), text_.get(), &request, on_event, &running);
    generating = nullptr;
    if (running.failure.exit_code) throw running.failure;
    check(status);
    printer.end();
    return finished(running.answer, printer);
  }

  /* Leave out the oldest turns of a conversation that has outgrown the context, as edgekit/runtime/history.py does: a quarter of
   * the context is for the answer, and where turns are left out, half of it is kept. Returns the number of messages left out. */
  size_t slide(std::deque<Message> &messages) const {
    const int64_t reserved = options_.max_tokens ? std::min(options_.max_tokens, context_ / 4) : context_ / 4;
    if (messages.size() == 1 || prompt_tokens(messages) <= context_ - reserved) return 0;
    size_t dropped = 0;
    do {
      messages.erase(messages.begin(), messages.begin() + 2); /* a question and its answer */
      dropped += 2;
    } while (messages.size() > 1 && prompt_tokens(messages) > context_ / 2);
    return dropped;
  }

  /* Evaluate what the next prompt begins with, until the next answer. */
  void prepare(const std::deque<Message> &messages) {
    if (!info_.reasoning || options_.no_preparation) return; /* without a thought, nothing is left out of the next prompt */
    background_.start(session_.get(), [this, messages] {
      const std::vector<ek_message> each = views(messages);
      ek_prepare(session_.get(), text_.get(), each.data(), static_cast<int64_t>(each.size())); /* the next answer reports errors */
    });
  }

 private:
  static std::vector<ek_message> views(const std::deque<Message> &messages) {
    std::vector<ek_message> each;
    for (const Message &message : messages)
      each.push_back({message.role.c_str(), message.content.data(), static_cast<int64_t>(message.content.size()), message.whole});
    return each;
  }

  int64_t prompt_tokens(const std::deque<Message> &messages) const {
    const std::vector<ek_message> each = views(messages);
    int64_t count = 0;
    check(ek_text_prompt(text_.get(), each.data(), static_cast<int64_t>(each.size()), nullptr, 0, &count));
    return count;
  }

  struct Running {
    Printer &printer;
    Answer answer;
    Failure failure{};
  };

  static int on_event(const ek_event *event, void *context) {
    Running &running = *static_cast<Running *>(context);
    try {
      if (event->kind == EK_EVENT_THOUGHT || event->kind == EK_EVENT_ANSWER)
        running.printer.piece({event->text, static_cast<size_t>(event->bytes)}, event->kind == EK_EVENT_THOUGHT);
      else if (event->kind == EK_EVENT_DONE)
        keep(*event->completion, running.answer);
    } catch (const Failure &failure) {
      running.failure = failure;
      return 1;
    }
    return 0;
  }

  static void keep(const ek_completion &done, Answer &answer) {
    answer.text.assign(done.text, static_cast<size_t>(done.text_bytes));
    answer.remark = figures(done);
    answer.json = Json::Fields{{"tokens", list(done.ids, done.tokens)},
                               {"prompt_tokens", list(done.prompt_ids, done.prompt_tokens)},
                               {"finish_reason", reason(done.finish)},
                               {"ttft_s", done.ttft_s},
                               {"decode_tok_s", done.decode_tok_s > 0 ? Json(done.decode_tok_s) : Json()},
                               {"thought_tokens", done.thought_tokens},
                               {"thought_closed", thought_end(done)},
                               {"loops", done.loops},
                               {"accepted_tokens", done.accepted_tokens}};
  }

  Answer finished(Answer answer, const Printer &printer) const {
    Json::Fields fields{{"text", answer.text}, {"thought", printer.thought}, {"answer", printer.answer}};
    fields.insert(fields.end(), answer.json.fields().begin(), answer.json.fields().end());
    fields.insert(fields.end(), {{"engine", "native"}, {"kernel", kernel_name()}, {"kv_type", run::name_of(kv_type_)}});
    answer.json = fields;
    return answer;
  }

  void use_draft() {
    const Json manifest = read_manifest_to_load(options_.draft);
    const auto tokenizer = [](const Json &of) -> const std::string & { return of["files"]["tokenizer.json"]["sha256"].text(); };
    if (tokenizer(manifest).empty() || tokenizer(manifest) != tokenizer(manifest_))
      throw Failure{70, "engine", name_of(manifest) + " cannot guess for " + name() + ": its tokenizer.json is another one",
                    "a draft model needs the same vocabulary: a smaller model of the same family"};
    draft_model_ = open_model(options_.draft);
    const int64_t context = std::min(context_, ek_model_context_length(draft_model_.get()));
    draft_ = open_session(draft_model_.get(), options_, context, kv_type_of(manifest, std::nullopt));
    check(ek_session_set_draft(session_.get(), draft_.get()));
  }

  /* The artifact's sampling, changed by the options that were given. */
  void sample() {
    const auto set = [](float &field, const std::optional<double> &value, float least) {
      if (value) field = std::max(static_cast<float>(*value), least);
    };
    set(info_.sampling.temperature, options_.temperature, 0);
    set(info_.sampling.top_p, options_.top_p, FLT_MIN); /* 0 is not allowed, which a smaller number would become */
    set(info_.sampling.min_p, options_.min_p, 0);
    set(info_.sampling.repetition_penalty, options_.repetition_penalty, 0.01f);
    if (options_.top_k) info_.sampling.top_k = static_cast<int32_t>(std::min<int64_t>(*options_.top_k, INT32_MAX)); /* no vocabulary is larger */
  }

  const Options &options_;
  Json manifest_;
  int64_t context_;
  ek_kv_type kv_type_;
  Owned<ek_model> model_, draft_model_;
  Owned<ek_text> text_;
  Owned<ek_session> draft_; /* used by session_, which ends before it */
  Owned<ek_session> session_;
  ek_text_info info_{};
  Background background_; /* the last member: it ends before the session is freed */
};

std::string_view stripped(std::string_view text) { return ek::without_trailing_space(ek::without_leading_space(text)); }

/* The next line, without white space around it; false at the end of the input. Ctrl-C discards what was typed. */
bool read_line(std::string &line) {
  line.clear();
  interrupted = false; /* a Ctrl-C that ended the last answer has nothing to do with this line */
  if (::isatty(STDIN_FILENO)) std::fprintf(stderr, "> ");
  for (;;) {
    const int c = std::getc(stdin);
    if (c == EOF && interrupted.exchange(false)) {
      std::clearerr(stdin);
      line.clear();
      std::fprintf(stderr, "\n> ");
      continue;
    }
    if (c == EOF && line.empty()) return false;
    if (c == EOF || c == '\n') break;
    line += static_cast<char>(c);
  }
  line = std::string(stripped(line));
  return true;
}

void turn(Conversation &conversation, std::deque<Message> &messages, const std::string &line) {
  std::deque<Message> asked = messages;
  asked.push_back({"user", line, false});
  try {
    check_utf8(line);
    if (const size_t dropped = conversation.slide(asked))
      std::fprintf(stderr, "the context is full: the oldest %zu messages were left out of the conversation\n", dropped);
    const Answer answer = conversation.answer(asked, nullptr, false);
    std::fprintf(stderr, "%s\n", answer.remark.c_str());
    asked.push_back({"assistant", answer.text, true});
    messages = std::move(asked);
    conversation.prepare(messages);
  } catch (const Failure &failure) {
    if (failure.exit_code != 71 && failure.exit_code != 2) throw;
    std::fprintf(stderr, "error: %s\nthe question was not added to the conversation; /reset forgets the conversation\n",
                 failure.message.c_str());
  }
}

int converse(Conversation &conversation) {
  std::fprintf(stderr, "%s, %s. %s\n", conversation.name().c_str(), kernel_name(), kHelp);
  std::deque<Message> messages;
  for (std::string line; read_line(line);) {
    if (line == "/exit") break;
    if (line == "/reset") {
      messages.clear();
      std::fprintf(stderr, "conversation forgotten\n");
    } else if (!line.empty() && line[0] == '/') {
      std::fprintf(stderr, "there is no command %s; %s\n", line.c_str(), kHelp);
    } else if (!line.empty()) {
      turn(conversation, messages, line);
    }
  }
  return 0;
}

std::string whole_stdin() {
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, stdin)) text.append(buffer, count);
  if (std::ferror(stdin)) throw usage("the prompt cannot be read from stdin");
  return text.compare(0, 3, "\xef\xbb\xbf") == 0 ? text.substr(3) : text; /* without the byte-order mark of some editors */
}

}  // namespace

int answer(const Options &options) {
  std::string prompt = options.prompt.value_or("");
  if (options.prompt) {
    if (prompt == "-") prompt = whole_stdin();
    check_utf8(prompt);
    if (stripped(prompt).empty())
      throw usage("the prompt is empty", "give --prompt a text, or leave it out to hold a conversation");
  }
  Conversation conversation(options);
  if (!options.raw && !conversation.has_chat())
    throw Failure{36, "tokenizer", conversation.name() + " has no chat format for edgekit-run",
                  "continue plain text instead, with --prompt TEXT --raw"};
  if (options.think_tokens && !conversation.thinks())
    throw usage("--think-tokens: " + conversation.name() + " does not think before it answers", "build it with --reasoning if it does");
  struct sigaction action = {};
  action.sa_handler = on_interrupt; /* no SA_RESTART: Ctrl-C also ends the reading of a line */
  ::sigaction(SIGINT, &action, nullptr);
  if (!options.prompt) return converse(conversation);
  const Answer answer = options.raw ? conversation.answer({}, &prompt, options.json)
                                    : conversation.answer({{"user", prompt, false}}, nullptr, options.json);
  ::signal(SIGINT, SIG_DFL); /* nothing but output is left, which may wait for its reader */
  if (options.json)
    std::printf("%s\n", answer.json.dump().c_str());
  else
    std::fprintf(stderr, "%s\n", answer.remark.c_str());
  return interrupted ? 130 : 0;
}

}  // namespace run
