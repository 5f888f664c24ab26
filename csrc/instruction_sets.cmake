# How a source is compiled for one instruction set: the same for the module's kernels and for the
# tools that look at them.

# -ffp-contract=off: which products are fused into additions is the source's choice, so that a
# result never depends on how a compiler arranged one loop or another.
set(RECURRA_KERNEL_OPTIONS -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math)

# For machines without AVX-512: the AVX-512 kernels' tiles and 64-byte vectors, lowered by the
# compiler to whatever the processor has.  Slow; for testing that path's logic.
option(RECURRA_EMULATE_AVX512 "Build the AVX-512 kernels for processors without it" OFF)

set(RECURRA_ISAS GENERIC)
set(RECURRA_ISA_DEFINITIONS)  # for the code that chooses among them
set(RECURRA_OPTIONS_GENERIC)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND RECURRA_ISAS AVX2 AVX512 AVX512_BF16)
  list(APPEND RECURRA_ISA_DEFINITIONS RECURRA_HAVE_X86_KERNELS)
  set(RECURRA_OPTIONS_AVX2 -mavx2 -mfma)
  if(RECURRA_EMULATE_AVX512)
    list(APPEND RECURRA_ISA_DEFINITIONS RECURRA_EMULATE_AVX512)
    set(RECURRA_OPTIONS_AVX512 -mavx2 -mfma -Wno-psabi)
    set(RECURRA_OPTIONS_AVX512_BF16 ${RECURRA_OPTIONS_AVX512})
  else()
    set(RECURRA_OPTIONS_AVX512 -mavx2 -mfma -mavx512f -mavx512vl -mavx512dq -mavx512bw)
    set(RECURRA_OPTIONS_AVX512_BF16 ${RECURRA_OPTIONS_AVX512} -mavx512bf16)
  endif()
endif()

# An object library of `source` for `isa`, one of RECURRA_ISAS.
function(add_library_of_isa target isa source)
  add_library(${target} OBJECT ${source})
  set_target_properties(${target} PROPERTIES
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_definitions(${target} PRIVATE RECURRA_ISA_${isa})
  if(RECURRA_EMULATE_AVX512 AND isa MATCHES "^AVX512")
    target_compile_definitions(${target} PRIVATE RECURRA_EMULATE_AVX512)
  endif()
  target_compile_options(${target} PRIVATE
    ${RECURRA_KERNEL_OPTIONS} -Wall -Wextra ${RECURRA_OPTIONS_${isa}})
endfunction()
