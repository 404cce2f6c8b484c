/* A libFuzzer target. The input is a sequence of calls of the C API with sessions, samplers, streams and watches, also with
 * impossible arguments. Each call must return a status, and a session must have the tokens that successful calls gave it: an error
 * changes nothing. */
#include "fuzz_input.h"

namespace {

constexpr int kSequences = 3;
constexpr int64_t kMostTokens = 160;

struct Sequence {
  ek_session *session = nullptr;
  int64_t context = 0;
  int type = EK_KV_FLOAT16;
  std::vector<int32_t> tokens;

  int64_t position() const { return static_cast<int64_t>(tokens.size()); }
  void add(const int32_t *ids, int64_t count) { tokens.insert(tokens.end(), ids, ids + count); }
};

struct Block {
  int type;
  std::vector<int32_t> tokens;
  std::vector<uint8_t> bytes;
};

bool are_ids(const int32_t *ids, int64_t count) {
  return std::all_of(ids, ids + count, [](int32_t id) { return id >= 0 && id < kVocab; });
}

/* The calls of one input. */
class Calls {
 public:
  explicit Calls(Input in) : in_(in) {
    static const FuzzArtifact artifact;
    artifact_ = &artifact;
    static Sequence sequences[kSequences] = {{nullptr, 100, EK_KV_FLOAT16, {}}, {nullptr, kMostTokens, EK_KV_FLOAT16, {}}, {nullptr, 130, EK_KV_INT8, {}}};
    static ek_session *draft = [] {
      ek_session *made = nullptr;
      for (Sequence &each : sequences)
        expect(ek_session_create(artifact.model, each.context, 1, each.type, &each.session) == EK_OK);
      expect(ek_session_create(artifact.model, 40, 1, EK_KV_FLOAT16, &made) == EK_OK);
      return made;
    }();
    draft_ = draft;
    sequences_ = sequences;
    for (int i = 0; i < kSequences; ++i) {
      expect(ek_session_set_draft(sequences[i].session, nullptr) == EK_OK && ek_session_rewind(sequences[i].session, 0) == EK_OK);
      sequences[i].tokens.clear();
    }
    for (size_t i = 0; i < sizeof ids_ / sizeof ids_[0]; ++i) ids_[i] = static_cast<int32_t>(i * 7 % kVocab);
    for (int i = in_.byte() % 4; i > 0; --i) ids_[in_.byte()] = in_.id();
  }

  void run() {
    for (int i = 0; i < 40 && in_.at != in_.end; ++i) {
      one();
      for (int j = 0; j < kSequences; ++j) check(sequences_[j]);
    }
  }

 private:
  Sequence &sequence() { return sequences_[in_.byte() % kSequences]; }
  /* Now and then none. */
  ek_session *session_of(const Sequence &of) { return in_.byte() % 32 ? of.session : nullptr; }
  float *logits(int64_t rows) {
    logits_.assign(static_cast<size_t>(rows * kVocab), 0.0f); /* exactly as many as the call may write */
    return logits_.data();
  }

  static void check(const Sequence &of) {
    std::vector<int32_t> found(of.tokens.size());
    expect(ek_session_position(of.session) == of.position());
    expect(ek_session_tokens(of.session, found.data(), of.position()) == EK_OK && found == of.tokens);
  }

  void one() {
    switch (in_.byte() % 16) {
      case 0: return evaluate(sequence());
      case 1: return next(sequence());
      case 2: return rewind(sequence());
      case 3: return copy(sequence(), sequence());
      case 4: return take_block(sequence());
      case 5: return append_block(sequence());
      case 6: return step(sequence());
      case 7: return files(sequence(), sequence());
      case 8: return sample_rows(sequence());
      case 9: return sample();
      case 10: return draft(sequence());
      case 11: return text();
      case 12: return stream();
      case 13: return watch();
      case 14: return prompt();
      default: return questions(sequence());
    }
  }

  void evaluate(Sequence &of) {
    const int64_t count = in_.number();
    const int all = in_.byte() % 2;
    const bool fits = count >= 1 && count <= of.context - of.position();
    const int status = checked(ek_session_evaluate(session_of(of), in_.byte() % 32 ? ids_ : nullptr, count, all, logits(all && fits ? count : 1)));
    if (status != EK_OK) return;
    expect(fits && are_ids(ids_, count));
    of.add(ids_, count);
    expect(std::all_of(logits_.begin(), logits_.end(), [](float x) { return std::isfinite(x); }));
  }

  void next(Sequence &of) {
    const int32_t id = in_.id();
    if (checked(ek_session_next(session_of(of), id, logits(1))) == EK_OK) of.add(&id, 1);
  }

  void rewind(Sequence &of) {
    const int64_t length = in_.number();
    if (checked(ek_session_rewind(session_of(of), length)) != EK_OK) return;
    expect(length >= 0 && length <= of.position());
    of.tokens.resize(static_cast<size_t>(length));
  }

  void copy(Sequence &to, const Sequence &from) {
    if (checked(ek_session_copy(session_of(to), session_of(from))) != EK_OK) return;
    expect(to.type == from.type);
    to.tokens = std::vector<int32_t>(from.tokens);
  }

  void take_block(const Sequence &of) {
    const int64_t block = in_.number();
    Block taken{of.type, {}, std::vector<uint8_t>(static_cast<size_t>(ek_session_block_bytes(of.session)))};
    if (checked(ek_session_get_block(session_of(of), block, taken.bytes.data())) != EK_OK) return;
    expect(block >= 0 && (block + 1) * EK_BLOCK <= of.position());
    taken.tokens.assign(of.tokens.begin() + block * EK_BLOCK, of.tokens.begin() + (block + 1) * EK_BLOCK);
    blocks_.push_back(std::move(taken));
  }

  void append_block(Sequence &to) {
    if (blocks_.empty()) return;
    const Block &block = blocks_[in_.byte() % blocks_.size()];
    if (block.type != to.type) return; /* their sizes differ, which the function cannot see */
    if (checked(ek_session_append_block(session_of(to), block.tokens.data(), block.bytes.data())) != EK_OK) return;
    expect(to.position() % EK_BLOCK == 0);
    to.add(block.tokens.data(), EK_BLOCK);
  }

  /* With sessions twice, none, of another type, and with counts out of range. */
  void step(const Sequence &worker) {
    ek_session *sessions[20];
    Sequence *of[20];
    int64_t counts[20], rows = 0;
    const int64_t count = in_.byte() % 4 ? in_.byte() % 4 : in_.number();
    for (int i = 0; i < 20; ++i) {
      of[i] = &sequences_[(in_.byte() % 8 ? i : in_.byte()) % kSequences];
      sessions[i] = session_of(*of[i]);
      counts[i] = in_.byte() % 4 ? in_.byte() % 6 : in_.number();
    }
    if (count > 0 && count <= 20) rows = count;
    if (count > 20) return; /* the arrays are shorter */
    const bool pieces = in_.byte() % 2;
    const int status = checked(pieces ? ek_session_step_pieces(session_of(worker), sessions, counts, ids_, count, logits(rows))
                                      : ek_session_step(session_of(worker), sessions, ids_, count, logits(rows)));
    if (status != EK_OK) return;
    const int32_t *at = ids_;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t taken = pieces ? counts[i] : 1;
      of[i]->add(at, taken);
      at += taken;
    }
  }

  void files(const Sequence &from, Sequence &to) {
    static const std::string path = "/tmp/edgekit-calls-fuzz-" + std::to_string(::getpid());
    if (in_.byte() % 8) return; /* writing takes long */
    const bool nowhere = in_.byte() % 4 == 0;
    if (checked(ek_session_save(session_of(from), nowhere ? "/no folder/x" : path.c_str())) != EK_OK) return;
    const int status = checked(ek_session_load(session_of(to), path.c_str()));
    ::unlink(path.c_str());
    if (status != EK_OK) return;
    expect(to.type == from.type);
    to.tokens = std::vector<int32_t>(from.tokens);
  }

  ek_sampling sampling() { return {in_.real(), in_.real(), in_.real(), in_.real(), static_cast<int32_t>(in_.number())}; }

  std::vector<float> row() {
    std::vector<float> made(kVocab);
    for (float &x : made) x = static_cast<float>(in_.byte()) / 8;
    if (in_.byte() % 4 == 0) made[in_.byte() % kVocab] = in_.real();
    return made;
  }

  void sample_rows(const Sequence &worker) {
    const int64_t count = in_.byte() % 4 ? in_.byte() % 4 : in_.number(), rows = count > 0 && count <= 16 ? count : 1;
    if (count > 16 && count <= 800) return; /* the arrays are shorter */
    std::vector<float> all;
    std::vector<ek_sampling> how;
    std::vector<const uint8_t *> seen;
    const std::vector<uint8_t> some(kVocab, 1);
    for (int64_t i = 0; i < rows; ++i) {
      const std::vector<float> one_row = row();
      all.insert(all.end(), one_row.begin(), one_row.end());
      how.push_back(sampling());
      seen.push_back(in_.byte() % 2 ? some.data() : nullptr);
    }
    std::vector<uint64_t> states(static_cast<size_t>(rows), 7);
    std::vector<int32_t> tokens(static_cast<size_t>(rows), -1);
    if (checked(ek_session_sample(session_of(worker), all.data(), count, how.data(), seen.data(), states.data(), tokens.data())) == EK_OK)
      expect(are_ids(tokens.data(), count));
  }

  void sample() {
    const std::vector<float> given = row();
    const std::vector<uint8_t> seen(kVocab, in_.byte() % 2);
    const ek_sampling how = sampling();
    const int64_t n = std::min<int64_t>(in_.number(), kVocab);
    uint64_t state = in_.byte();
    int32_t token = -1;
    if (checked(ek_sample(in_.byte() % 32 ? given.data() : nullptr, n, in_.byte() % 32 ? &how : nullptr, in_.byte() % 2 ? seen.data() : nullptr, &state, &token)) == EK_OK)
      expect(token >= 0 && token < n);
  }

  void draft(const Sequence &of) {
    ek_session *const choices[] = {draft_, nullptr, of.session};
    checked(ek_session_set_draft(session_of(of), choices[in_.byte() % 3]));
  }

  /* Bytes of the input, with an end that is not the end of its memory. */
  std::string bytes() {
    std::string found(in_.byte() % 24, '\0');
    for (char &c : found) c = static_cast<char>(in_.byte());
    return found;
  }

  void text() {
    const std::string written = bytes();
    const int64_t size = in_.byte() % 8 ? static_cast<int64_t>(written.size()) : std::min<int64_t>(in_.number(), static_cast<int64_t>(written.size()));
    const int64_t room = in_.byte() % 8 ? in_.byte() % 32 : in_.number();
    if (room > 1000) return;
    std::vector<int32_t> ids(static_cast<size_t>(std::max<int64_t>(room, 0)));
    int64_t count = 0;
    checked(ek_text_encode(artifact_->text, in_.byte() % 32 ? written.c_str() : nullptr, size, in_.byte() % 16 ? in_.byte() % 9 : static_cast<int>(in_.number()), ids.data(), room, &count));
    const int64_t some = in_.number();
    if (some > static_cast<int64_t>(sizeof ids_ / sizeof ids_[0])) return;
    std::vector<char> utf8(ids.size());
    checked(ek_text_decode(artifact_->text, ids_, some, utf8.data(), room, &count));
  }

  void stream() {
    ek_stream *made = nullptr;
    expect(ek_stream_create(artifact_->text, &made) == EK_OK);
    const char *utf8 = nullptr;
    int64_t count = 0;
    for (int i = in_.byte() % 8; i >= 0; --i) {
      const int status = checked(i % 4 == 3 ? ek_stream_finish(made, &utf8, &count) : ek_stream_push(made, in_.byte() % 8 ? in_.id() : static_cast<int32_t>(in_.number()), &utf8, &count));
      if (status == EK_OK) expect(count >= 0 && utf8[count] == '\0');
    }
    ek_stream_free(made);
  }

  void watch() {
    ek_watch *made = nullptr;
    if (checked(ek_watch_create(in_.number(), static_cast<int>(in_.number()), in_.byte() % 3, &made)) != EK_OK) return;
    for (int i = in_.byte() % 32; i >= 0; --i) {
      int32_t action = -1;
      if (checked(ek_watch_push(made, in_.byte() % 8 ? i % 3 : in_.id(), in_.byte() % 8 != 0, &action)) == EK_OK)
        expect(action >= EK_WATCH_GO_ON && action <= EK_WATCH_CLOSE_LOOP);
      checked(ek_watch_adjust(made, logits(1), std::min<int64_t>(in_.number(), kVocab)));
    }
    expect(ek_watch_loops(made) >= 0);
    ek_watch_free(made);
    const std::string before = bytes();
    char utf8[32];
    int64_t size = 0;
    checked(ek_thought_closing(static_cast<int32_t>(in_.number()), before.c_str(), -1, utf8, std::min<int64_t>(in_.number(), sizeof utf8), &size));
  }

  void prompt() {
    const char *const roles[] = {"user", "assistant", "system", "tool", "", nullptr};
    const std::string contents[] = {bytes(), bytes()};
    ek_message messages[4];
    for (ek_message &each : messages) {
      const std::string &content = contents[in_.byte() % 2];
      each = {roles[in_.byte() % 6], in_.byte() % 16 ? content.c_str() : nullptr,
              in_.byte() % 4 ? static_cast<int64_t>(content.size()) : std::min<int64_t>(in_.number(), static_cast<int64_t>(content.size())), in_.byte() % 3};
    }
    const int64_t count = std::min<int64_t>(in_.number(), 4), room = in_.byte() % 32;
    std::vector<int32_t> ids(static_cast<size_t>(room));
    int64_t written = 0;
    checked(ek_text_prompt(artifact_->text, messages, count, ids.data(), room, &written));
  }

  void questions(const Sequence &of) {
    const int64_t some = in_.number();
    expect(ek_session_cache_bytes(of.session) > 0 && ek_session_block_bytes(of.session) > 0 && ek_session_accepted(of.session) >= 0);
    expect(ek_session_threads(of.session, nullptr) >= 1 && ek_model_token_bytes(artifact_->model) > 0);
    ek_model_prompt_multiply_adds(artifact_->model, some);
    ek_text_stop_id(artifact_->text, static_cast<int32_t>(some));
    ek_text_token_id(artifact_->text, in_.byte() % 8 ? bytes().c_str() : nullptr);
    ek_text_info info{};
    info.size = std::min<int64_t>(some, sizeof info);
    checked(ek_text_describe(artifact_->text, &info));
    std::vector<int32_t> tokens(of.tokens.size());
    if (some <= of.position()) checked(ek_session_tokens(session_of(of), tokens.data(), some));
    ek_session_cancel(session_of(of));
  }

  Input in_;
  const FuzzArtifact *artifact_;
  Sequence *sequences_;
  ek_session *draft_;
  int32_t ids_[1024];
  std::vector<float> logits_;
  std::vector<Block> blocks_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Calls(Input{bytes, bytes + size}).run();
  return 0;
}
