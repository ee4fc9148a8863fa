# LibTorch 2.11.0 as scripts/setup unpacks it: imported targets torch::c10 and torch::cpu, written by hand because the
# wheel's own find_package(Torch) asks for CUDA. Programs find the libraries by their run path.
set(default_cache "$ENV{TORPOR_CACHE}")
if(NOT default_cache)
  if(DEFINED ENV{XDG_CACHE_HOME})
    set(default_cache "$ENV{XDG_CACHE_HOME}/torpor")
  else()
    set(default_cache "$ENV{HOME}/.cache/torpor")
  endif()
endif()
set(TORPOR_LIBTORCH "${default_cache}/libtorch-2.11.0" CACHE PATH "Folder with LibTorch's include/ and lib/")
if(NOT EXISTS "${TORPOR_LIBTORCH}/complete")
  message(FATAL_ERROR "LibTorch 2.11.0 is not in ${TORPOR_LIBTORCH}. Get it with: scripts/setup lab. "
    "Or configure without lab/: -DTORPOR_LAB=OFF")
endif()

add_library(torch::c10 SHARED IMPORTED GLOBAL)
set_target_properties(torch::c10 PROPERTIES
  IMPORTED_LOCATION "${TORPOR_LIBTORCH}/lib/libc10.so"
  INTERFACE_INCLUDE_DIRECTORIES "${TORPOR_LIBTORCH}/include;${TORPOR_LIBTORCH}/include/torch/csrc/api/include"
  INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${TORPOR_LIBTORCH}/include;${TORPOR_LIBTORCH}/include/torch/csrc/api/include")
# torch_cpu needs libgomp, libcudart and libcupti, which lie beside it; its own run path finds them.
add_library(torch::cpu SHARED IMPORTED GLOBAL)
set_target_properties(torch::cpu PROPERTIES
  IMPORTED_LOCATION "${TORPOR_LIBTORCH}/lib/libtorch_cpu.so"
  INTERFACE_LINK_LIBRARIES torch::c10)

# torch/torch.h costs 20 s and 1.4 GB of memory wherever it is compiled: once, here. A target that wants it calls
# torpor_use_torch_header(target); its files then include <torch/torch.h> for nothing. GCC takes a precompiled header only
# with the same code-generation options, hence -fPIC for programs too.
file(WRITE "${CMAKE_BINARY_DIR}/lab_pch.cpp.new" "// Carries the precompiled header of lab/.\n")
configure_file("${CMAKE_BINARY_DIR}/lab_pch.cpp.new" "${CMAKE_BINARY_DIR}/lab_pch.cpp" COPYONLY)
add_library(torpor_lab_pch OBJECT "${CMAKE_BINARY_DIR}/lab_pch.cpp")
target_link_libraries(torpor_lab_pch PRIVATE torch::cpu torpor_settings)
target_precompile_headers(torpor_lab_pch PRIVATE <torch/torch.h>)

function(torpor_use_torch_header target)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
  target_link_libraries(${target} PRIVATE torch::cpu)
  target_precompile_headers(${target} REUSE_FROM torpor_lab_pch)
endfunction()
set_target_properties(torpor_lab_pch PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(torpor_lab_pch PRIVATE -fPIC)
