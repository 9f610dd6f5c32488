# LibTorch from the installed wheel, as our own imported target: find_package(Torch) demands nvcc and overrides flags.
if(NOT MMKD_TORCH)
  file(GLOB found ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  if(found)
    list(GET found 0 MMKD_TORCH)
  endif()
endif()
if(NOT EXISTS ${MMKD_TORCH}/include/ATen/ATen.h)
  message(FATAL_ERROR "No torch headers under '${MMKD_TORCH}'. Run launch/setup.sh, or give -DMMKD_TORCH=<site-packages>/torch.")
endif()
file(STRINGS ${MMKD_TORCH}/version.py torch_version_line REGEX "^__version__")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" MMKD_TORCH_VERSION "${torch_version_line}")
if(MMKD_TORCH_VERSION VERSION_LESS 2.11.0)
  message(FATAL_ERROR "torch ${MMKD_TORCH_VERSION} in ${MMKD_TORCH}: 2.11.0 or newer is needed.")
elseif(NOT MMKD_TORCH_VERSION VERSION_EQUAL 2.11.0)
  message(WARNING "torch ${MMKD_TORCH_VERSION} in ${MMKD_TORCH}: this project is built and tested with 2.11.0.")
endif()
message(STATUS "LibTorch ${MMKD_TORCH_VERSION}: ${MMKD_TORCH}")

get_filename_component(MMKD_SITE ${MMKD_TORCH} DIRECTORY)
add_library(mmkd_torch INTERFACE)
add_library(mmkd::torch ALIAS mmkd_torch)
target_include_directories(mmkd_torch SYSTEM INTERFACE ${MMKD_TORCH}/include ${MMKD_TORCH}/include/torch/csrc/api/include)
target_compile_definitions(mmkd_torch INTERFACE USE_DISTRIBUTED)
# Programs would be compiled with -fPIE, and could then not share the precompiled header with the libraries.
# at::parallel_for lives in a header, and is a plain loop without OpenMP; torch brings the runtime library.
target_compile_options(mmkd_torch INTERFACE -fPIC -fopenmp)
target_link_libraries(mmkd_torch INTERFACE Threads::Threads
  -Wl,--no-as-needed ${MMKD_TORCH}/lib/libtorch_cpu.so ${MMKD_TORCH}/lib/libc10.so ${MMKD_TORCH}/lib/libgomp.so.1 -Wl,--as-needed)
target_link_options(mmkd_torch INTERFACE -Wl,-rpath,${MMKD_TORCH}/lib -Wl,--allow-shlib-undefined)

# The torch headers bring an fmt of their own, newer than the system's; what of it is compiled is compiled here, once.
# Inline namespaces with the version in their names keep the two apart.
add_library(mmkd_torch_fmt STATIC ${CMAKE_CURRENT_LIST_DIR}/torch_fmt.cpp)
target_include_directories(mmkd_torch_fmt SYSTEM PRIVATE ${MMKD_TORCH}/include)
target_link_libraries(mmkd_torch INTERFACE mmkd_torch_fmt)

# One precompiled header for all of mmkd_learn (parsing the torch headers takes 10 s per file otherwise).
file(WRITE ${CMAKE_BINARY_DIR}/torch_pch.cpp "// anchor of the precompiled header\n")
add_library(mmkd_torch_pch OBJECT ${CMAKE_BINARY_DIR}/torch_pch.cpp)
target_link_libraries(mmkd_torch_pch PRIVATE mmkd_torch mmkd_flags fmt::fmt)
target_precompile_headers(mmkd_torch_pch PRIVATE <torch/nn/module.h> <ATen/ATen.h> <torch/autograd.h> <string> <vector> <memory>)
