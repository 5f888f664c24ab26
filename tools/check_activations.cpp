// Compares the activations with the C library's in double precision, at every float32 number or at
// every n-th, on every instruction set that this processor runs.
//
//   check_activations [--every N] [--isa NAME] [function ...]
//
// Prints the largest error of each in ulp (units of the last place of the exact result, with
// float32's denormals) and the argument that has it.  Fails if one exceeds its limit, if NaN does
// not give NaN, or if a value leaves the function's range.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "activations.h"

namespace recurra {

#if defined(RECURRA_HAVE_X86_KERNELS)
namespace avx512 {
extern const ActivationsOfIsa activations;
}
namespace avx2 {
extern const ActivationsOfIsa activations;
}
#endif
namespace generic {
extern const ActivationsOfIsa activations;
}

namespace {

constexpr double kLimit = 2;  // what csrc/activations.h promises of all of them

double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}

double exact(Function f, double x) {
  switch (f) {
    case Function::exp: return std::exp(x);
    case Function::expm1: return std::expm1(x);
    case Function::tanh: return std::tanh(x);
    case Function::sigmoid: return sigmoid(x);
    case Function::softsign: return x / (1 + std::fabs(x));
    case Function::elu: return x > 0 ? x : std::expm1(x);
    case Function::selu:
      return 1.0507009873554804934193349852946 *
             (x > 0 ? x : 1.6732632423543772848170429916717 * std::expm1(x));
    case Function::gelu: return x * 0.5 * std::erfc(-x * 0.70710678118654752440);
    case Function::silu: return x == -INFINITY ? -0.0 : x * sigmoid(x);
    case Function::softplus: return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x)));
  }
  return 0;
}

struct Range {
  float low, high;
};
Range range_of(Function f) {
  switch (f) {
    case Function::exp:
    case Function::softplus: return {0, INFINITY};
    case Function::expm1: return {-1, INFINITY};
    case Function::sigmoid: return {0, 1};
    case Function::softsign:
    case Function::tanh: return {-1, 1};
    default: return {-INFINITY, INFINITY};
  }
}

// Beyond the largest float32 is its neighbour 2^128, which stands for infinity.
inline __attribute__((always_inline)) double error_in_ulp(double got, double right) {
  constexpr double beyond = 340282366920938463463374607431768211456.0;  // 2^128
  right = right > beyond ? beyond : right < -beyond ? -beyond : right;
  got = got > beyond ? beyond : got < -beyond ? -beyond : got;
  std::uint64_t bits;
  std::memcpy(&bits, &right, sizeof bits);
  const int exponent = int(bits >> 52 & 2047) - 1023;
  const int last_place = std::min(std::max(exponent, -126), 127) - 23;
  const std::uint64_t scale_bits = std::uint64_t(1023 - last_place) << 52;
  double scale;
  std::memcpy(&scale, &scale_bits, sizeof scale);
  return std::fabs(got - right) * scale;
}

struct Worst {
  double error = 0;
  float at = 0;
};

constexpr std::size_t kBlock = 4096;

// Block `number` of the float32 numbers, of which every n-th is looked at: a different one in each
// stretch of n.
void fill(std::uint64_t number, std::uint64_t every, float* x) {
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::uint64_t at = number * kBlock + i;
    const std::uint64_t scattered = every == 1 ? 0 : (at * 0x9e3779b97f4a7c15u >> 32) % every;
    const std::uint32_t bits =
        std::uint32_t(std::min<std::uint64_t>(at * every + scattered, 0xffffffff));
    std::memcpy(x + i, &bits, sizeof bits);
  }
}

using Isas = std::vector<const ActivationsOfIsa*>;

// The error of each; infinite where only one is NaN, and outside the range.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
double compare(const float* got, const double* right, Range range, double* errors) {
  double most = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const bool nan = std::isnan(right[i]);
    const double error = error_in_ulp(got[i], nan ? 0 : right[i]);
    const bool wrong = nan != std::isnan(got[i]) || got[i] < range.low || got[i] > range.high;
    errors[i] = wrong ? INFINITY : nan ? 0 : error;
    most = errors[i] > most ? errors[i] : most;
  }
  return most;
}

void check_block(Function f, const Isas& isas, const float* x, std::vector<Worst>& worst) {
  alignas(64) float y[kBlock];
  double right[kBlock], errors[kBlock];
  for (std::size_t i = 0; i < kBlock; ++i) right[i] = exact(f, x[i]);
  for (std::size_t k = 0; k < isas.size(); ++k) {
    isas[k]->evaluate(f, x, y, kBlock);
    const double most = compare(y, right, range_of(f), errors);
    if (most > worst[k].error)
      worst[k] = {most, x[std::find(errors, errors + kBlock, most) - errors]};
  }
}

std::vector<Worst> check(Function f, const Isas& isas, std::uint64_t every) {
  const std::uint64_t blocks = ((std::uint64_t(1) << 32) / every + kBlock - 1) / kBlock;
  std::atomic<std::uint64_t> next{0};
  const unsigned n = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::vector<Worst>> worst(n, std::vector<Worst>(isas.size()));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < n; ++t)
    threads.emplace_back([&, t] {
      float x[kBlock];
      for (std::uint64_t block; (block = next.fetch_add(1)) < blocks;) {
        fill(block, every, x);
        check_block(f, isas, x, worst[t]);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (unsigned t = 1; t < n; ++t)
    for (std::size_t k = 0; k < isas.size(); ++k)
      if (worst[t][k].error > worst[0][k].error) worst[0][k] = worst[t][k];
  return worst[0];
}

Isas runnable(const std::string& only) {
  Isas all, wanted;
#if defined(RECURRA_HAVE_X86_KERNELS)
  __builtin_cpu_init();
  const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(RECURRA_EMULATE_AVX512)
  const bool wide = fma;
#else
  const bool wide = fma && __builtin_cpu_supports("avx512f") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512bw");
#endif
  if (wide) all.push_back(&avx512::activations);
  if (fma) all.push_back(&avx2::activations);
#endif
  all.push_back(&generic::activations);
  for (const ActivationsOfIsa* isa : all)
    if (only.empty() || only == isa->isa) wanted.push_back(isa);
  return wanted;
}

[[noreturn]] void refuse(const std::string& message) {
  std::fprintf(stderr, "check_activations: %s\n", message.c_str());
  std::exit(2);
}

}  // namespace

int run(int argc, char** argv) {
  std::uint64_t every = 1;
  std::string only;
  std::vector<Function> functions;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--every" && i + 1 < argc) {
      every = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--isa" && i + 1 < argc) {
      only = argv[++i];
    } else {
      const auto* found = std::find(kFunctionNames, kFunctionNames + kFunctions, word);
      if (found == kFunctionNames + kFunctions) refuse("'" + word + "' is not a function");
      functions.push_back(Function(found - kFunctionNames));
    }
  }
  if (every < 1) refuse("--every must be 1 or more");
  const Isas isas = runnable(only);
  if (isas.empty()) refuse("this processor does not run '" + only + "'");
  if (functions.empty())
    for (int i = 0; i < kFunctions; ++i) functions.push_back(Function(i));

  bool good = true;
  std::printf("%-9s %-8s %9s %7s  %s\n", "function", "isa", "worst ulp", "limit", "at");
  for (const Function f : functions) {
    const std::vector<Worst> worst = check(f, isas, every);
    for (std::size_t k = 0; k < isas.size(); ++k) {
      const bool within = worst[k].error <= kLimit;
      std::printf("%-9s %-8s %9.3f %7g  %.9g (%a)%s\n", kFunctionNames[int(f)], isas[k]->isa,
                  worst[k].error, kLimit, double(worst[k].at), double(worst[k].at),
                  within ? "" : "  TOO LARGE");
      good = good && within;
    }
    std::fflush(stdout);
  }
  return good ? 0 : 1;
}

}  // namespace recurra

int main(int argc, char** argv) { return recurra::run(argc, argv); }
