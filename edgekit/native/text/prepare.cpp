#include "prepare.h"

#include <algorithm>
#include <cinttypes>

#include "../src/error.h"
#include "chat.h"
#include "tokenizer.h"

namespace ek {

int64_t common_start(const std::vector<int32_t> &a, const std::vector<int32_t> &b) {
  const auto most = static_cast<int64_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin();
}

std::vector<int32_t> next_start(const Tables &tables, const ek_message *messages, int64_t count) {
  if (count < 0) fail(EK_BAD_ARGUMENT, "a conversation of %" PRId64 " messages was given; allowed: 0 or more", count);
  std::vector<ek_message> asked(messages, messages + count);
  std::vector<int32_t> starts[2];
  asked.emplace_back();
  for (int i = 0; i < 2; ++i) { /* two questions that do not begin alike */
    asked.back() = {"user", i ? "1" : "A", 1, 0};
    Encoder(tables).encode(render(tables, asked.data(), count + 1), starts[i]);
    apply_bos(tables, tables.settings.adds_bos, starts[i]);
  }
  starts[0].resize(static_cast<size_t>(common_start(starts[0], starts[1])));
  return starts[0];
}

void evaluate_pieces(Session &session, const int32_t *ids, int64_t count) {
  std::vector<float> logits(static_cast<size_t>(session.model().vocab_size));
  for (int64_t done = 0; done < count;) {
    const int64_t piece = count - done < 2 * kPreparedPiece ? count - done : kPreparedPiece;
    session.evaluate(ids + done, piece, false, logits.data());
    done += piece;
  }
}

void prepare(ek_session &session, const Tables &tables, const ek_message *messages, int64_t count) {
  const InUse in_use(session);
  const std::vector<int32_t> start = next_start(tables, messages, count);
  Session &own = in_use->session;
  const int64_t shared = common_start(own.ids(), start), size = static_cast<int64_t>(start.size());
  if (shared == own.position() || size > own.context()) return; /* nothing is left out, or there is no room */
  own.rewind(shared);
  in_use->prepared = start;
  evaluate_pieces(own, start.data() + shared, size - shared);
}

}  // namespace ek
