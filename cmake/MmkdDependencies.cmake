# Every third-party library but LibTorch. Reasons: docs/dependencies.md.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(JPEG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(LIBZIP REQUIRED IMPORTED_TARGET libzip)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5)
# Debian ships the OpenCVConfig.cmake only with the full development package; three libraries are all that is needed here.
if(MMKD_OPENCV)
  set(opencv_places PATHS ${MMKD_OPENCV} NO_DEFAULT_PATH)
  find_package(PNG REQUIRED)
  # What the static libraries need in addition.
  set(MMKD_OPENCV_NEEDS ${PNG_LIBRARIES} ${JPEG_LIBRARIES} ${ZLIB_LIBRARIES} Threads::Threads ${CMAKE_DL_LIBS})
endif()
find_path(MMKD_OPENCV_INCLUDE opencv2/imgcodecs.hpp PATH_SUFFIXES opencv4 include/opencv4 ${opencv_places} REQUIRED)
foreach(part core imgcodecs imgproc)
  string(TOUPPER MMKD_OPENCV_${part} variable)
  find_library(${variable} opencv_${part} PATH_SUFFIXES lib ${opencv_places} REQUIRED)
endforeach()
if(MMKD_OPENCV)
  # Only for programs: a folder that was built beside them is none to install headers for.
  set(MMKD_OPENCV_INCLUDE_DIRECTORY $<BUILD_INTERFACE:${MMKD_OPENCV_INCLUDE}>)
else()
  set(MMKD_OPENCV_INCLUDE_DIRECTORY ${MMKD_OPENCV_INCLUDE})
endif()

add_library(mmkd_xxhash INTERFACE)
target_link_libraries(mmkd_xxhash INTERFACE PkgConfig::XXHASH)
add_library(mmkd::xxhash ALIAS mmkd_xxhash)

add_library(mmkd_hdf5 INTERFACE)
target_link_libraries(mmkd_hdf5 INTERFACE PkgConfig::HDF5)
add_library(mmkd::hdf5 ALIAS mmkd_hdf5)

add_library(mmkd_imgcodecs INTERFACE)
target_include_directories(mmkd_imgcodecs SYSTEM INTERFACE ${MMKD_OPENCV_INCLUDE_DIRECTORY})
target_link_libraries(mmkd_imgcodecs INTERFACE ${MMKD_OPENCV_IMGCODECS} ${MMKD_OPENCV_IMGPROC} ${MMKD_OPENCV_CORE}
                      ${MMKD_OPENCV_NEEDS})
add_library(mmkd::imgcodecs ALIAS mmkd_imgcodecs)

find_library(MMKD_CSV_LIBRARY csv REQUIRED)
add_library(mmkd_csv INTERFACE)
target_link_libraries(mmkd_csv INTERFACE ${MMKD_CSV_LIBRARY})
add_library(mmkd::csv ALIAS mmkd_csv)

# The allocator of the programs that train. Sanitizers bring their own.
add_library(mmkd_malloc INTERFACE)
if(NOT MMKD_SANITIZE AND NOT MMKD_SANITIZE_THREAD)
  find_library(MMKD_TCMALLOC_LIBRARY tcmalloc_minimal REQUIRED)
  # Kept though no symbol names it where a linker drops such libraries; first, so that it comes before the C library.
  target_link_libraries(mmkd_malloc INTERFACE -Wl,--push-state,--no-as-needed ${MMKD_TCMALLOC_LIBRARY} -Wl,--pop-state)
endif()
add_library(mmkd::malloc ALIAS mmkd_malloc)

# Put into mmkd, which writes it into its reports.
find_file(MMKD_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js REQUIRED)

if(MMKD_TESTS)
  find_package(GTest REQUIRED)
endif()
