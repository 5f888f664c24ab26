// The engine as two TensorFlow operations, compiled on the user's machine on first use
// (recurra/hosts/tensorflow_op.py) because TensorFlow's C++ interface differs between releases.
// They check shapes and hand addresses to the engine; the engine itself is not compiled here but
// called through recurra_api.h.
//
// One operation runs several scans ("problems") at once. `problems` has kNumbers integers for each:
//
//   0..7   the problem's options as recurra_api.h has them; number 6 is checkpoint_every
//   8      S: how many arrays the engine can save per scan, the slots: (batch, time_steps, units)
//          each, with checkpoint_every (batch, checkpoints, units)
//   9, 10  how many gates; how many rows a bias has (1: it is a vector)
//   11     bit mask of the arrays given as inputs, over the engine's numbering of its inputs
//   12     bit mask of the slots kept in `cache`: of the outputs' numbering in the forward
//          operation, of the inputs' in the backward one
//   13     bit mask of the results, over the engine's numbering of its outputs
//
// The engine's numbering, here and in recurra/engine/cpu.py:
//   forward inputs    x kernel recurrent_kernel bias h0 c0 mask dropout_x dropout_h
//   forward outputs   last_output state_h state_c sequence, S slots
//   backward inputs   x kernel recurrent_kernel bias h0 c0 mask dropout_x dropout_h sequence,
//                     S slots, d_last_output d_state_h d_state_c d_sequence, S slots' cotangents
//   backward outputs  dx dkernel drecurrent_kernel dbias dh0 dc0
//
// `arrays` and `outputs` hold the problems' arrays one after another, `masks` their masks.
//
// `cache` keeps what only the backward operation reads. It is of type bool, though it holds
// numbers, because TensorFlow makes no gradient for outputs of that type: gradients full of zeros
// would cost more time than the pass itself. It is filled only where something reads it.
#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "recurra_api.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;
using Status = absl::Status;

std::atomic<const RecurraApi*> api{nullptr};

constexpr int kOptions = RECURRA_PROBLEM_OPTIONS, kCheckpointEvery = 6;
constexpr int kNumbers = kOptions + 6;
constexpr int kGradients = 6, kForwardOutputs = 4;
constexpr std::int64_t kAlignment = 64;

// The inputs that the two passes number alike, and how many they are.
enum { kX, kKernel, kRecurrentKernel, kBias, kH0, kC0, kMask, kDropoutX, kDropoutH, kInputs };

struct Problem {
  std::int64_t options[kOptions];
  std::int64_t slots, gates, bias_rows;
  std::uint64_t given, cached, results;

  // How many states of each row are saved in a slot.
  std::int64_t saved_steps(std::int64_t time_steps) const {
    const std::int64_t k = recurra_checkpoint_steps(options[kCheckpointEvery], time_steps);
    return k ? (time_steps + k - 1) / k : time_steps;
  }
};

bool has(std::uint64_t bits, std::int64_t i) { return bits >> i & 1; }
int count(std::uint64_t bits) {
  int n = 0;
  for (; bits; bits &= bits - 1) ++n;
  return n;
}

Status invalid(const std::string& text) { return absl::InvalidArgumentError("Recurra: " + text); }

Status parse(const std::vector<std::int64_t>& numbers, std::vector<Problem>& problems) {
  if (numbers.empty() || numbers.size() % kNumbers != 0)
    return invalid("problems has " + std::to_string(numbers.size()) +
                   " numbers; expected a multiple of " + std::to_string(kNumbers));
  for (std::size_t i = 0; i < numbers.size(); i += kNumbers) {
    Problem p;
    const std::int64_t* n = &numbers[i];
    for (int j = 0; j < kOptions; ++j) p.options[j] = *n++;
    p.slots = *n++, p.gates = *n++, p.bias_rows = *n++;
    p.given = std::uint64_t(*n++), p.cached = std::uint64_t(*n++);
    p.results = std::uint64_t(*n++);
    if (p.options[kCheckpointEvery] < RECURRA_SQUARE_ROOT || p.slots < 0 || p.slots > 20 ||
        p.gates < 1 || p.bias_rows < 1)
      return invalid("problems has numbers out of range");
    problems.push_back(p);
  }
  return absl::OkStatus();
}

struct Sizes {
  std::int64_t batch, time_steps, features, units, saved_steps;
  std::int64_t slot_bytes(int element) const {
    const std::int64_t bytes = batch * saved_steps * units * element;
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
};

std::string text(const TensorShape& shape) {
  std::string s = "(";
  for (int i = 0; i < shape.dims(); ++i) s += (i ? ", " : "") + std::to_string(shape.dim_size(i));
  return s + (shape.dims() == 1 ? ",)" : ")");
}

// A kernel that does not fit is mostly an x that is not what the layer was built for.
Status for_features(const Status& error, std::int64_t features, const TensorShape& kernel) {
  if (kernel.dim_size(0) == features) return error;
  std::string words(error.message());
  const std::string start = "Recurra: ";
  if (words.rfind(start, 0) == 0) words.erase(0, start.size());
  return invalid("x has " + std::to_string(features) + " features and the layer was built for " +
                 std::to_string(kernel.dim_size(0)) + ": " + words);
}

// Takes the inputs of one operation one after another, checked.
class Reader {
 public:
  Reader(OpKernelContext* context, int arrays, int masks)
      : context_(context), end_(arrays), mask_(arrays), masks_end_(arrays + masks) {}

  // The next array's address, never null: that would mean absent.
  Status take(const char* name, std::initializer_list<std::int64_t> shape, const void** address) {
    if (next_ == end_) return invalid(std::string(name) + " is missing among the arrays");
    return check(name, context_->input(next_++), shape, address);
  }
  Status take_mask(std::initializer_list<std::int64_t> shape, const void** address) {
    if (mask_ == masks_end_) return invalid("a mask is missing");
    return check("mask", context_->input(mask_++), shape, address);
  }
  // The shape of one of the next arrays, before it is taken.
  Status peek(const char* name, int ahead, int dims, const TensorShape** shape) const {
    if (next_ + ahead >= end_) return invalid(std::string(name) + " is missing among the arrays");
    *shape = &context_->input(next_ + ahead).shape();
    if ((*shape)->dims() != dims)
      return invalid(std::string(name) + " has shape " + text(**shape) + "; expected " +
                     std::to_string(dims) + " dimensions");
    return absl::OkStatus();
  }
  Status end() const {
    if (next_ != end_ || mask_ != masks_end_) return invalid("more arrays than `problems` says");
    return absl::OkStatus();
  }

 private:
  static Status check(const char* name, const Tensor& array,
                      std::initializer_list<std::int64_t> shape, const void** address) {
    bool same = array.dims() == int(shape.size());
    int i = 0;
    for (const std::int64_t d : shape) {
      if (!same) break;
      same = array.dim_size(i++) == d;
    }
    if (!same)
      return invalid(std::string(name) + " has shape " + text(array.shape()) + "; expected " +
                     text(TensorShape(shape)));
    *address = array.tensor_data().data();
    if (!*address) *address = reinterpret_cast<const void*>(kAlignment);
    return absl::OkStatus();
  }

  OpKernelContext* context_;
  int next_ = 0, end_, mask_, masks_end_;
};

#define RECURRA_TRY(...)                 \
  do {                                   \
    const Status status = (__VA_ARGS__); \
    if (!status.ok()) return status;     \
  } while (0)

void* address_of(Tensor& t) {
  const void* data = t.tensor_data().data();
  return data ? const_cast<void*>(data) : reinterpret_cast<void*>(kAlignment);
}

void schedule(void* pool, void (*task)(void*), void* context) {
  static_cast<tensorflow::thread::ThreadPool*>(pool)->Schedule([task, context] { task(context); });
}

// What both operations share: the attributes and the call.
class Operation : public OpKernel {
 public:
  explicit Operation(OpKernelConstruction* c) : OpKernel(c) {
    std::vector<std::int64_t> numbers;
    OP_REQUIRES_OK(c, c->GetAttr("problems", &numbers));
    OP_REQUIRES_OK(c, c->GetAttr("N", &arrays_));
    OP_REQUIRES_OK(c, c->GetAttr("M", &masks_));
    OP_REQUIRES_OK(c, c->GetAttr("K", &results_));
    OP_REQUIRES_OK(c, c->GetAttr("T", &type_));
    OP_REQUIRES_OK(c, parse(numbers, problems_));
    int results = 0;
    for (const Problem& p : problems_) results += count(p.results);
    OP_REQUIRES(c, results == results_, invalid("K does not fit `problems`"));
  }

 protected:
  // Reads a problem's x, weights, states, mask and dropout factors into `addresses` by number, and
  // its numbers for the engine.
  Status read_common(Reader& reader, const Problem& p, Sizes& size,
                     std::vector<std::int64_t>& numbers, const void** addresses) const {
    const TensorShape *x, *kernel_shape, *recurrent_kernel;
    RECURRA_TRY(reader.peek("x", 0, 3, &x));
    RECURRA_TRY(reader.peek("kernel", 1, 2, &kernel_shape));
    RECURRA_TRY(reader.peek("recurrent_kernel", 2, 2, &recurrent_kernel));
    size = {x->dim_size(0), x->dim_size(1), x->dim_size(2), recurrent_kernel->dim_size(0),
            p.saved_steps(x->dim_size(1))};
    const std::int64_t width = p.gates * size.units;
    RECURRA_TRY(reader.take("x", {size.batch, size.time_steps, size.features}, &addresses[kX]));
    const Status kernel = reader.take("kernel", {size.features, width}, &addresses[kKernel]);
    if (!kernel.ok()) return for_features(kernel, size.features, *kernel_shape);
    RECURRA_TRY(reader.take("recurrent_kernel", {size.units, width}, &addresses[kRecurrentKernel]));
    if (has(p.given, kBias))
      RECURRA_TRY(p.bias_rows > 1 ? reader.take("bias", {p.bias_rows, width}, &addresses[kBias])
                                  : reader.take("bias", {width}, &addresses[kBias]));
    if (has(p.given, kH0))
      RECURRA_TRY(reader.take("h0", {size.batch, size.units}, &addresses[kH0]));
    if (has(p.given, kC0))
      RECURRA_TRY(reader.take("c0", {size.batch, size.units}, &addresses[kC0]));
    if (has(p.given, kMask))
      RECURRA_TRY(reader.take_mask({size.batch, size.time_steps}, &addresses[kMask]));
    std::int64_t factors[2] = {0, 0};
    const int numbers_of[2] = {kDropoutX, kDropoutH};
    const std::int64_t widths[2] = {size.features, size.units};
    for (int i = 0; i < 2; ++i) {
      if (!has(p.given, numbers_of[i])) continue;
      const char* name = i ? "dropout_h" : "dropout_x";
      const TensorShape* shape;
      RECURRA_TRY(reader.peek(name, 0, 3, &shape));
      factors[i] = shape->dim_size(0) == p.gates ? p.gates : 1;
      RECURRA_TRY(
          reader.take(name, {factors[i], size.batch, widths[i]}, &addresses[numbers_of[i]]));
    }
    numbers.insert(numbers.end(), p.options, p.options + kOptions);
    numbers.insert(numbers.end(), {size.batch, size.time_steps, size.features, size.units,
                                   factors[0], factors[1]});
    return absl::OkStatus();
  }

  Status run(OpKernelContext* c, bool backward, const std::vector<std::int64_t>& numbers,
             const std::vector<const void*>& addresses) const {
    const RecurraApi* engine = api.load(std::memory_order_acquire);
    if (!engine) return absl::FailedPreconditionError("Recurra: import recurra.hosts.tensorflow");
    const auto* workers = c->device()->tensorflow_cpu_worker_threads();
    const char* error = engine->run(
        backward, type_ == tensorflow::DT_DOUBLE, std::int64_t(problems_.size()), numbers.data(),
        const_cast<void* const*>(addresses.data()), workers ? workers->num_threads : 0,
        workers ? &schedule : nullptr, workers ? workers->workers : nullptr);
    return error ? invalid(error) : absl::OkStatus();
  }

  std::vector<Problem> problems_;
  int arrays_, masks_, results_;
  tensorflow::DataType type_;
};

class Forward : public Operation {
 public:
  explicit Forward(OpKernelConstruction* c) : Operation(c) {
    OP_REQUIRES_OK(c, c->GetAttr("save", &save_));
  }
  void Compute(OpKernelContext* c) override { OP_REQUIRES_OK(c, compute(c)); }

 private:
  Status compute(OpKernelContext* c) {
    Reader reader(c, arrays_, masks_);
    const int element = tensorflow::DataTypeSize(type_);
    std::size_t total = 0;
    for (const Problem& p : problems_) total += kInputs + kForwardOutputs + p.slots;
    std::vector<const void*> addresses(total, nullptr);
    std::vector<std::int64_t> numbers;
    numbers.reserve(problems_.size() * RECURRA_PROBLEM_NUMBERS);
    std::vector<Tensor> unused;  // what the engine insists on writing
    std::vector<Sizes> sizes(problems_.size());

    std::int64_t cache_bytes = 0;
    std::size_t at = 0;
    int result = 0;
    for (std::size_t i = 0; i < problems_.size(); ++i) {
      const Problem& p = problems_[i];
      RECURRA_TRY(read_common(reader, p, sizes[i], numbers, &addresses[at]));
      at += kInputs;
      const std::int64_t b = sizes[i].batch, t = sizes[i].time_steps, u = sizes[i].units;
      for (int o = 0; o < kForwardOutputs + p.slots; ++o, ++at) {
        if (!has(p.results, o)) continue;
        const int index = result++;
        const TensorShape shape = o < 3 ? TensorShape({b, u}) : TensorShape({b, t, u});
        if (c->output_required(index)) {
          Tensor* tensor;
          RECURRA_TRY(c->allocate_output(index, shape, &tensor));
          addresses[at] = address_of(*tensor);
        } else if (o == 1) {  // state_h
          unused.emplace_back();
          RECURRA_TRY(c->allocate_temp(type_, shape, &unused.back()));
          addresses[at] = address_of(unused.back());
        }
      }
      cache_bytes += count(p.cached) * sizes[i].slot_bytes(element);
    }
    RECURRA_TRY(reader.end());

    if (c->output_required(results_)) {
      Tensor* cache;
      RECURRA_TRY(c->allocate_output(results_, TensorShape({save_ ? cache_bytes : 0}), &cache));
      if (save_) {
        char* next = static_cast<char*>(address_of(*cache));
        at = 0;
        for (std::size_t i = 0; i < problems_.size(); ++i) {
          const Problem& p = problems_[i];
          at += kInputs;
          for (int o = 0; o < kForwardOutputs + p.slots; ++o, ++at) {
            if (!has(p.cached, o)) continue;
            addresses[at] = next;
            next += sizes[i].slot_bytes(element);
          }
        }
      }
    }
    return run(c, false, numbers, addresses);
  }

  bool save_;
};

class Backward : public Operation {
 public:
  using Operation::Operation;
  void Compute(OpKernelContext* c) override { OP_REQUIRES_OK(c, compute(c)); }

 private:
  Status compute(OpKernelContext* c) {
    Reader reader(c, arrays_, masks_);
    const int element = tensorflow::DataTypeSize(type_);
    const Tensor& cache = c->input(arrays_ + masks_);
    const char* next = static_cast<const char*>(cache.tensor_data().data());
    std::int64_t cache_left = cache.NumElements();
    std::size_t total = 0;
    for (const Problem& p : problems_) total += kInputs + 5 + 2 * p.slots + kGradients;
    std::vector<const void*> addresses(total, nullptr);
    std::vector<std::int64_t> numbers;
    numbers.reserve(problems_.size() * RECURRA_PROBLEM_NUMBERS);

    std::size_t at = 0;
    int result = 0;
    for (const Problem& p : problems_) {
      Sizes size;
      RECURRA_TRY(read_common(reader, p, size, numbers, &addresses[at]));
      const std::int64_t b = size.batch, t = size.time_steps, u = size.units;
      const std::int64_t states = kInputs + 1 + p.slots;  // three cotangents without time
      for (std::int64_t i = kInputs; i < states + 4 + p.slots; ++i) {
        if (has(p.given, i)) {
          RECURRA_TRY(i >= states && i < states + 3
                          ? reader.take("a state's gradient", {b, u}, &addresses[at + i])
                          : reader.take("a sequence", {b, t, u}, &addresses[at + i]));
        } else if (has(p.cached, i)) {
          cache_left -= size.slot_bytes(element);
          if (cache_left < 0) break;
          addresses[at + i] = next ? next : reinterpret_cast<const void*>(kAlignment);
          next += size.slot_bytes(element);
        }
      }
      at += states + 4 + p.slots;
      const std::int64_t width = p.gates * u;
      const TensorShape shapes[kGradients] = {
          {b, t, size.features},
          {size.features, width},
          {u, width},
          p.bias_rows > 1 ? TensorShape({p.bias_rows, width}) : TensorShape({width}),
          {b, u},
          {b, u},
      };
      for (int o = 0; o < kGradients; ++o, ++at) {
        if (!has(p.results, o)) continue;
        const int index = result++;
        if (!c->output_required(index)) continue;
        Tensor* tensor;
        RECURRA_TRY(c->allocate_output(index, shapes[o], &tensor));
        addresses[at] = address_of(*tensor);
      }
    }
    RECURRA_TRY(reader.end());
    if (cache_left != 0) return invalid("cache is not what the forward operation saved");
    return run(c, true, numbers, addresses);
  }
};

Status get_problems(InferenceContext* c, std::vector<Problem>& problems) {
  std::vector<std::int64_t> numbers;
  RECURRA_TRY(c->GetAttr("problems", &numbers));
  return parse(numbers, problems);
}

Status common_shapes(InferenceContext* c, int first, ShapeHandle& x, ShapeHandle& recurrent) {
  RECURRA_TRY(c->WithRank(c->input(first + kX), 3, &x));
  return c->WithRank(c->input(first + kRecurrentKernel), 2, &recurrent);
}

// How many of a problem's inputs are in `arrays`: all but the mask.
int arrays_of(const Problem& p) { return count(p.given) - has(p.given, kMask); }

Status forward_shapes(InferenceContext* c) {
  std::vector<Problem> problems;
  bool save;
  tensorflow::DataType type;
  RECURRA_TRY(get_problems(c, problems));
  RECURRA_TRY(c->GetAttr("save", &save));
  RECURRA_TRY(c->GetAttr("T", &type));
  int first = 0, result = 0;
  std::int64_t cache = 0;
  for (const Problem& p : problems) {
    ShapeHandle x, recurrent;
    RECURRA_TRY(common_shapes(c, first, x, recurrent));
    first += arrays_of(p);
    const DimensionHandle b = c->Dim(x, 0), t = c->Dim(x, 1), u = c->Dim(recurrent, 0);
    for (int o = 0; o < kForwardOutputs + p.slots; ++o)
      if (has(p.results, o))
        c->set_output(result++, o < 3 ? c->MakeShape({b, u}) : c->MakeShape({b, t, u}));
    if (!c->ValueKnown(b) || !c->ValueKnown(t) || !c->ValueKnown(u)) {
      cache = -1;
    } else if (cache >= 0) {
      const Sizes size = {c->Value(b), c->Value(t), 0, c->Value(u), p.saved_steps(c->Value(t))};
      cache += count(p.cached) * size.slot_bytes(tensorflow::DataTypeSize(type));
    }
  }
  c->set_output(result, c->Vector(!save       ? c->MakeDim(0)
                                  : cache < 0 ? c->UnknownDim()
                                              : c->MakeDim(cache)));
  return absl::OkStatus();
}

Status backward_shapes(InferenceContext* c) {
  std::vector<Problem> problems;
  RECURRA_TRY(get_problems(c, problems));
  int first = 0, result = 0;
  for (const Problem& p : problems) {
    ShapeHandle x, recurrent;
    RECURRA_TRY(common_shapes(c, first, x, recurrent));
    const DimensionHandle width = c->Dim(recurrent, 1);
    const ShapeHandle state = c->MakeShape({c->Dim(x, 0), c->Dim(recurrent, 0)});
    const ShapeHandle shapes[kGradients] = {
        x,         c->MakeShape({c->Dim(x, 2), width}),
        recurrent, p.bias_rows > 1 ? c->MakeShape({p.bias_rows, width}) : c->Vector(width),
        state,     state,
    };
    for (int o = 0; o < kGradients; ++o)
      if (has(p.results, o)) c->set_output(result++, shapes[o]);
    first += arrays_of(p);
  }
  return absl::OkStatus();
}

}  // namespace

// Called once, before the first operation runs. Returns whether the interface is the expected one.
extern "C" __attribute__((visibility("default"))) int recurra_set_api(const RecurraApi* given) {
  if (!given || given->version != RECURRA_API_VERSION) return 0;
  api.store(given, std::memory_order_release);
  return 1;
}

REGISTER_OP("RecurraForward")
    .Input("arrays: N * T")
    .Input("masks: M * bool")
    .Output("outputs: K * T")
    .Output("cache: bool")
    .Attr("problems: list(int)")
    .Attr("save: bool")
    .Attr("T: {float, double}")
    .Attr("N: int >= 1")
    .Attr("M: int >= 0")
    .Attr("K: int >= 1")
    .SetShapeFn(forward_shapes);

REGISTER_OP("RecurraBackward")
    .Input("arrays: N * T")
    .Input("masks: M * bool")
    .Input("cache: bool")
    .Output("gradients: K * T")
    .Attr("problems: list(int)")
    .Attr("T: {float, double}")
    .Attr("N: int >= 1")
    .Attr("M: int >= 0")
    .Attr("K: int >= 1")
    .SetShapeFn(backward_shapes);

REGISTER_KERNEL_BUILDER(Name("RecurraForward").Device(tensorflow::DEVICE_CPU), Forward);
REGISTER_KERNEL_BUILDER(Name("RecurraBackward").Device(tensorflow::DEVICE_CPU), Backward);
