#include "call.h"

#include <atomic>
#include <exception>
#include <sstream>
#include <stdexcept>

#include "plan.h"
#include "recurra_api.h"
#include "team.h"

namespace recurra {
namespace {

// A name in up to three parts, put together only for a message.
struct Name {
  Name(const char* stem) : parts{"", "", stem} {}
  Name(const char* first, const char* second, const char* stem) : parts{first, second, stem} {}
  Name prefixed(const char* prefix) const { return {prefix, parts[1], parts[2]}; }
  operator std::string() const { return std::string(parts[0]) + parts[1] + parts[2]; }

  const char* parts[3];
};

// Visits what the forward pass saves, in canonical order, as (name, pointer).
template <class Args, class F>
void visit_saved(const Problem& p, Args& args, F&& f) {
  if (p.checkpoint_every) {
    f(Name("checkpoint_h"), args.checkpoint_h);
    if (p.facts().has_cell_state) f(Name("checkpoint_c"), args.checkpoint_c);
  } else {
    visit_slots(p, args.slots, [&](const char* prefix, const char* stem, auto& pointer) {
      f(Name("", prefix, stem), pointer);
    });
  }
}

std::string show(const Shape& shape) {
  std::ostringstream s;
  s << "(";
  if (shape.size() > Shape::kMost) return std::to_string(shape.size()) + " dimensions";
  for (int i = 0; i < shape.size(); ++i) s << (i ? ", " : "") << shape[i];
  s << (shape.size() == 1 ? ",)" : ")");
  return s.str();
}

const char* show(Element e) {
  switch (e) {
    case Element::float32: return "float32";
    case Element::float64: return "float64";
    case Element::boolean: return "bool";
    case Element::other: break;
  }
  return "an unsupported dtype";
}

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

// Takes a problem's arrays one after the other, in canonical order, and checks each.
class Reader {
 public:
  Reader(const char* list, const Array* arrays) : list_(list), at_(arrays) {}

  const Array* next(const Name& name, bool required) {
    const Array& a = *at_++;
    if (!a.present) {
      if (required) fail(std::string(list_) + ": " + std::string(name) + " is required");
      return nullptr;
    }
    return &a;
  }
  void* take(const Name& name, bool required, Element element, const Shape& shape) {
    const Array* a = next(name, required);
    return a ? check(*a, name, element, shape) : nullptr;
  }
  void* check(const Array& a, const Name& name, Element element, const Shape& shape) const {
    if (!a.described) return a.data;
    if (a.element != element)
      fail(std::string(list_) + ": " + std::string(name) + " must be " + show(element) + ", got " +
           show(a.element));
    if (!(a.shape == shape))
      fail(std::string(list_) + ": " + std::string(name) + " must have shape " + show(shape) +
           ", got " + show(a.shape));
    // Kernels tell absent arrays by null; an empty one may come without memory.
    static char nothing[64];
    return a.data ? a.data : nothing;
  }

 private:
  const char* list_;
  const Array* at_;
};

// Everything that both directions share.
class Call {
 public:
  Call(Problem& p, const char* list, const Array* inputs) : p_(p), in_(list, inputs) {}

  void read_weights_and_x(const void*& x, const void*& kernel, const void*& recurrent) {
    const Array& ax = *in_.next("x", true);
    const Array& ak = *in_.next("kernel", true);
    const Array& ar = *in_.next("recurrent_kernel", true);
    if (ax.described) read_sizes(ax, ar);
    p_.checkpoint_every = recurra_checkpoint_steps(p_.checkpoint_every, p_.time_steps);
    if (p_.products == Products::bfloat16 && p_.dtype != Dtype::float32)
      fail("bfloat16 products are summed up in float32: the arrays must be float32, got float64");
    element_ = p_.dtype == Dtype::float32 ? Element::float32 : Element::float64;
    gate_units_ = p_.gates() * p_.units;
    x = in_.check(ax, "x", element_, {p_.batch, p_.time_steps, p_.features});
    kernel = in_.check(ak, "kernel", element_, {p_.features, gate_units_});
    recurrent = in_.check(ar, "recurrent_kernel", element_, {p_.units, gate_units_});
  }
  void read_sizes(const Array& ax, const Array& ar) {
    if (ax.shape.size() != 3)
      fail("x must have shape (batch, time_steps, features), got " + show(ax.shape));
    if (ax.element != Element::float32 && ax.element != Element::float64)
      fail(std::string("x must be float32 or float64, got ") + show(ax.element));
    if (ar.shape.size() != 2)
      fail("recurrent_kernel must have shape (units, gates*units), got " + show(ar.shape));
    p_.dtype = ax.element == Element::float32 ? Dtype::float32 : Dtype::float64;
    p_.batch = ax.shape[0];
    p_.time_steps = ax.shape[1];
    p_.features = ax.shape[2];
    p_.units = ar.shape[0];
    if (p_.units < 1) fail("units must be at least 1, got 0");
  }
  Shape bias_shape() const {
    if (p_.two_biases()) return {2, gate_units_};
    return {gate_units_};
  }
  Shape state() const { return {p_.batch, p_.units}; }
  Shape per_step() const { return {p_.batch, p_.time_steps, p_.units}; }
  Shape per_saved_step() const {
    return p_.checkpoint_every ? Shape{p_.batch, p_.checkpoints(), p_.units} : per_step();
  }

  const void* read_c0() {
    const Array* a = in_.next("c0", false);
    if (!a) return nullptr;
    if (!p_.facts().has_cell_state)
      fail(std::string("c0 given, but ") + p_.facts().name + " has no cell state");
    return in_.check(*a, "c0", element_, state());
  }
  const std::uint8_t* read_mask() {
    return static_cast<const std::uint8_t*>(
        in_.take("mask", false, Element::boolean, {p_.batch, p_.time_steps}));
  }
  const void* read_dropout(const char* name, Index size, int& masks) {
    const Array* a = in_.next(name, false);
    if (a && !a->described) {
      if (masks == 0) fail(std::string(name) + " is given, but the problem says 0 masks");
      return a->data;
    }
    if (!a && masks > 0)
      fail(std::string(name) + " is missing, but the problem says " + std::to_string(masks) +
           " masks");
    if (!a) return nullptr;
    const Index n = a->shape.size() == 0 ? 0 : a->shape[0];
    if (n != 1 && n != p_.gates())
      fail(std::string(name) + " must hold 1 or " + std::to_string(p_.gates()) +
           " masks along its first axis, got shape " + show(a->shape));
    masks = int(n);
    return in_.check(*a, name, element_, {n, p_.batch, size});
  }
  template <class Args>
  void read_saved(Reader& reader, const char* prefix, Args& args) {
    visit_saved(p_, args, [&](const Name& name, auto& pointer) {
      pointer = reader.take(name.prefixed(prefix), false, element_, per_saved_step());
    });
  }

  Problem& p_;
  Reader in_;
  Element element_ = Element::other;
  Index gate_units_ = 0;
};

struct Forward {
  Problem problem;
  ForwardArgs arrays;

  Forward(const Problem& p, const Array* inputs, const Array* outputs);
  void run(Team& team) const { active_kernels().forward(problem, arrays, team); }
};

struct Backward {
  Problem problem;
  BackwardArgs arrays;

  Backward(const Problem& p, const Array* inputs, const Array* outputs);
  void run(Team& team) const { active_kernels().backward(problem, arrays, team); }
};

template <class Job>
void run_side_by_side(const std::vector<Job>& jobs, const Plan& plan, Executor& executor) {
  std::exception_ptr error;  // of the first that failed
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  Team team(executor, plan.side_by_side);
  team.run(Index(jobs.size()), [&](Index item, int) {
    const Index i = plan.order[item];
    try {
      Team own(executor, plan.threads[i]);
      jobs[i].run(own);
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

template <class Job>
void run_planned(const std::vector<Job>& jobs, const Plan& plan, Executor& executor) {
  if (plan.side_by_side > 1) return run_side_by_side(jobs, plan, executor);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    Team team(executor, plan.threads[i]);
    jobs[i].run(team);
  }
}

template <class Job>
void run_jobs(const std::vector<Job>& jobs, bool backward, Executor& executor) {
  int available = executor.threads();
  if (num_threads_is_set() && num_threads() < available) available = num_threads();
  std::vector<Problem> problems;
  for (const Job& job : jobs) problems.push_back(job.problem);
  const Plan plan = make_plan(problems, backward, available, executor.worth_a_thread());
  int most = plan.side_by_side;
  for (const int threads : plan.threads) most = threads > most ? threads : most;
  if (most == 1) return run_planned(jobs, plan, executor);
  auto run = [&](Executor& helpers) { run_planned(jobs, plan, helpers); };
  executor.run([](Executor& helpers, void* f) { (*static_cast<decltype(run)*>(f))(helpers); },
               &run);
}

template <class Job>
void read_and_run(bool backward, const std::vector<Problem>& problems, const Array* inputs,
                  const Array* outputs, Executor& executor) {
  std::vector<Job> jobs;
  jobs.reserve(problems.size());
  for (std::size_t i = 0; i < problems.size(); ++i) {
    const Problem& p = problems[i];
    try {
      jobs.emplace_back(p, inputs, outputs);
    } catch (const std::invalid_argument& e) {
      if (problems.size() == 1) throw;
      fail("problem " + std::to_string(i) + " of " + std::to_string(problems.size()) + ": " +
           e.what());
    }
    inputs += input_count(p, backward);
    outputs += output_count(p, backward);
    if (!backward && jobs.back().problem.batch == 0) jobs.pop_back();  // nothing to write
  }
  if (!jobs.empty()) run_jobs(jobs, backward, executor);
}

std::size_t slot_count(const Problem& p) {
  ForwardArgs none;
  std::size_t count = 0;
  visit_saved(p, none, [&](const Name&, void*) { ++count; });
  return count;
}

void check_range(const char* name, std::int64_t v, std::int64_t least, std::int64_t most) {
  if (v < least || v > most)
    fail(std::string(name) + " must be in " + std::to_string(least) + ".." + std::to_string(most) +
         ", got " + std::to_string(v));
}

}  // namespace

std::vector<std::string> slot_names(const Problem& p) {
  std::vector<std::string> names;
  ForwardArgs none;
  visit_saved(p, none, [&](const Name& name, void*) { names.push_back(name); });
  return names;
}

std::size_t input_count(const Problem& p, bool backward) {
  return backward ? 14 + 2 * slot_count(p) : 9;
}
std::size_t output_count(const Problem& p, bool backward) {
  return backward ? 6 : 4 + slot_count(p);
}

Problem problem_of_options(const std::int64_t* options) {
  check_range("cell", options[0], 0, std::size(kCells) - 1);
  check_range("activation", options[2], 0, std::size(kActivationNames) - 1);
  check_range("recurrent_activation", options[3], 0, std::size(kActivationNames) - 1);
  check_range("checkpoint_every", options[6], RECURRA_SQUARE_ROOT, std::int64_t(1) << 40);
  check_range("products", options[7], 0, 1);
  Problem p;
  p.cell = Cell(options[0]);
  p.reset_after = options[1] != 0;
  p.activation = Activation(options[2]);
  p.recurrent_activation = Activation(options[3]);
  p.go_backwards = options[4] != 0;
  p.zero_output_for_mask = options[5] != 0;
  p.checkpoint_every = Index(options[6]);
  p.products = Products(options[7]);
  return p;
}

Problem problem_of_numbers(const std::int64_t* numbers, Dtype dtype) {
  constexpr std::int64_t most = std::int64_t(1) << 40;
  Problem p = problem_of_options(numbers);
  const std::int64_t* sizes = numbers + kProblemOptions;
  check_range("batch", sizes[0], 0, most);
  check_range("time_steps", sizes[1], 0, most);
  check_range("features", sizes[2], 0, most);
  check_range("units", sizes[3], 1, most);
  const char* const masks[] = {"the number of dropout_x masks", "the number of dropout_h masks"};
  for (int i = 0; i < 2; ++i)
    if (sizes[4 + i] != 0 && sizes[4 + i] != 1 && sizes[4 + i] != p.gates())
      fail(std::string(masks[i]) + " must be 0, 1 or " + std::to_string(p.gates()) + ", got " +
           std::to_string(sizes[4 + i]));
  p.dtype = dtype;
  p.batch = Index(sizes[0]);
  p.time_steps = Index(sizes[1]);
  p.features = Index(sizes[2]);
  p.units = Index(sizes[3]);
  p.dropout_x_masks = int(sizes[4]);
  p.dropout_h_masks = int(sizes[5]);
  return p;
}

namespace {

Forward::Forward(const Problem& description, const Array* inputs, const Array* outputs)
    : problem(description) {
  Problem& p = problem;
  ForwardArgs& a = arrays;
  Call c(p, "forward inputs", inputs);
  c.read_weights_and_x(a.x, a.kernel, a.recurrent_kernel);
  a.bias = c.in_.take("bias", false, c.element_, c.bias_shape());
  a.h0 = c.in_.take("h0", false, c.element_, c.state());
  a.c0 = c.read_c0();
  a.mask = c.read_mask();
  a.dropout_x = c.read_dropout("dropout_x", p.features, p.dropout_x_masks);
  a.dropout_h = c.read_dropout("dropout_h", p.units, p.dropout_h_masks);

  Reader out("forward outputs", outputs);
  a.last_output = out.take("last_output", false, c.element_, c.state());
  a.state_h = out.take("state_h", true, c.element_, c.state());
  a.state_c = out.take("state_c", false, c.element_, c.state());
  a.sequence = out.take("sequence", false, c.element_, c.per_step());
  c.read_saved(out, "", a);
}

Backward::Backward(const Problem& description, const Array* inputs, const Array* outputs)
    : problem(description) {
  Problem& p = problem;
  BackwardArgs& a = arrays;
  Call c(p, "backward inputs", inputs);
  c.read_weights_and_x(a.x, a.kernel, a.recurrent_kernel);
  a.bias = c.in_.take("bias", false, c.element_, c.bias_shape());
  a.h0 = c.in_.take("h0", false, c.element_, c.state());
  a.c0 = c.read_c0();
  a.mask = c.read_mask();
  a.dropout_x = c.read_dropout("dropout_x", p.features, p.dropout_x_masks);
  a.dropout_h = c.read_dropout("dropout_h", p.units, p.dropout_h_masks);
  const void* sequence = c.in_.take("sequence", false, c.element_, c.per_step());
  c.read_saved(c.in_, "", a);
  if (!a.slots.hidden_state && !a.mask) a.slots.hidden_state = sequence;
  visit_saved(p, a, [&](const Name& name, const void* pointer) {
    if (!pointer)
      fail("backward inputs: " + std::string(name) + " is required" +
           (std::string(name) == "hidden_state"
                ? " (sequence stands in for it only where there is no mask)"
                : ""));
  });
  a.d_last_output = c.in_.take("d_last_output", false, c.element_, c.state());
  a.d_state_h = c.in_.take("d_state_h", false, c.element_, c.state());
  a.d_state_c = c.in_.take("d_state_c", false, c.element_, c.state());
  a.d_sequence = c.in_.take("d_sequence", false, c.element_, c.per_step());
  BackwardArgs cotangents;
  c.read_saved(c.in_, "d_", cotangents);
  a.d_slots = cotangents.slots;
  if (a.d_slots.recurrent_candidate) fail("d_recurrent_candidate: it is not an output");
  for (const void* d : a.d_slots.pre)
    if (d) fail("d_pre_*: pre-activations are not outputs");
  if (cotangents.checkpoint_h || cotangents.checkpoint_c)
    fail("d_checkpoint_*: checkpoints are not outputs");

  Reader out("backward outputs", outputs);
  a.dx = out.take("dx", false, c.element_, {p.batch, p.time_steps, p.features});
  a.dkernel = out.take("dkernel", false, c.element_, {p.features, c.gate_units_});
  a.drecurrent_kernel = out.take("drecurrent_kernel", false, c.element_, {p.units, c.gate_units_});
  a.dbias = out.take("dbias", false, c.element_, c.bias_shape());
  a.dh0 = out.take("dh0", false, c.element_, c.state());
  a.dc0 = out.take("dc0", false, c.element_, c.state());
}

}  // namespace

void call(bool backward, std::vector<Problem> problems, const std::vector<Array>& inputs,
          const std::vector<Array>& outputs, Executor& executor) {
  std::size_t in = 0, out = 0;
  for (const Problem& p : problems) {
    in += input_count(p, backward);
    out += output_count(p, backward);
  }
  const auto check_count = [&](const char* list, std::size_t got, std::size_t expected) {
    if (got != expected)
      fail(std::string(backward ? "backward " : "forward ") + list + ": expected " +
           std::to_string(expected) + " arrays, got " + std::to_string(got));
  };
  check_count("inputs", inputs.size(), in);
  check_count("outputs", outputs.size(), out);
  (backward ? read_and_run<Backward> : read_and_run<Forward>)(backward, problems, inputs.data(),
                                                              outputs.data(), executor);
}

std::size_t address_count(bool backward, std::size_t n, const std::int64_t* numbers) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Problem p = problem_of_options(numbers + i * kProblemNumbers);
    count += input_count(p, backward) + output_count(p, backward);
  }
  return count;
}

void call_addresses(bool backward, Dtype dtype, std::size_t n, const std::int64_t* numbers,
                    void* const* addresses, Executor& executor) {
  std::vector<Problem> problems;
  std::vector<Array> inputs, outputs;
  problems.reserve(n);
  const auto take = [&addresses](std::vector<Array>& list, std::size_t count) {
    for (std::size_t k = 0; k < count; ++k) {
      Array a;
      a.data = *addresses++;
      a.present = a.data != nullptr;
      a.described = false;
      list.push_back(a);
    }
  };
  for (std::size_t i = 0; i < n; ++i) {
    problems.push_back(problem_of_numbers(numbers + i * kProblemNumbers, dtype));
    take(inputs, input_count(problems.back(), backward));
    take(outputs, output_count(problems.back(), backward));
  }
  call(backward, std::move(problems), inputs, outputs, executor);
}

}  // namespace recurra
