/* Tests attention over a text against its formula in double, for odd lengths and groups, and its errors. */
#include "src/attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "src/cpu.h"
#include "src/error.h"

using namespace ek;

namespace {

/* Keys and values are rounded to float16: half a unit in the last place, 2^-11, for scores and values of about 1. AMX rounds
 * to bfloat16. */
constexpr double kHalf = 2e-3, kBf16 = 2e-2;

void check_text(const Kernels &kernels, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t dim, int threads) {
  Random random{static_cast<uint32_t>(tokens + heads)};
  const int64_t half = dim / 2, stride = (heads + 2 * kv_heads) * dim;
  std::vector<float> qkv(static_cast<size_t>(tokens * stride)), cos(static_cast<size_t>(tokens * half)), sin(cos);
  for (float &x : qkv) x = random.real();
  for (size_t i = 0; i < cos.size(); ++i) {
    const float angle = 3.0f * random.real();
    cos[i] = std::cos(angle), sin[i] = std::sin(angle);
  }
  std::vector<float> y(static_cast<size_t>(tokens * heads * dim), NAN);
  attend_text(kernels, qkv.data(), tokens, heads, kv_heads, dim, cos.data(), sin.data(), threads, y.data());
  const auto rotated = [&](int64_t t, int64_t head, int64_t i) { /* halves of a head form the pairs */
    const float *x = &qkv[static_cast<size_t>(t * stride + head * dim)];
    const auto at = static_cast<size_t>(t * half + i % half);
    const double c = cos[at], s = sin[at];
    return i < half ? x[i] * c - x[i + half] * s : x[i] * c + x[i - half] * s;
  };
  double worst = 0;
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t kv = heads + h / (heads / kv_heads);
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<double> sum(static_cast<size_t>(dim));
      double total = 0;
      for (int64_t u = 0; u <= t; ++u) {
        double score = 0;
        for (int64_t i = 0; i < dim; ++i) score += rotated(t, h, i) * rotated(u, kv, i);
        const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
        total += weight;
        for (int64_t i = 0; i < dim; ++i)
          sum[static_cast<size_t>(i)] += weight * static_cast<double>(qkv[static_cast<size_t>(u * stride + (kv + kv_heads) * dim + i)]);
      }
      for (int64_t i = 0; i < dim; ++i) {
        const double error = std::fabs(static_cast<double>(y[static_cast<size_t>((t * heads + h) * dim + i)]) - sum[static_cast<size_t>(i)] / total);
        if (!(error <= worst)) worst = error;
      }
    }
  }
  CHECK(worst <= (kernels.attends_in_bf16 ? kBf16 : kHalf));
}

/* Norms of q and k come before the rotation: the rows are those of the same rows normalized beforehand, without norms. */
void check_norms(const Kernels &kernels, KvType type) {
  constexpr int64_t kHeads = 6, kKvHeads = 2, kDim = 48, kTokens = 3, kWidth = (kHeads + 2 * kKvHeads) * kDim;
  constexpr float kEpsilon = 0.01f;
  Random random{9};
  std::vector<float> qkv(kTokens * kWidth), normed, cos(kTokens * kDim / 2), sin(cos), q_norm(kDim), k_norm(kDim);
  for (std::vector<float> *values : {&qkv, &cos, &sin, &q_norm, &k_norm})
    for (float &x : *values) x = random.real();
  normed = qkv;
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t h = 0; h < kHeads + kKvHeads; ++h) {
      float *x = &normed[static_cast<size_t>(t * kWidth + h * kDim)];
      double squares = 0;
      for (int64_t i = 0; i < kDim; ++i) squares += static_cast<double>(x[i]) * x[i];
      const double scale = 1 / std::sqrt(squares / kDim + kEpsilon);
      for (int64_t i = 0; i < kDim; ++i)
        x[i] = static_cast<float>(x[i] * scale * (h < kHeads ? q_norm : k_norm)[static_cast<size_t>(i)]);
    }
  KvCache expected(1, kKvHeads, kDim, 64, type), found(1, kKvHeads, kDim, 64, type);
  AttentionRows rows{kHeads, kKvHeads, kDim, 0, 0, kTokens, qkv.data(), nullptr};
  rows.q_norm = q_norm.data(), rows.k_norm = k_norm.data(), rows.epsilon = kEpsilon;
  AttentionRows plain{kHeads, kKvHeads, kDim, 0, 0, kTokens, normed.data(), nullptr};
  Team team(std::make_shared<ThreadPool>(2));
  rotate_and_store(team, kernels, found, rows, cos.data(), sin.data());
  rotate_and_store(team, kernels, expected, plain, cos.data(), sin.data());
  double worst = 0;
  for (size_t i = 0; i < qkv.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(qkv[i]) - normed[i]));
  CHECK(worst <= 1e-5); /* sums in another order */
  for (int64_t i = 0; i < kTokens; ++i) { /* v is stored as it is */
    const float *v = &qkv[static_cast<size_t>(i * kWidth + (kHeads + kKvHeads) * kDim)];
    CHECK(std::equal(v, v + kKvHeads * kDim, &normed[static_cast<size_t>(i * kWidth + (kHeads + kKvHeads) * kDim)]));
  }
}

std::string refused(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t dim) {
  const std::vector<float> zeros(1024);
  std::vector<float> y(1024);
  try {
    attend_text(kScalar, zeros.data(), tokens, heads, kv_heads, dim, zeros.data(), zeros.data(), 1, y.data());
    return "";
  } catch (const Error &error) {
    CHECK(error.status == EK_BAD_ARGUMENT);
    return error.what();
  }
}

}  // namespace

int main() {
  for (const Kernels &kernels : complete_kernels()) {
    check_text(kernels, 1, 1, 1, 16, 1);
    check_text(kernels, 17, 6, 2, 48, 2);
    check_text(kernels, 70, 7, 1, 32, 3); /* more rows than a task, more than a block of keys */
    check_norms(kernels, KvType::kFloat16);
    check_norms(kernels, KvType::kInt8);
  }
  CHECK(refused(1, 1, 1, 16).empty());
  CHECK(refused(0, 1, 1, 16) == "cannot compute the attention of 0 tokens; allowed: 1 to 16777216");
  CHECK(refused(1, 3, 2, 16).find("3 heads and 2 key-value heads") != std::string::npos);
  CHECK(refused(1, 1, 1, 24).find("a head_dim of 24; allowed: multiples of 16 up to 256") != std::string::npos);
  return finish("attention_test");
}
