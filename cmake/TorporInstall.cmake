# `cmake --install`: programs, libraries, headers and the CMake package.
