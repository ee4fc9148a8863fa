# Precompiled headers: the standard library, fmt, nlohmann-json and, for tests, GoogleTest are read once, which saves about
# 2 s of 7 a file. Files include what they use all the same, and compile without. CLI11 is not among them: each file that
# sees it compiles 5 s of its inline code, whether it uses it or not.
#
#   torpor_use_precompiled(target library|test)
#
# GCC takes a precompiled header only with the same code-generation options, hence -fPIC for programs too.
function(torpor_precompiled_set name)
  cmake_parse_arguments(ARG "" "" "HEADERS;LIBS" ${ARGN})
  set(carrier "${CMAKE_BINARY_DIR}/precompiled_${name}.cpp")
  if(NOT EXISTS "${carrier}")
    file(WRITE "${carrier}" "// Carries a precompiled header.\n")
  endif()
  add_library(torpor_precompiled_${name} OBJECT EXCLUDE_FROM_ALL "${carrier}")
  set_target_properties(torpor_precompiled_${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(torpor_precompiled_${name} PRIVATE -fPIC)
  target_link_libraries(torpor_precompiled_${name} PRIVATE ${ARG_LIBS} torpor_settings)
  target_precompile_headers(torpor_precompiled_${name} PRIVATE ${ARG_HEADERS})
endfunction()

set(standard_headers <algorithm> <array> <chrono> <cmath> <cstdint> <cstring> <filesystem> <functional> <limits> <map>
    <memory> <optional> <span> <string> <string_view> <unordered_map> <variant> <vector> <fmt/format.h> <nlohmann/json.hpp>)
set(standard_libraries fmt::fmt nlohmann_json::nlohmann_json Threads::Threads)
torpor_precompiled_set(library HEADERS ${standard_headers} LIBS ${standard_libraries})
if(TORPOR_TESTS)
  torpor_precompiled_set(test HEADERS ${standard_headers} <gtest/gtest.h> <gmock/gmock.h>
    LIBS ${standard_libraries} GTest::gtest GTest::gmock)
endif()

function(torpor_use_precompiled target set)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
  target_precompile_headers(${target} REUSE_FROM torpor_precompiled_${set})
endfunction()
