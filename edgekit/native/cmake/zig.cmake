# Compiles for another machine with zig (the PyPI package ziglang), which brings the headers and libraries of each system.
#   -DEDGEKIT_ZIG=FILE           the program zig
#   -DEDGEKIT_ZIG_TARGET=TRIPLE  such as aarch64-linux-gnu.2.28 (the oldest glibc to run on), x86_64-linux-musl, aarch64-macos
# edgekit.deploy.compile passes both.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGEKIT_ZIG EDGEKIT_ZIG_TARGET)
if(NOT EDGEKIT_ZIG OR NOT EDGEKIT_ZIG_TARGET MATCHES "^(x86_64|aarch64)-(linux|macos)")
  message(FATAL_ERROR "cannot compile with zig: EDGEKIT_ZIG is '${EDGEKIT_ZIG}' and EDGEKIT_ZIG_TARGET is "
                      "'${EDGEKIT_ZIG_TARGET}'; expected a program, and a target such as aarch64-linux-gnu.2.28")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
if(CMAKE_MATCH_2 STREQUAL "macos")
  set(CMAKE_SYSTEM_NAME Darwin)
  set(CMAKE_INSTALL_NAME_TOOL true) # zig has none, and only cmake --install would use it
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()
set(CMAKE_CXX_COMPILER ${EDGEKIT_ZIG} c++)
set(CMAKE_CXX_COMPILER_TARGET ${EDGEKIT_ZIG_TARGET})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
