// Calls from XLA: the attribute `problems` holds kProblemOptions numbers for each; of the arrays
// only those present are passed, in canonical order (call.h), told apart by the bit masks
// in_present and out_present, one for each problem.  Work is shared out over XLA's own threads.
#include "xla_ffi.h"

#include <exception>
#include <stdexcept>

#include "call.h"
#include "xla/ffi/api/ffi.h"

namespace recurra {
namespace {

namespace ffi = xla::ffi;

class XlaExecutor : public Executor {
 public:
  explicit XlaExecutor(ffi::ThreadPool& pool) : pool_(pool) {}
  int threads() const override {
    const std::int64_t n = pool_.num_threads();
    return n < 1 ? 1 : int(n);
  }
  void schedule(void (*task)(void*), void* context) override {
    pool_.Schedule([task, context] { task(context); });
  }

 private:
  ffi::ThreadPool& pool_;
};

Array array_of(ffi::AnyBuffer buffer) {
  Array a;
  a.present = true;
  a.data = buffer.untyped_data();
  switch (buffer.element_type()) {
    case ffi::F32: a.element = Element::float32; break;
    case ffi::F64: a.element = Element::float64; break;
    case ffi::PRED: a.element = Element::boolean; break;
    default: a.element = Element::other;
  }
  for (const std::int64_t d : buffer.dimensions()) a.shape.push_back(Index(d));
  return a;
}

using Numbers = ffi::Span<const std::int64_t>;

// Puts the present arrays where the canonical order has them, problem after problem.
template <class Count, class Get>
std::vector<Array> spread(const std::vector<Problem>& problems, Numbers present, std::size_t given,
                          Count count, Get get) {
  std::vector<Array> arrays;
  std::size_t from = 0;
  bool fits = true;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    const std::size_t total = count(problems[i]);
    fits = fits && std::uint64_t(present[i]) >> total == 0;  // total < 64
    for (std::size_t k = 0; k < total; ++k) {
      arrays.emplace_back();
      if (!(present[i] >> k & 1)) continue;
      if (from < given) arrays.back() = get(from);
      ++from;
    }
  }
  if (!fits || from != given)
    throw std::invalid_argument("in_present or out_present doesn't match the arrays");
  return arrays;
}

template <bool backward>
ffi::Error run(ffi::ThreadPool pool, Numbers options, Numbers in_present, Numbers out_present,
               ffi::RemainingArgs inputs, ffi::RemainingRets outputs) {
  try {
    const std::size_t n = in_present.size();
    if (options.size() != n * kProblemOptions || out_present.size() != n)
      throw std::invalid_argument("problems, in_present and out_present differ in length");
    std::vector<Problem> problems;
    for (std::size_t i = 0; i < n; ++i)
      problems.push_back(problem_of_options(options.begin() + i * kProblemOptions));
    const std::vector<Array> in = spread(
        problems, in_present, inputs.size(),
        [](const Problem& p) { return input_count(p, backward); },
        [&](std::size_t i) { return array_of(inputs.get<ffi::AnyBuffer>(i).value()); });
    const std::vector<Array> out = spread(
        problems, out_present, outputs.size(),
        [](const Problem& p) { return output_count(p, backward); },
        [&](std::size_t i) { return array_of(*outputs.get<ffi::AnyBuffer>(i).value()); });
    XlaExecutor executor(pool);
    call(backward, std::move(problems), in, out, executor);
    return ffi::Error::Success();
  } catch (const std::exception& e) {
    return ffi::Error::InvalidArgument(e.what());
  }
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Attr<Numbers>("problems")
      .Attr<Numbers>("in_present")
      .Attr<Numbers>("out_present")
      .RemainingArgs()
      .RemainingRets();
}

XLA_FFI_DEFINE_HANDLER(forward_handler, run<false>, binding());
XLA_FFI_DEFINE_HANDLER(backward_handler, run<true>, binding());

}  // namespace

void* xla_forward_handler() { return reinterpret_cast<void*>(forward_handler); }
void* xla_backward_handler() { return reinterpret_cast<void*>(backward_handler); }

}  // namespace recurra
