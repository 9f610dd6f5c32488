# mmkd_assets(<target> HEADER <header> <name>=<file>…): puts files into a library as constants
# mmkd::assets::<name>, which <header> declares; nothing is looked for when the program runs.
function(mmkd_assets target)
  cmake_parse_arguments(A "" "HEADER" "" ${ARGN})
  set(files "")
  foreach(asset ${A_UNPARSED_ARGUMENTS})
    string(REGEX REPLACE "^[a-z_]+=" "" file ${asset})
    list(APPEND files ${file})
  endforeach()
  set(source ${CMAKE_BINARY_DIR}/${target}_assets.cpp)
  add_custom_command(OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${source} -DHEADER=${A_HEADER} "-DASSETS=${A_UNPARSED_ARGUMENTS}"
            -P ${CMAKE_SOURCE_DIR}/cmake/embed_assets.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed_assets.cmake VERBATIM)
  target_sources(${target} PRIVATE ${source})
  set_source_files_properties(${source} PROPERTIES INCLUDE_DIRECTORIES ${CMAKE_SOURCE_DIR})
endfunction()
