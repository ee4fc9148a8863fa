# Where scripts/setup keeps what is too large or too foreign for the build folder: LibTorch, and the Python packages of tests.
#
#   TORPOR_CACHE_FOLDER  the folder, by the same rule as in scripts/setup
#   TORPOR_TEST_PYTHON   the interpreter that has scripts/test-requirements.txt; any python3 where they are not installed
if(NOT "$ENV{TORPOR_CACHE}" STREQUAL "")
  set(TORPOR_CACHE_FOLDER "$ENV{TORPOR_CACHE}")
elseif(NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  set(TORPOR_CACHE_FOLDER "$ENV{XDG_CACHE_HOME}/torpor")
else()
  set(TORPOR_CACHE_FOLDER "$ENV{HOME}/.cache/torpor")
endif()
set(TORPOR_TEST_PYTHON "${TORPOR_CACHE_FOLDER}/browser-venv/bin/python")
if(NOT EXISTS "${TORPOR_TEST_PYTHON}")
  set(TORPOR_TEST_PYTHON python3)
endif()
