# torpor_library(NAME SOURCES … [PUBLIC …] [PRIVATE …]): a static library of the house, target torpor_NAME, alias
# Torpor::NAME. Headers are included by their path from the repository root ("core/base/error.h").
function(torpor_library name)
  cmake_parse_arguments(ARG "OWN_PRECOMPILED" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(torpor_${name} STATIC ${ARG_SOURCES})
  add_library(Torpor::${name} ALIAS torpor_${name})
  set_target_properties(torpor_${name} PROPERTIES EXPORT_NAME ${name}
    UNITY_BUILD ${TORPOR_UNITY} UNITY_BUILD_BATCH_SIZE 5)
  target_compile_features(torpor_${name} PUBLIC cxx_std_20)
  target_include_directories(torpor_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/torpor>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(torpor_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} $<BUILD_INTERFACE:torpor_settings>)
  if(NOT ARG_OWN_PRECOMPILED)
    torpor_use_precompiled(torpor_${name} library)
  endif()
  set_property(GLOBAL APPEND PROPERTY TORPOR_LIBRARIES torpor_${name})
endfunction()

# torpor_soname(OUT LIBRARY): the name by which programs ask for a shared library, libx.so.<major>; empty if not found.
function(torpor_soname out library)
  set(name "")
  if(library)
    file(REAL_PATH "${library}" real)
    string(REGEX MATCH "[^/]+\\.so\\.[0-9]+" name "${real}")
  endif()
  set(${out} "${name}" PARENT_SCOPE)
endfunction()

# torpor_test(NAME SOURCES … [LIBS …] [LABELS …] [TIMEOUT s]): a GoogleTest program test_NAME; each TEST is one ctest
# entry. Label "fast": part of the one-minute tier, also run under the address and undefined-behaviour sanitizers. Label
# "threads": also run under the thread sanitizer. Tests find small committed files under TORPOR_SOURCE_DIR and larger data
# through the environment variable TORPOR_DATA (tests/test_support.h).
add_custom_target(torpor_fast_tests)
add_custom_target(torpor_thread_tests)
function(torpor_test name)
  cmake_parse_arguments(ARG "OWN_PRECOMPILED" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE ${ARG_LIBS} torpor_test_support torpor_settings GTest::gtest_main)
  target_compile_options(test_${name} PRIVATE $<$<CONFIG:Release>:-O1>)  # half the time of -O3; tests are small
  if(NOT ARG_OWN_PRECOMPILED)
    torpor_use_precompiled(test_${name} test)
  endif()
  if("fast" IN_LIST ARG_LABELS)
    add_dependencies(torpor_fast_tests test_${name})
  endif()
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(torpor_thread_tests test_${name})
  endif()
  include(GoogleTest)
  gtest_discover_tests(test_${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
  # gtest_discover_tests cannot pass a list as one property; it leaves the names in test_NAME_TESTS for files that ctest
  # reads after its own.
  set(labels_file "${CMAKE_CURRENT_BINARY_DIR}/test_${name}_labels.cmake")
  file(WRITE "${labels_file}"
    "if(test_${name}_TESTS)\n  set_tests_properties(\${test_${name}_TESTS} PROPERTIES LABELS \"${ARG_LABELS}\")\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${labels_file}")
endfunction()

# torpor_fuzzer(NAME SOURCES … [LIBS …] [CORPUS folder] [DICTIONARY file] [MAX_LEN bytes]): a libFuzzer program
# fuzz_NAME (one function, LLVMFuzzerTestOneInput) and a test fuzz.NAME, label "fuzz", that runs it for
# TORPOR_FUZZ_SECONDS over a copy of the corpus, so that finds never end up in the checkout by themselves. What it finds
# is left in <build>/fuzz/findings/NAME; add the minimised input to the corpus together with the fix.
# One input may use 512 MB in all and 256 MB at once: parsers must not believe lengths that a file claims.
add_custom_target(torpor_fuzzers)
function(torpor_fuzzer name)
  cmake_parse_arguments(ARG "" "CORPUS;DICTIONARY;MAX_LEN" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_MAX_LEN)
    set(ARG_MAX_LEN 16384)
  endif()
  add_executable(fuzz_${name} ${ARG_SOURCES})
  target_include_directories(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_LIBS} torpor_settings)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(torpor_fuzzers fuzz_${name})

  set(findings "${PROJECT_BINARY_DIR}/fuzz/findings/${name}")
  set(grown "${PROJECT_BINARY_DIR}/fuzz/corpus/${name}")
  file(MAKE_DIRECTORY "${findings}" "${grown}")
  # One seed: a check of a change fails by the change, not by luck. Long runs (scripts/fuzz_report) draw another each time.
  set(arguments -seed=1 -max_total_time=${TORPOR_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=512 -malloc_limit_mb=64
      -max_len=${ARG_MAX_LEN} -print_final_stats=1 -verbosity=0 "-artifact_prefix=${findings}/")
  if(ARG_DICTIONARY)
    get_filename_component(dictionary "${ARG_DICTIONARY}" ABSOLUTE)
    list(APPEND arguments "-dict=${dictionary}")
  endif()
  list(APPEND arguments "${grown}")
  if(ARG_CORPUS)
    get_filename_component(corpus "${ARG_CORPUS}" ABSOLUTE)
    if(NOT IS_DIRECTORY "${corpus}")
      message(FATAL_ERROR "torpor_fuzzer(${name}): the corpus ${corpus} is not a folder")
    endif()
    list(APPEND arguments "${corpus}")
  endif()
  math(EXPR limit "${TORPOR_FUZZ_SECONDS} + 120")
  add_test(NAME fuzz.${name} COMMAND fuzz_${name} ${arguments})
  # The quarantine of freed blocks would fill the memory limit by itself.
  set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT ${limit}
    ENVIRONMENT "ASAN_OPTIONS=quarantine_size_mb=16:detect_leaks=1:intercept_tls_get_addr=0;UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# Files that Highway compiles once for each instruction set. The oldest machine is one with SSE4: Highway's fallback without
# SIMD lacks operations that the kernels use. Its other instruction sets need no flags here, they are compiled in beside
# it and chosen at run time.
function(torpor_simd_sources target)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_compile_definitions(${target} PRIVATE HWY_DISABLED_TARGETS=HWY_SSSE3)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "-msse4.2;-mpclmul;-maes" SKIP_PRECOMPILE_HEADERS ON)
  endif()
endfunction()
