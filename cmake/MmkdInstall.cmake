# Installs the programs and the torch-free library with its headers, as the exported target mmkd::core:
#   find_package(mmkd) ; target_link_libraries(mine PRIVATE mmkd::core)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/mmkd)

set_target_properties(mmkd_core PROPERTIES EXPORT_NAME core)
get_target_property(folders mmkd_core INTERFACE_LINK_LIBRARIES)
install(TARGETS mmkd_core ${folders} mmkd_xxhash mmkd_hdf5 mmkd_imgcodecs mmkd_csv EXPORT mmkd
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/mmkd)
foreach(target ${folders})
  string(REPLACE mmkd_ "" folder ${target})
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/mmkd/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mmkd)
endforeach()
install(EXPORT mmkd FILE mmkdTargets.cmake NAMESPACE mmkd:: DESTINATION ${package})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/mmkdConfig.cmake.in ${CMAKE_BINARY_DIR}/mmkdConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/mmkdConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/mmkdConfig.cmake ${CMAKE_BINARY_DIR}/mmkdConfigVersion.cmake DESTINATION ${package})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/config/ DESTINATION ${CMAKE_INSTALL_DATADIR}/mmkd/config)
install(PROGRAMS ${CMAKE_SOURCE_DIR}/launch/run.sh DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME mmkd-run)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/slurm/ DESTINATION ${CMAKE_INSTALL_DATADIR}/mmkd/slurm)
