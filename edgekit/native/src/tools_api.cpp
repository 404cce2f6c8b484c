/* Implements include/edgekit_tools.h, the C API for the builder, the probe and tests. No exception leaves this file. */
#include <cinttypes>
#include <optional>
#include <vector>

#include "abi.h"
#include "attention.h"
#include "choice.h"
#include "cpu.h"
#include "edgekit_tools.h"
#include "memory.h"
#include "product.h"
#include "quantize.h"
#include "work.h"

using ek::checked_threads;
using ek::guarded;
using ek::need;

int ek_quantize_rows(const void *rows, int dtype, int64_t n, int64_t k, int bits, int block_size, int symmetric,
                     int scale_dtype, uint8_t *codes, void *scales, uint8_t *zero_points, int64_t *bad_index) {
  return guarded([&] {
    need(rows && codes && scales, "ek_quantize_rows: rows, codes and scales must not be NULL");
    const int64_t bad = ek::quantize_rows({rows, dtype, n, k, bits, block_size, symmetric != 0, scale_dtype, codes, scales, zero_points});
    if (bad < 0) return;
    if (bad_index) *bad_index = bad;
    ek::fail(EK_NON_FINITE,
         "cannot quantize weight %" PRId64 " of a (%" PRId64 ", %" PRId64 ") matrix: it is NaN or larger than %s", bad,
             n, k, scale_dtype == EK_FLOAT16 ? "65504, the largest float16 scale" : "1e30");
  });
}

int ek_host_memory(const char *root, ek_memory_info *memory) {
  return guarded([&] {
    need(memory, "ek_host_memory: memory must not be NULL");
    thread_local std::optional<ek::HostMemory> found; /* the result points to its texts */
    found = ek::host_memory(root ? root : "");
    if (!found)
      ek::fail(EK_UNSUPPORTED,
           "cannot determine the memory of this host: the system does not report MemTotal and MemAvailable");
    *memory = {static_cast<uint64_t>(found->total), static_cast<uint64_t>(found->available), found->total_source.c_str(),
               found->available_source.c_str()};
  });
}

int ek_host_cores(const char *root, const int32_t *cpus, int64_t count, ek_core_info *cores) {
  return guarded([&] {
    need(cores, "ek_host_cores: cores must not be NULL");
    need(!cpus || count > 0, "ek_host_cores: count must be at least 1 unless cpus is NULL");
    const ek::Topology found = cpus ? ek::read_topology({cpus, cpus + count}, root ? root : "") : ek::this_topology(root ? root : "");
    *cores = {found.physical_cores, found.cores, found.threads, found.cores_reported};
  });
}

const char *ek_kernel_at(int index, int *runs) {
  const char *name = nullptr;
  guarded([&] {
    const std::vector<const ek::Kernels *> known = ek::known_kernels();
    if (index < 0 || static_cast<size_t>(index) >= known.size()) return;
    const ek::Kernels &kernels = *known[static_cast<size_t>(index)];
    if (runs) *runs = ek::runs_here(kernels);
    name = kernels.name;
  });
  return name;
}

const char *ek_kernel_candidate(int role, int index, int *is_used, double *multiply_adds_per_second) {
  const char *name = nullptr;
  guarded([&] {
    if (role < 0 || role >= ek::kChosenRoles) return;
    const ek::Choice &choice = ek::choose();
    const std::vector<ek::MeasuredSpeed> &candidates = choice.candidates[static_cast<size_t>(role)];
    if (index < 0 || static_cast<size_t>(index) >= candidates.size()) return;
    const ek::MeasuredSpeed &candidate = candidates[static_cast<size_t>(index)];
    if (is_used) *is_used = choice.parts[static_cast<size_t>(role)] == candidate.table;
    if (multiply_adds_per_second) *multiply_adds_per_second = candidate.rate;
    name = candidate.table->name;
  });
  return name;
}

int ek_measure_bandwidth(int threads, int64_t bytes, double *bytes_per_second) {
  return guarded([&] {
    need(bytes_per_second, "ek_measure_bandwidth: bytes_per_second must not be NULL");
    *bytes_per_second = ek::measure_bandwidth(checked_threads(threads), bytes);
  });
}

int ek_measure_kernel(const char *name, int threads, double *multiply_adds_per_second) {
  return guarded([&] {
    need(multiply_adds_per_second, "ek_measure_kernel: multiply_adds_per_second must not be NULL");
    const ek::Kernels &kernels = name ? ek::kernels_named(name) : ek::choose_kernels();
    *multiply_adds_per_second = ek::measure_kernel(kernels, checked_threads(threads));
  });
}

int64_t ek_model_token_bytes(const ek_model *model) {
  return ek::number_of(model, [](const ek::Model &of) { return ek::token_bytes(of); });
}

int64_t ek_model_prompt_multiply_adds(const ek_model *model, int64_t tokens) {
  return tokens < 1 ? 0 : ek::number_of(model, [&](const ek::Model &of) { return ek::prompt_multiply_adds(of, tokens); });
}

int ek_multiply(const char *kernel, const ek_matrix *w, const float *x, int64_t m, int prefill, float *y) {
  return guarded([&] {
    need(w && x && y, "ek_multiply: w, x and y must not be NULL");
    ek::multiply(kernel, *w, x, m, prefill != 0, y);
  });
}

int ek_attend(const float *qkv, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, const float *cos,
              const float *sin, int threads, float *y) {
  return guarded([&] {
    need(qkv && cos && sin && y, "ek_attend: qkv, cos, sin and y must not be NULL");
    ek::attend_text(ek::float_attention(ek::choose_kernels()), qkv, tokens, heads, kv_heads, head_dim, cos, sin, checked_threads(threads), y);
  });
}
