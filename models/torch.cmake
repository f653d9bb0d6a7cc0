# Target adapath_torch: LibTorch's headers and libraries. Included wherever LibTorch is needed (models, trainer, benchmarks).
#
# Protobuf found its way, and sets compile options on targets that it does not own.
include_guard(GLOBAL)

find_path(TORCH_ROOT_INCLUDE torch/script.h)
find_path(TORCH_API_INCLUDE torch/torch.h
          HINTS ${TORCH_ROOT_INCLUDE}/torch/csrc/api/include PATH_SUFFIXES torch/csrc/api/include)
find_library(TORCH_LIBRARY torch)
find_library(TORCH_CPU_LIBRARY torch_cpu)
find_library(C10_LIBRARY c10)
foreach(name TORCH_ROOT_INCLUDE TORCH_API_INCLUDE TORCH_LIBRARY TORCH_CPU_LIBRARY C10_LIBRARY)
  if(NOT ${name})
    message(FATAL_ERROR "LibTorch: ${name} not found; install libtorch-dev (make deps) or set -D${name}=")
  endif()
endforeach()

add_library(adapath_torch INTERFACE)
# SYSTEM: LibTorch's headers warn under -Wextra.
target_include_directories(adapath_torch SYSTEM INTERFACE ${TORCH_API_INCLUDE} ${TORCH_ROOT_INCLUDE})
target_link_libraries(adapath_torch INTERFACE ${TORCH_LIBRARY} ${TORCH_CPU_LIBRARY} ${C10_LIBRARY})
