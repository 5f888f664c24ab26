// Runs named cases on the kernels of one instruction set, for a tool that counts instructions.
//
//   count_kernels_ISA                   runs every case and prints its name
//   count_kernels_ISA --perf            the same with the processor's own count behind each name
//   count_kernels_ISA --compiler        prints the compiler, its version and target
//   ... case ...                        only these
//
// Each case runs once on one thread, after the smallest of its kind: what happens only once in a
// process is not counted.  It runs inside `recurra_counted_region`:
//   valgrind --tool=callgrind --toggle-collect=recurra_counted_region
//            --dump-after=recurra_counted_region ...
// writes one file for each case, in the order of the names.  benchmarks/counts.py does it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "../csrc/engine.h"
#include "../csrc/executor.h"
#include "../csrc/team.h"

#if defined(__linux__)
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

extern "C" __attribute__((noinline)) void recurra_counted_region(const std::function<void()>& f) {
  f();
  asm volatile("" ::: "memory");  // no tail call: the tool watches this function's end
}

namespace recurra {

namespace RECURRA_COUNTED {
extern const Kernels kernels;
}

namespace {

const Kernels& counted = RECURRA_COUNTED::kernels;

class Alone : public Executor {
 public:
  int threads() const override { return 1; }
  void schedule(void (*)(void*), void*) override {}
};

// Passes: the forward pass of a prediction, that of a training step, which saves, and its backward.
enum class Pass { predict, save, backward };
constexpr const char* kPassNames[] = {"predict", "save", "backward"};

// What a case has beyond the plain layer.
enum class Option { plain, mask, dropout, no_bias, reset_before, relu, trace, checkpoint };
constexpr const char* kOptionNames[] = {"",     "mask",  "dropout",   "no_bias", "reset_before",
                                        "relu", "trace", "checkpoint"};

struct Case {
  Cell cell;
  Pass pass;
  Index batch, time_steps, features, units;
  Option option;

  std::string name() const {
    std::string n = std::string(kCells[int(cell)].name) + " " + kPassNames[int(pass)];
    const char* separator = " ";
    for (const Index size : {batch, time_steps, features, units}) {
      n += separator + std::to_string(size);
      separator = ",";
    }
    return option == Option::plain ? n : n + " " + kOptionNames[int(option)];
  }
};

// Small, since valgrind emulates a fused multiply-add by a call per lane; but every tile occurs:
// full and partial ones, of rows and of units.
constexpr Index kShapes[][4] = {{24, 5, 8, 64}, {1, 20, 8, 64}, {7, 3, 40, 100}};
constexpr Index kLarge[] = {12, 1, 64, 256};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add = [&](Cell cell, const Index(&s)[4], Option option) {
    for (const Pass pass : {Pass::predict, Pass::save, Pass::backward})
      if (pass == Pass::backward || option != Option::trace)
        cases.push_back({cell, pass, s[0], s[1], s[2], s[3], option});
  };
  for (const Cell cell : {Cell::lstm, Cell::gru, Cell::simple_rnn})
    for (const auto& s : kShapes) add(cell, s, Option::plain);
  for (const Cell cell : {Cell::lstm, Cell::gru}) {
    add(cell, kLarge, Option::plain);
    for (const Option option : {Option::mask, Option::dropout, Option::no_bias, Option::relu,
                                Option::trace, Option::checkpoint})
      add(cell, kShapes[2], option);
  }
  add(Cell::gru, kShapes[2], Option::reset_before);
  return cases;
}

// The arrays of one case, and its two calls.
class Run {
 public:
  explicit Run(const Case& c) : pass_(c.pass), option_(c.option) {
    Problem& p = problem_;
    p.cell = c.cell;
    p.reset_after = c.option != Option::reset_before;
    p.batch = c.batch;
    p.time_steps = c.time_steps;
    p.features = c.features;
    p.units = c.units;
    if (c.option == Option::relu) {
      p.activation = Activation::relu;
      p.recurrent_activation = Activation::hard_sigmoid;
    }
    if (c.option == Option::checkpoint) p.checkpoint_every = 2;
    if (c.option == Option::dropout) p.dropout_x_masks = p.dropout_h_masks = 1;
    make_forward();
    if (pass_ == Pass::backward) make_backward();
  }

  void operator()() {
    Team team(alone_, 1);
    if (pass_ == Pass::backward)
      counted.backward(problem_, backward_, team);
    else
      counted.forward(problem_, forward_, team);
  }

 private:
  using Numbers = std::vector<float>;

  float* zeros(Index n) {
    arrays_.emplace_back(n);
    return arrays_.back().data();
  }
  // Numbers between -scale and scale, the same on every machine.
  float* random(Index n, float scale) {
    float* const a = zeros(n);
    for (Index i = 0; i < n; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      a[i] = scale * (float(state_ >> 40) / float(1 << 23) - 1);
    }
    return a;
  }

  void make_forward() {
    const Problem& p = problem_;
    ForwardArgs& a = forward_;
    const Index width = p.gates() * p.units, steps = p.batch * p.time_steps * p.units;
    a.x = random(p.batch * p.time_steps * p.features, 1);
    a.kernel = random(p.features * width, 0.1f);
    a.recurrent_kernel = random(p.units * width, 0.1f);
    if (option_ != Option::no_bias) a.bias = random(width * (p.two_biases() ? 2 : 1), 0.1f);
    if (option_ == Option::mask) {
      // Right padding: row i of n keeps its first (i + 1) T / n steps, on average half.
      mask_.resize(p.batch * p.time_steps);
      for (Index i = 0; i < p.batch; ++i)
        for (Index t = 0; t < p.time_steps; ++t)
          mask_[i * p.time_steps + t] = t * p.batch < (i + 1) * p.time_steps;
      a.mask = mask_.data();
    }
    if (option_ == Option::dropout) {
      a.dropout_x = random(p.batch * p.features, 1);
      a.dropout_h = random(p.batch * p.units, 1);
    }
    a.state_h = zeros(p.batch * p.units);
    if (p.facts().has_cell_state) a.state_c = zeros(p.batch * p.units);
    a.sequence = random(steps, 1);
    if (pass_ == Pass::predict) return;
    if (p.checkpoint_every) {
      const Index kept = p.batch * p.checkpoints() * p.units;
      a.checkpoint_h = random(kept, 1);
      if (p.facts().has_cell_state) a.checkpoint_c = random(kept, 1);
      return;
    }
    // Not zeros: the backward pass is counted without a forward pass before it.
    for (int g = 0; g < p.gates(); ++g) a.slots.gate[g] = random(steps, 1);
    if (p.facts().has_cell_state) a.slots.cell_state = random(steps, 1);
    if (p.two_biases()) a.slots.recurrent_candidate = random(steps, 1);
    if (a.mask) a.slots.hidden_state = random(steps, 1);
  }

  void make_backward() {
    const Problem& p = problem_;
    const ForwardArgs& f = forward_;
    BackwardArgs& a = backward_;
    const Index width = p.gates() * p.units, steps = p.batch * p.time_steps * p.units;
    a.x = f.x;
    a.kernel = f.kernel;
    a.recurrent_kernel = f.recurrent_kernel;
    a.bias = f.bias;
    a.mask = f.mask;
    a.dropout_x = f.dropout_x;
    a.dropout_h = f.dropout_h;
    for (int g = 0; g < p.gates(); ++g) a.slots.gate[g] = f.slots.gate[g];
    a.slots.cell_state = f.slots.cell_state;
    a.slots.hidden_state = f.mask ? f.slots.hidden_state : f.sequence;
    a.checkpoint_h = f.checkpoint_h;
    a.checkpoint_c = f.checkpoint_c;
    a.slots.recurrent_candidate = f.slots.recurrent_candidate;
    a.d_sequence = random(steps, 1);
    if (option_ == Option::trace) {
      for (int g = 0; g < p.gates(); ++g) a.d_slots.gate[g] = random(steps, 1);
      a.d_slots.hidden_state = random(steps, 1);
    }
    a.dx = zeros(p.batch * p.time_steps * p.features);
    a.dkernel = zeros(p.features * width);
    a.drecurrent_kernel = zeros(p.units * width);
    if (f.bias) a.dbias = zeros(width * (p.two_biases() ? 2 : 1));
  }

  const Pass pass_;
  const Option option_;
  Alone alone_;
  Problem problem_;
  ForwardArgs forward_;
  BackwardArgs backward_;
  std::deque<Numbers> arrays_;
  std::vector<std::uint8_t> mask_;
  std::uint64_t state_ = 1;
};

// The processor's count of this thread's instructions in user mode; -1 where it gives none.
class Counter {
 public:
  Counter() {
#if defined(__linux__)
    perf_event_attr attributes;
    std::memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.disabled = 1;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    file_ = int(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
#endif
  }
  bool works() const { return file_ >= 0; }
  long long count(const std::function<void()>& f) const {
    long long n = -1;
#if defined(__linux__)
    ioctl(file_, PERF_EVENT_IOC_RESET, 0);
    ioctl(file_, PERF_EVENT_IOC_ENABLE, 0);
    recurra_counted_region(f);
    ioctl(file_, PERF_EVENT_IOC_DISABLE, 0);
    if (read(file_, &n, sizeof n) != sizeof n) n = -1;
#endif
    return n;
  }

 private:
  int file_ = -1;
};

int run(std::vector<std::string> words) {
  bool perf = false;
  std::vector<Case> cases;
  for (const std::string& word : words) {
    if (word == "--compiler") {
#if defined(__x86_64__)
      const char* const target = "x86_64";
#elif defined(__aarch64__)
      const char* const target = "aarch64";
#else
      const char* const target = "another processor";
#endif
#if defined(__clang__)
      std::printf("clang %d %s\n", __clang_major__, target);
#else
      std::printf("gcc %d %s\n", __GNUC__, target);
#endif
      return 0;
    }
    if (word == "--perf") {
      perf = true;
      continue;
    }
    for (const Case& c : all_cases())
      if (c.name() == word) cases.push_back(c);
    if (cases.empty() || cases.back().name() != word) {
      std::fprintf(stderr, "'%s' is not a case\n", word.c_str());
      return 2;
    }
  }
  if (cases.empty()) cases = all_cases();
  const Counter counter;
  if (perf && !counter.works()) {
    std::fprintf(stderr, "the system gives no counts of instructions\n");
    return 3;
  }
  for (const Case& c : cases) {
    Case smallest = c;
    smallest.batch = smallest.time_steps = smallest.features = smallest.units = 1;
    Run{smallest}();
    Run run{c};
    const auto once = [&] { run(); };
    if (perf) {
      std::printf("%s: %lld\n", c.name().c_str(), counter.count(once));
    } else {
      recurra_counted_region(once);
      std::printf("%s\n", c.name().c_str());
    }
  }
  return 0;
}

}  // namespace
}  // namespace recurra

int main(int argc, char** argv) { return recurra::run({argv + 1, argv + argc}); }
