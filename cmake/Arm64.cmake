# Compiling for arm64 on a machine of another kind: Debian's cross compiler, the packages of scripts/setup_arm64 below
# TORPOR_ARM64 (a folder), programs run under qemu-user. Used by the preset "arm64".
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TORPOR_ARM64)
set(CMAKE_SYSROOT "${TORPOR_ARM64}/root")
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} "${TORPOR_ARM64}/root/usr/lib/aarch64-linux-gnu/pkgconfig:${TORPOR_ARM64}/root/usr/share/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${TORPOR_ARM64}/root")
# -cpu max: with everything that the emulator knows.
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;${TORPOR_ARM64}/root")
