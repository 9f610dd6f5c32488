# Flags shared by every target, as one interface target.
add_library(mmkd_flags INTERFACE)
target_compile_options(mmkd_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
                                              # Designated initialisers leave out what has a default, on purpose.
                                              -Wno-missing-field-initializers)
if(MMKD_WERROR)
  target_compile_options(mmkd_flags INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these inside inlined standard library code, on correct programs.
  target_compile_options(mmkd_flags INTERFACE -Wno-error=maybe-uninitialized -Wno-error=restrict -Wno-error=array-bounds
                                              -Wno-error=stringop-overflow -Wno-error=stringop-overread)
endif()
if(MMKD_UNITY)
  # Sources in a group are included, and GCC takes what they keep in anonymous namespaces for a header's.
  target_compile_options(mmkd_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(MMKD_SANITIZE_THREAD)
  target_compile_options(mmkd_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(mmkd_flags INTERFACE -fsanitize=thread)
endif()
if(MMKD_SANITIZE)
  target_compile_options(mmkd_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(mmkd_flags INTERFACE -fsanitize=address,undefined)
endif()
find_program(MMKD_CCACHE ccache)
if(MMKD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness is what ccache asks for with precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${MMKD_CCACHE})
endif()
