#include "call.h"

#include <sstream>
#include <stdexcept>

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

// Visits a problem's slots in canonical order as (name, pointer).
template <class P, class F>
void visit_slots(const Problem& p, Slots<P>& slots, F&& f) {
  const CellFacts& cell = p.facts();
  // The value of a single gate is the hidden state, which is saved anyway.
  for (int g = 0; g < p.gates() && p.gates() > 1; ++g) f(Name(cell.gate_names[g]), slots.gate[g]);
  if (cell.has_cell_state) f(Name("cell_state"), slots.cell_state);
  f(Name("hidden_state"), slots.hidden_state);
  if (p.two_biases()) f(Name("recurrent_candidate"), slots.recurrent_candidate);
  for (int g = 0; g < p.gates(); ++g)
    if (derivative_needs_input(p.gate_activation(g)))
      f(Name("", "pre_", cell.gate_names[g]), slots.pre[g]);
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

// Takes the arrays one after the other, in canonical order, and checks each.
class Reader {
 public:
  Reader(const char* list, const std::vector<Array>& arrays) : list_(list), arrays_(arrays) {}

  const Array* next(const Name& name, bool required) {
    if (at_ >= arrays_.size())
      fail(std::string(list_) + ": " + std::string(name) + " is missing: got " +
           std::to_string(arrays_.size()) + " arrays");
    const Array& a = arrays_[at_++];
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
  void end() const {
    if (at_ != arrays_.size())
      fail(std::string(list_) + ": expected " + std::to_string(at_) + " arrays, got " +
           std::to_string(arrays_.size()));
  }

 private:
  const char* list_;
  const std::vector<Array>& arrays_;
  std::size_t at_ = 0;
};

// Everything that both directions share.
class Call {
 public:
  Call(Problem& p, const char* list, const std::vector<Array>& inputs) : p_(p), in_(list, inputs) {}

  void read_weights_and_x(const void*& x, const void*& kernel, const void*& recurrent) {
    const Array& ax = *in_.next("x", true);
    const Array& ak = *in_.next("kernel", true);
    const Array& ar = *in_.next("recurrent_kernel", true);
    if (ax.shape.size() != 3)
      fail("x must have shape (batch, time_steps, features), got " + show(ax.shape));
    if (ax.element != Element::float32 && ax.element != Element::float64)
      fail(std::string("x must be float32 or float64, got ") + show(ax.element));
    if (ar.shape.size() != 2)
      fail("recurrent_kernel must have shape (units, gates*units), got " + show(ar.shape));
    p_.dtype = ax.element == Element::float32 ? Dtype::float32 : Dtype::float64;
    element_ = ax.element;
    p_.batch = ax.shape[0];
    p_.time_steps = ax.shape[1];
    p_.features = ax.shape[2];
    p_.units = ar.shape[0];
    if (p_.units < 1) fail("units must be at least 1, got 0");
    gate_units_ = p_.gates() * p_.units;
    x = in_.check(ax, "x", element_, {p_.batch, p_.time_steps, p_.features});
    kernel = in_.check(ak, "kernel", element_, {p_.features, gate_units_});
    recurrent = in_.check(ar, "recurrent_kernel", element_, {p_.units, gate_units_});
  }
  Shape bias_shape() const {
    if (p_.two_biases()) return {2, gate_units_};
    return {gate_units_};
  }
  Shape state() const { return {p_.batch, p_.units}; }
  Shape per_step() const { return {p_.batch, p_.time_steps, p_.units}; }

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
    masks = 0;
    if (!a) return nullptr;
    const Index n = a->shape.size() == 0 ? 0 : a->shape[0];
    if (n != 1 && n != p_.gates())
      fail(std::string(name) + " must hold 1 or " + std::to_string(p_.gates()) +
           " masks along its first axis, got shape " + show(a->shape));
    masks = int(n);
    return in_.check(*a, name, element_, {n, p_.batch, size});
  }
  template <class P>
  void read_slots(Reader& reader, const char* prefix, Slots<P>& slots) {
    visit_slots(p_, slots, [&](const Name& name, P& pointer) {
      pointer = reader.take(name.prefixed(prefix), false, element_, per_step());
    });
  }

  Problem& p_;
  Reader in_;
  Element element_ = Element::other;
  Index gate_units_ = 0;
};

int team_size(const Problem& p, bool backward, Executor& executor) {
  int available = executor.threads();
  if (num_threads_is_set() && num_threads() < available) available = num_threads();
  return useful_threads(p, backward, available);
}

}  // namespace

std::vector<std::string> slot_names(const Problem& p) {
  std::vector<std::string> names;
  Slots<void*> none;
  visit_slots(p, none, [&](const Name& name, void*) { names.push_back(name); });
  return names;
}

std::size_t slot_count(const Problem& p) {
  Slots<void*> none;
  std::size_t count = 0;
  visit_slots(p, none, [&](const Name&, void*) { ++count; });
  return count;
}

Problem make_problem(std::int64_t cell, bool reset_after, std::int64_t activation,
                     std::int64_t recurrent_activation, bool go_backwards,
                     bool zero_output_for_mask) {
  const auto check = [](const char* name, std::int64_t v, std::size_t count) {
    if (v < 0 || v >= std::int64_t(count))
      fail(std::string(name) + " must be in 0.." + std::to_string(count - 1) + ", got " +
           std::to_string(v));
  };
  check("cell", cell, std::size(kCells));
  check("activation", activation, std::size(kActivationNames));
  check("recurrent_activation", recurrent_activation, std::size(kActivationNames));
  Problem p;
  p.cell = Cell(cell);
  p.reset_after = reset_after;
  p.activation = Activation(activation);
  p.recurrent_activation = Activation(recurrent_activation);
  p.go_backwards = go_backwards;
  p.zero_output_for_mask = zero_output_for_mask;
  return p;
}

void call_forward(Problem p, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
                  Executor& executor) {
  Call c(p, "forward inputs", inputs);
  ForwardArgs a;
  c.read_weights_and_x(a.x, a.kernel, a.recurrent_kernel);
  a.bias = c.in_.take("bias", false, c.element_, c.bias_shape());
  a.h0 = c.in_.take("h0", false, c.element_, c.state());
  a.c0 = c.read_c0();
  a.mask = c.read_mask();
  a.dropout_x = c.read_dropout("dropout_x", p.features, p.dropout_x_masks);
  a.dropout_h = c.read_dropout("dropout_h", p.units, p.dropout_h_masks);
  c.in_.end();

  Reader out("forward outputs", outputs);
  a.last_output = out.take("last_output", false, c.element_, c.state());
  a.state_h = out.take("state_h", true, c.element_, c.state());
  a.state_c = out.take("state_c", false, c.element_, c.state());
  a.sequence = out.take("sequence", false, c.element_, c.per_step());
  c.read_slots(out, "", a.slots);
  out.end();

  if (p.batch == 0) return;
  Team team(executor, team_size(p, false, executor));
  active_kernels().forward(p, a, team);
}

void call_backward(Problem p, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
                   Executor& executor) {
  Call c(p, "backward inputs", inputs);
  BackwardArgs a;
  c.read_weights_and_x(a.x, a.kernel, a.recurrent_kernel);
  a.h0 = c.in_.take("h0", false, c.element_, c.state());
  a.c0 = c.read_c0();
  a.mask = c.read_mask();
  a.dropout_x = c.read_dropout("dropout_x", p.features, p.dropout_x_masks);
  a.dropout_h = c.read_dropout("dropout_h", p.units, p.dropout_h_masks);
  const void* sequence = c.in_.take("sequence", false, c.element_, c.per_step());
  c.read_slots(c.in_, "", a.slots);
  if (!a.slots.hidden_state && !a.mask) a.slots.hidden_state = sequence;
  visit_slots(p, a.slots, [&](const Name& name, const void* pointer) {
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
  c.read_slots(c.in_, "d_", a.d_slots);
  c.in_.end();
  if (a.d_slots.recurrent_candidate) fail("d_recurrent_candidate: it is not an output");
  for (const void* d : a.d_slots.pre)
    if (d) fail("d_pre_*: pre-activations are not outputs");

  Reader out("backward outputs", outputs);
  a.dx = out.take("dx", false, c.element_, {p.batch, p.time_steps, p.features});
  a.dkernel = out.take("dkernel", false, c.element_, {p.features, c.gate_units_});
  a.drecurrent_kernel = out.take("drecurrent_kernel", false, c.element_, {p.units, c.gate_units_});
  a.dbias = out.take("dbias", false, c.element_, c.bias_shape());
  a.dh0 = out.take("dh0", false, c.element_, c.state());
  a.dc0 = out.take("dc0", false, c.element_, c.state());
  out.end();

  Team team(executor, team_size(p, true, executor));
  active_kernels().backward(p, a, team);
}

}  // namespace recurra
