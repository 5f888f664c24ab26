// The engine as plain C, see recurra_api.h.
#pragma once

#include "recurra_api.h"

namespace recurra {

const RecurraApi* c_api();

}  // namespace recurra
