# How everything here is compiled.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

find_program(TORPOR_CCACHE ccache)
if(TORPOR_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What ccache needs to be told to store files that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
    "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime;${TORPOR_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${TORPOR_CCACHE}")
endif()

add_library(torpor_settings INTERFACE)
target_compile_options(torpor_settings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  if(TORPOR_CCACHE)
    target_compile_options(torpor_settings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  endif()
  # GCC 12 warns about code inside its own standard library when it inlines strings, vectors and variants (PR 105651, 105329,
  # 105562).
  target_compile_options(torpor_settings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict -Wno-array-bounds -Wno-stringop-overflow -Wno-maybe-uninitialized>)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # Vectors of SVE have no size that the compiler knows, so that there are no arrays of them; the kernels use NEON.
  target_compile_definitions(torpor_settings INTERFACE
    "HWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)")
endif()
if(TORPOR_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "TORPOR_FUZZ needs clang++ (found ${CMAKE_CXX_COMPILER_ID}); use: cmake --preset fuzz")
  endif()
  if(NOT TORPOR_SANITIZE)
    set(TORPOR_SANITIZE "fuzzer-no-link,address,undefined")
  endif()
endif()
if(TORPOR_SANITIZE)
  target_compile_options(torpor_settings INTERFACE -fsanitize=${TORPOR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(torpor_settings INTERFACE -fsanitize=${TORPOR_SANITIZE})
endif()
