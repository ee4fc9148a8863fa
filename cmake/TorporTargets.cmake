# torpor_library(NAME SOURCES … [PUBLIC …] [PRIVATE …]): a static library of the house, target torpor_NAME, alias
# Torpor::NAME. Headers are included by their path from the repository root ("core/base/error.h").
function(torpor_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(torpor_${name} STATIC ${ARG_SOURCES})
  add_library(Torpor::${name} ALIAS torpor_${name})
  set_target_properties(torpor_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(torpor_${name} PUBLIC cxx_std_20)
  target_include_directories(torpor_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/torpor>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(torpor_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} $<BUILD_INTERFACE:torpor_settings>)
  set_property(GLOBAL APPEND PROPERTY TORPOR_LIBRARIES torpor_${name})
endfunction()

# torpor_test(NAME SOURCES … [LIBS …] [LABELS …] [TIMEOUT s]): a GoogleTest program test_NAME; each TEST is one ctest
# entry. Label "fast" = part of the one-minute tier (also run under sanitizers). Tests find small committed files under
# TORPOR_SOURCE_DIR and larger data through the environment variable TORPOR_DATA (tests/test_support.h).
function(torpor_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE ${ARG_LIBS} torpor_test_support torpor_settings GTest::gtest_main)
  include(GoogleTest)
  gtest_discover_tests(test_${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()
