// The handlers through which XLA calls the engine.
#pragma once

namespace recurra {

void* xla_forward_handler();
void* xla_backward_handler();

}  // namespace recurra
