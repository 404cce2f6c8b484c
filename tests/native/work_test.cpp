/* Tests the counts of bytes and multiply-adds against sums written out for the small artifact. */
#include "src/work.h"

#include <limits>

#include "small_artifact.h"

int main() {
  const SmallArtifact artifact;
  const std::shared_ptr<const Model> model = artifact.open();
  const int64_t qkv = (kHeads + 2 * kKvHeads) * kHeadDim;
  /* A row: 16 bytes of codes and a float32 scale for each block of 32 columns. */
  const auto row = [](int64_t k) { return (k + 31) / 32 * (16 + 4); };
  const int64_t layer = 2 * 4 * kHidden + qkv * (row(kHidden) + 4) + kHidden * row(kHeads * kHeadDim) +
                        2 * kIntermediate * row(kHidden) + kHidden * row(kIntermediate);
  CHECK(token_bytes(*model) == row(kHidden) + 2 * layer + 4 * kHidden + kVocab * row(kHidden));

  const SmallArtifact normed(true); /* two norms of a head in each of two layers */
  CHECK(token_bytes(*normed.open()) == token_bytes(*model) + 2 * 2 * 4 * kHeadDim);

  const int64_t attention = qkv * kHidden + kHidden * kHeads * kHeadDim, mlp = 3 * kIntermediate * kHidden;
  for (const int64_t tokens : {1, 2, 77}) /* the last MLP and the head run for the last token only */
    CHECK(prompt_multiply_adds(*model, tokens) == tokens * (2 * attention + mlp) + mlp + kVocab * kHidden);
  CHECK(prompt_multiply_adds(*model, int64_t{1} << 62) == std::numeric_limits<int64_t>::max());
  return finish("work_test");
}
