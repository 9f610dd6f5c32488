# mmkd_documents(<program>): its man page and completions, which say what the program says of itself.
include(GNUInstallDirs)
set(MMKD_DOCUMENTS ${CMAKE_BINARY_DIR}/documents)
file(MAKE_DIRECTORY ${MMKD_DOCUMENTS})

function(mmkd_documents program)
  add_custom_command(TARGET ${program} POST_BUILD
    COMMAND $<TARGET_FILE:${program}> --man > ${MMKD_DOCUMENTS}/${program}.1
    COMMAND $<TARGET_FILE:${program}> --completion bash > ${MMKD_DOCUMENTS}/${program}.bash
    COMMAND $<TARGET_FILE:${program}> --completion zsh > ${MMKD_DOCUMENTS}/_${program}
    COMMAND $<TARGET_FILE:${program}> --completion fish > ${MMKD_DOCUMENTS}/${program}.fish VERBATIM)
  install(FILES ${MMKD_DOCUMENTS}/${program}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${MMKD_DOCUMENTS}/${program}.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          RENAME ${program})
  install(FILES ${MMKD_DOCUMENTS}/_${program} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${MMKD_DOCUMENTS}/${program}.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endfunction()
