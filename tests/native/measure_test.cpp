/* Tests that measurements return a positive rate, and their errors. No rate is compared with a number. */
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "check.h"
#include "src/cpu.h"
#include "src/error.h"
#include "src/measure.h"

namespace fs = std::filesystem;

constexpr int64_t kMiB = 1 << 20;

/* The status and the message that `work` fails with. */
static ek_status status_of(const std::function<void()> &work, std::string *message) {
  try {
    work();
  } catch (const ek::Error &error) {
    *message = error.what();
    return error.status;
  }
  return EK_OK;
}

static void rates() {
  for (int threads : {1, 2, 5}) {
    const double rate = ek::measure_bandwidth(threads, 4 * kMiB + 12345); /* not a multiple of steps or pages */
    CHECK(std::isfinite(rate) && rate > 0);
  }
  for (const ek::Kernels &kernels : ek::complete_kernels()) {
    const double rate = ek::measure_kernel(kernels, 2);
    CHECK(std::isfinite(rate) && rate > 0);
  }
}

static void refusals() {
  std::string said;
  for (int threads : {0, -1, 10000}) {
    CHECK(status_of([&] { ek::measure_bandwidth(threads, kMiB); }, &said) == EK_BAD_ARGUMENT);
    CHECK(said.find(std::to_string(threads)) != std::string::npos && said.find("1 to 1024") != std::string::npos);
    CHECK(status_of([&] { ek::measure_kernel(ek::kScalar, threads); }, &said) == EK_BAD_ARGUMENT);
  }
  CHECK(status_of([&] { ek::measure_bandwidth(2, 8191); }, &said) == EK_BAD_ARGUMENT);
  CHECK(said.find("8191") != std::string::npos && said.find("4096") != std::string::npos);
  CHECK(status_of([&] { ek::measure_bandwidth(1, -1); }, &said) == EK_BAD_ARGUMENT);
  CHECK(status_of([&] { ek::measure_bandwidth(1, int64_t{1} << 60); }, &said) == EK_NO_MEMORY);
}

static void buffers() {
  const fs::path root = fs::temp_directory_path() / ("edgekit_measure_" + std::to_string(::getpid()));
  const auto put = [&](const std::string &path, const std::string &text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text << "\n";
  };
  CHECK(ek::bandwidth_buffer(root.string()) == 256 * kMiB); /* neither memory nor caches are reported */
  put("sys/devices/system/cpu/cpu0/cache/index2/size", "1024K");
  put("sys/devices/system/cpu/cpu0/cache/index3/size", "98304K");
  put("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable:   8388608 kB");
  CHECK(ek::bandwidth_buffer(root.string()) == 8 * 96 * kMiB);
  put("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable:   2097152 kB");
  CHECK(ek::bandwidth_buffer(root.string()) == 512 * kMiB); /* a quarter; more than four caches */
  put("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable:   1048576 kB");
  std::string said;
  CHECK(status_of([&] { ek::bandwidth_buffer(root.string()); }, &said) == EK_NO_MEMORY);
  for (const int64_t number : {384 * kMiB, 1024 * kMiB}) CHECK(said.find(std::to_string(number)) != std::string::npos);
  fs::remove_all(root);
}

int main() {
  rates();
  refusals();
  buffers();
  return finish("measure_test");
}
