// Calls from XLA: present arrays only, in canonical order (call.h), told apart by the bit masks
// in_present and out_present.  Work is shared out over XLA's own threads.
#include "xla_ffi.h"

#include <exception>

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

int highest_bit(std::int64_t bits) {
  int n = 0;
  while (bits >> n) ++n;
  return n;
}

// Puts the present arrays where the canonical order has them; `total` places in all.
template <class Get>
std::vector<Array> spread(std::int64_t present, std::size_t total, Get get) {
  std::vector<Array> arrays(total);
  std::size_t from = 0;
  for (std::size_t i = 0; i < total; ++i)
    if (present >> i & 1) arrays[i] = get(from++);
  return arrays;
}

template <bool backward>
ffi::Error run(ffi::ThreadPool pool, std::int64_t cell, std::int64_t reset_after,
               std::int64_t activation, std::int64_t recurrent_activation,
               std::int64_t go_backwards, std::int64_t zero_output_for_mask,
               std::int64_t in_present, std::int64_t out_present, ffi::RemainingArgs inputs,
               ffi::RemainingRets outputs) {
  try {
    const Problem p = make_problem(cell, reset_after != 0, activation, recurrent_activation,
                                   go_backwards != 0, zero_output_for_mask != 0);
    const std::size_t slots = slot_count(p);
    const std::size_t in_total = backward ? 13 + 2 * slots : 9;
    const std::size_t out_total = backward ? 6 : 4 + slots;
    if (highest_bit(in_present) > int(in_total) || highest_bit(out_present) > int(out_total))
      return ffi::Error::InvalidArgument("in_present or out_present names arrays that don't exist");
    const auto input = [&](std::size_t i) {
      return array_of(inputs.get<ffi::AnyBuffer>(i).value());
    };
    const auto output = [&](std::size_t i) {
      return array_of(*outputs.get<ffi::AnyBuffer>(i).value());
    };
    if (std::size_t(__builtin_popcountll(std::uint64_t(in_present))) != inputs.size() ||
        std::size_t(__builtin_popcountll(std::uint64_t(out_present))) != outputs.size())
      return ffi::Error::InvalidArgument("in_present or out_present doesn't match the arrays");
    XlaExecutor executor(pool);
    const auto direction = backward ? call_backward : call_forward;
    direction(p, spread(in_present, in_total, input), spread(out_present, out_total, output),
              executor);
    return ffi::Error::Success();
  } catch (const std::exception& e) {
    return ffi::Error::InvalidArgument(e.what());
  }
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Attr<std::int64_t>("cell")
      .Attr<std::int64_t>("reset_after")
      .Attr<std::int64_t>("activation")
      .Attr<std::int64_t>("recurrent_activation")
      .Attr<std::int64_t>("go_backwards")
      .Attr<std::int64_t>("zero_output_for_mask")
      .Attr<std::int64_t>("in_present")
      .Attr<std::int64_t>("out_present")
      .RemainingArgs()
      .RemainingRets();
}

XLA_FFI_DEFINE_HANDLER(forward_handler, run<false>, binding());
XLA_FFI_DEFINE_HANDLER(backward_handler, run<true>, binding());

}  // namespace

void* xla_forward_handler() { return reinterpret_cast<void*>(forward_handler); }
void* xla_backward_handler() { return reinterpret_cast<void*>(backward_handler); }

}  // namespace recurra
