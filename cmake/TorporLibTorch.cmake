# LibTorch 2.11.0 as scripts/setup unpacks it: imported targets torch::c10 and torch::cpu, written by hand because the
# wheel's own find_package(Torch) asks for CUDA. Programs find the libraries by their run path.
set(TORPOR_LIBTORCH "${TORPOR_CACHE_FOLDER}/libtorch-2.11.0" CACHE PATH "Folder with LibTorch's include/ and lib/")
if(NOT EXISTS "${TORPOR_LIBTORCH}/complete")
  message(FATAL_ERROR "LibTorch 2.11.0 is not in ${TORPOR_LIBTORCH}. Get it with: scripts/setup lab. "
    "Or configure without lab/: -DTORPOR_LAB=OFF")
endif()

add_library(torch::c10 SHARED IMPORTED GLOBAL)
set_target_properties(torch::c10 PROPERTIES
  IMPORTED_LOCATION "${TORPOR_LIBTORCH}/lib/libc10.so"
  INTERFACE_INCLUDE_DIRECTORIES "${TORPOR_LIBTORCH}/include;${TORPOR_LIBTORCH}/include/torch/csrc/api/include"
  INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${TORPOR_LIBTORCH}/include;${TORPOR_LIBTORCH}/include/torch/csrc/api/include")
# torch_cpu needs libgomp, libcudart and libcupti, which lie beside it; its own run path finds them. at::parallel_for is a
# template on OpenMP: compiled without it, it is a plain loop.
add_library(torch::cpu SHARED IMPORTED GLOBAL)
set_target_properties(torch::cpu PROPERTIES
  IMPORTED_LOCATION "${TORPOR_LIBTORCH}/lib/libtorch_cpu.so"
  INTERFACE_COMPILE_OPTIONS -fopenmp
  INTERFACE_LINK_LIBRARIES "torch::c10;${TORPOR_LIBTORCH}/lib/libgomp.so.1")

# torch/torch.h costs 20 s and 1.4 GB of memory wherever it is compiled: once, here. A target that wants it calls
# torpor_use_torch_header(target); its files then include <torch/torch.h> for nothing.
torpor_precompiled_set(lab HEADERS <torch/torch.h> LIBS torch::cpu)

function(torpor_use_torch_header target)
  target_link_libraries(${target} PRIVATE torch::cpu)
  torpor_use_precompiled(${target} lab)
endfunction()
